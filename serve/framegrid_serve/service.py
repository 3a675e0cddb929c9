"""The HTTP side of one replica: routes, limits and answers. Knows Starlette, not Ray.

POST /v1/detect        the wire format in, the wire format out (serve/README.md)
GET  /v1/models        what is served
GET  /v1/autoscaling   how many replicas, and why (scaling_report.py)
GET  /healthz          200 when the default model serves, 503 before
anything else          the app that was mounted: people's API and page (people/app.py)

Errors are JSON `{"error": text}`: 400 malformed, 404 unknown path or model, 405 method, 408 too slow, 413 too
large, 429 overloaded (with Retry-After), 503 an engine that does not answer.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from framegrid_serve.batcher import Batcher, BatcherStats
from framegrid_serve.errors import OverloadError, UnknownModelError
from framegrid_serve.load_meter import LoadMeter
from framegrid_serve.mounting import HandedOver
from framegrid_serve.registry import ModelRegistry
from framegrid_serve.served import Model
from framegrid_serve.shadow import Shadow
from framegrid_serve.wire import (
    CONTENT_TYPE,
    MAX_BODY_BYTES,
    DetectRequest,
    DetectResponse,
    FrameResult,
    FrameStatus,
    WireError,
    decode_request,
    encode_response,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

T = TypeVar("T")

# After a frame's own budget: an engine that is still silent is stuck, and the client should go elsewhere.
_STUCK_AFTER_S = 30.0
# For sending a body of at most 8 MiB: whoever trickles holds one of the places for requests.
_BODY_TIMEOUT_S = 30.0
_REPORT_TIMEOUT_S = 5.0
# Samples kept for the next metrics flush (one a second): above any rate one replica reaches.
_MAX_SAMPLES = 20_000


@dataclass(frozen=True, slots=True)
class FrameSample:
    """What the metrics need of one frame."""

    model: str
    status: FrameStatus
    queue_s: float
    infer_s: float


@dataclass(slots=True)
class Totals:
    """Counts since the start that the batcher does not have."""

    requests: dict[int, int]  # by HTTP status
    offered_frames: int = 0
    sender_dropped_frames: int = 0


class DetectService:
    """See the module. One per replica; `handle` runs on one event loop."""

    def __init__(self, registry: ModelRegistry, batcher: Batcher) -> None:
        self.registry = registry
        self.batcher = batcher
        self.shadow = Shadow(batcher)
        self.meter = LoadMeter(batcher)
        self.totals = Totals(requests={})
        self._samples: deque[FrameSample] = deque(maxlen=_MAX_SAMPLES)
        self._mounted: ASGIApp | None = None
        self.read_reports: Callable[[], list[dict[str, Any]]] = list  # without Ray there are none

    def mount(self, app: ASGIApp) -> None:
        """Hand every request for other paths than ours to this ASGI app."""
        self._mounted = app

    async def handle(self, request: Request) -> Response:
        """Answer one request. Never raises for what a client sends."""
        response = await self._route(request)
        if not isinstance(response, HandedOver):  # that one tells when it is sent
            self._count(response.status_code)
        return response

    def _count(self, status: int) -> None:
        self.totals.requests[status] = self.totals.requests.get(status, 0) + 1

    def stats(self) -> BatcherStats:
        """The batcher's figures; for health and scaling."""
        return self.batcher.stats()

    def take_samples(self) -> list[FrameSample]:
        """The samples since the last call."""
        taken = []
        while self._samples:
            taken.append(self._samples.popleft())
        return taken

    async def _route(self, request: Request) -> Response:
        path = request.url.path
        if path == "/v1/detect":
            return await self._detect(request) if request.method == "POST" else _wrong_method("POST")
        if path == "/v1/autoscaling":
            return await self._autoscaling() if request.method in ("GET", "HEAD") else _wrong_method("GET")
        routes: dict[str, Callable[[], Response]] = {"/v1/models": self._models, "/healthz": self._healthz}
        answer = routes.get(path)
        if answer is None:
            if self._mounted is not None:
                return HandedOver(self._mounted, self._count)
            return _error(
                404, "no such path; there are POST /v1/detect, GET /v1/models, /v1/autoscaling and /healthz"
            )
        return answer() if request.method in ("GET", "HEAD") else _wrong_method("GET")

    async def _autoscaling(self) -> Response:
        try:
            reports = await asyncio.wait_for(asyncio.to_thread(self.read_reports), _REPORT_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError) as error:
            return _error(503, str(error) or "Ray's head does not answer; frames are served all the same")
        return JSONResponse({"deployments": reports})

    def _models(self) -> Response:
        return JSONResponse(self.registry.describe())

    def _healthz(self) -> Response:
        if self.registry.ready():
            return JSONResponse({"status": "ok"})
        return _error(503, "the default model has not loaded; see GET /v1/models")

    async def _detect(self, request: Request) -> Response:
        try:
            wanted = decode_request(await _in_time(_bounded_body(request)))
            model = self.registry.get(wanted.model)
            # A client that goes away cancels this, keeps its figures and tells them again.
            results = await self.run(model, wanted)
            self._count_load(model, wanted)
            response = DetectResponse(model.name, model.version, model.digest, tuple(results))
            return Response(encode_response(response), media_type=CONTENT_TYPE)
        except _BodyError as error:
            return _error(error.status, str(error))
        except WireError as error:
            return _error(400, str(error))
        except UnknownModelError as error:
            return _error(404, str(error))
        except OverloadError as error:
            self._count_load(model, wanted)
            # RFC 9110 wants whole seconds; the exact figure is in the body.
            headers = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
            body_json = {
                "error": str(error),
                "retry_after_s": round(error.retry_after_s, 3),
                "load_counted": True,  # the sender need not tell it again
            }
            return JSONResponse(body_json, 429, headers)
        except asyncio.TimeoutError:  # the built-in one only since Python 3.11
            return _error(503, "the engine does not answer; retry on another replica")

    def _count_load(self, model: Model, wanted: DetectRequest) -> None:
        """What the sender says it offered and lost: once for each answer that says so (200, this 429)."""
        self.totals.offered_frames += wanted.offered_frames
        self.totals.sender_dropped_frames += wanted.dropped_frames
        if wanted.dropped_frames:
            self.meter.dropped(model.name, model.detector, wanted.dropped_frames)

    async def run(
        self, model: Model, wanted: DetectRequest, *, beyond_capacity: int = 0
    ) -> list[FrameResult]:
        """Detect, and count it. Raises OverloadError; asyncio.TimeoutError when the engine is silent."""
        timeout_s = wanted.timeout_ms / 1e3
        future = self.batcher.submit(
            model.detector,
            [frame.jpeg for frame in wanted.frames],
            min_score=wanted.min_score,
            timeout_s=timeout_s,
            priority=wanted.priority,
            cameras=[frame.camera for frame in wanted.frames],
            beyond_capacity=beyond_capacity,
        )
        # A client that goes away cancels this, and with it what still waits in the queue.
        results = await asyncio.wait_for(asyncio.wrap_future(future), timeout_s + _STUCK_AFTER_S)
        if wanted.priority >= 0:
            done = sum(result.status is not FrameStatus.STALE for result in results)
            self.meter.answered(model.name, model.detector, done)
        self._samples.extend(
            FrameSample(model.name, result.status, result.queue_ms / 1e3, result.infer_ms / 1e3)
            for result in results
        )
        self.registry.saw(model, results)
        if (shadowing := self.registry.shadow_of(model)) is not None:
            jpegs = [frame.jpeg for frame in wanted.frames]
            self.shadow.offer(model, shadowing, jpegs, results, wanted.min_score)
        return results


class _BodyError(Exception):
    """The body cannot be had: too large, too slow, or it broke off."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def _in_time(reading: Awaitable[T]) -> T:
    """What `reading` gives, or _BodyError. (`asyncio.wait_for` would make a task of it.)"""
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(_BODY_TIMEOUT_S, expire)
    try:
        return await reading
    except asyncio.CancelledError:
        if not expired:
            raise
        raise _BodyError(
            408, f"expected the whole body within {_BODY_TIMEOUT_S:.0f} s, got a part of it"
        ) from None
    except ClientDisconnect:
        raise _BodyError(400, "the body ended before it was whole") from None
    finally:
        timer.cancel()


async def _bounded_body(request: Request) -> bytes:
    """The body; never holds more than the format allows. Raises _BodyError, ClientDisconnect."""
    too_large = f"expected a body of at most {MAX_BODY_BYTES} bytes, got more; send fewer frames"
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > MAX_BODY_BYTES:
        raise _BodyError(413, too_large)
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes > MAX_BODY_BYTES:
            raise _BodyError(413, too_large)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)


def _wrong_method(allowed: str) -> Response:
    return JSONResponse({"error": f"expected method {allowed}"}, 405, {"Allow": allowed})
