"""The HTTP side without sockets: Starlette's own request objects, a fake detector."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from framegrid_serve import service as service_module
from framegrid_serve.batcher import Batcher
from framegrid_serve.bundle import Bundle
from framegrid_serve.errors import ModelError
from framegrid_serve.registry import ModelRegistry, ModelSpec, ServingConfig
from framegrid_serve.service import DetectService
from framegrid_serve.wire import (
    MAX_BODY_BYTES,
    Buffer,
    DetectRequest,
    Frame,
    FrameResult,
    FrameStatus,
    decode_response,
    encode_request,
)
from starlette.requests import Request
from starlette.responses import Response

MakeBundle = Callable[..., Bundle]
OUTPUT = np.zeros((1, 6, 3), np.float32)


class FakeDetector:
    """Answers at once, or when `gate` is set."""

    max_batch = streams = 1

    def __init__(self, bundle: Bundle, gate: threading.Event | None = None) -> None:
        self.bundle = bundle
        self.engine = SimpleNamespace(name="fake", precision="fp32")
        self.gate = gate

    def detect(self, jpegs: Sequence[Buffer], min_scores: Sequence[float]) -> list[FrameResult]:
        if self.gate is not None:
            assert self.gate.wait(10)
        return [FrameResult.without_boxes(FrameStatus.OK, infer_ms=1.0) for _ in jpegs]


class Stage:
    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.gate: threading.Event | None = None
        self.registry = ModelRegistry(lambda loaded: FakeDetector(loaded, self.gate))  # type: ignore[arg-type,return-value]
        self.batcher = Batcher(streams=1, capacity_frames=2)
        self.service = DetectService(self.registry, self.batcher)

    def load(self) -> None:
        spec = ModelSpec(name="tiny", path=self.bundle.path)
        assert self.registry.apply(ServingConfig(models=(spec,))) == []

    def call(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Response:
        return asyncio.run(self.service.handle(request(method, path, [body], headers)))


def request(method: str, path: str, chunks: list[bytes], headers: dict[str, str] | None = None) -> Request:
    async def messages() -> AsyncIterator[dict[str, Any]]:
        for index, chunk in enumerate(chunks):
            yield {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}

    sent = messages()
    raw = [(key.lower().encode(), value.encode()) for key, value in (headers or {}).items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": raw,
        "query_string": b"",
        "scheme": "http",
    }
    scope["server"] = ("test", 80)
    return Request(scope, lambda: anext(sent))


def body(frames: int = 1, **fields: Any) -> bytes:
    return encode_request(DetectRequest(tuple(Frame("gate", n, b"jpeg") for n in range(frames)), **fields))


def error_of(response: Response) -> str:
    return str(json.loads(bytes(response.body))["error"])


@pytest.fixture
def stage(make_bundle: MakeBundle) -> Iterator[Stage]:
    stage = Stage(make_bundle(OUTPUT))
    stage.batcher.start()
    stage.load()
    yield stage
    stage.batcher.stop()


def test_frames_are_answered_by_the_default_model_with_its_digest(stage: Stage) -> None:
    response = stage.call("POST", "/v1/detect", body(2, offered_frames=10, dropped_frames=3))
    assert response.status_code == 200
    decoded = decode_response(bytes(response.body))
    assert (decoded.model, decoded.version, decoded.digest) == ("tiny", "1", stage.bundle.digest)
    assert [result.status for result in decoded.results] == [FrameStatus.OK] * 2
    assert (stage.service.totals.offered_frames, stage.service.totals.sender_dropped_frames) == (10, 3)
    assert [sample.model for sample in stage.service.take_samples()] == ["tiny", "tiny"]
    assert stage.service.take_samples() == []


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (("POST", "/v1/detect", b""), 400, "expected 28 bytes of request head"),
        (("POST", "/v1/detect", b"JUNK" + bytes(60)), 400, "expected the body to start with b'FGRQ'"),
        (("POST", "/v1/detect", body(model="nope")), 404, "expected a model of tiny, got 'nope'"),
        (("POST", "/v1/detect", bytes(MAX_BODY_BYTES + 1)), 413, "at most 8388608 bytes"),
        (("GET", "/v1/detect", b""), 405, "expected method POST"),
        (("POST", "/v1/models", b""), 405, "expected method GET"),
        (("GET", "/", b""), 404, "no such path"),
    ],
    ids=["empty", "junk", "model", "large", "get-detect", "post-models", "path"],
)
def test_wrong_requests_get_their_status_and_a_reason(
    stage: Stage, call: tuple[str, str, bytes], status: int, text: str
) -> None:
    response = stage.call(*call)
    assert response.status_code == status
    assert text in error_of(response)
    assert stage.service.totals.requests == {status: 1}


def test_a_stated_size_over_the_bound_is_refused_without_reading(stage: Stage) -> None:
    response = stage.call("POST", "/v1/detect", b"", {"Content-Length": str(MAX_BODY_BYTES + 1)})
    assert response.status_code == 413


def test_a_body_that_grows_past_the_bound_is_cut_off(stage: Stage) -> None:
    chunks = [bytes(1 << 20)] * 100
    response = asyncio.run(stage.service.handle(request("POST", "/v1/detect", chunks)))
    assert response.status_code == 413


def test_a_body_that_trickles_or_breaks_off_is_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_BODY_TIMEOUT_S", 0.05)

    async def ask(last: dict[str, Any]) -> Response:
        asked = request("POST", "/v1/detect", [])
        messages = iter([{"type": "http.request", "body": b"FGRQ", "more_body": True}] * 3 + [last])

        async def receive() -> dict[str, Any]:
            message = next(messages)
            await asyncio.sleep(0.0 if last["type"] == "http.disconnect" else 0.03)
            return message

        response = await stage.service.handle(Request(asked.scope, receive))
        await asyncio.sleep(0)  # the task that was called off goes on as if nothing had happened
        return response

    slow = asyncio.run(ask({"type": "http.request", "body": b""}))
    assert (slow.status_code, "got a part of it" in error_of(slow)) == (408, True)
    gone = asyncio.run(ask({"type": "http.disconnect"}))
    assert (gone.status_code, error_of(gone)) == (400, "the body ended before it was whole")


def test_overload_says_when_to_come_back(stage: Stage) -> None:
    response = stage.call("POST", "/v1/detect", body(3, offered_frames=9, dropped_frames=8))
    assert response.status_code == 429
    assert json.loads(bytes(response.body))["load_counted"] is True
    assert (stage.service.totals.offered_frames, stage.service.totals.sender_dropped_frames) == (9, 8)
    assert int(response.headers["retry-after"]) >= 1
    assert "at most 2 waiting frames" in error_of(response)


def test_the_load_of_a_request_that_broke_off_is_not_counted(stage: Stage) -> None:
    """Its sender tells it again."""
    whole = body(1, offered_frames=9, dropped_frames=8)

    async def leave() -> None:
        service = stage.service
        service.batcher = Batcher(streams=1, capacity_frames=2)  # never started: nothing is answered
        asking = asyncio.create_task(service.handle(request("POST", "/v1/detect", [whole])))
        while not service.batcher.stats().queued_frames:  # noqa: ASYNC110 - a thread's count
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(leave())
    assert stage.service.totals.offered_frames == 0
    assert stage.call("POST", "/v1/detect", whole[:-1]).status_code == 400
    assert stage.service.meter.stats().dropped_fps == 0


def test_frames_of_low_priority_are_no_load(stage: Stage) -> None:
    """Videos take what cameras leave over; no replica is started for them."""
    assert stage.call("POST", "/v1/detect", body(2, priority=-1)).status_code == 200
    assert stage.service.meter.stats().offered_fps == 0
    assert stage.batcher.live_busy_s() == 0 < stage.batcher.stats().busy_s
    assert stage.call("POST", "/v1/detect", body(2)).status_code == 200
    assert stage.service.meter.stats().offered_fps > 0
    assert 0 < stage.batcher.live_busy_s() < stage.batcher.stats().busy_s


def test_health_follows_the_default_model(make_bundle: MakeBundle) -> None:
    stage = Stage(make_bundle(OUTPUT))
    assert stage.call("GET", "/healthz").status_code == 503
    stage.load()
    assert stage.call("GET", "/healthz").status_code == 200


def test_models_are_told_with_what_a_client_needs(stage: Stage) -> None:
    told = json.loads(bytes(stage.call("GET", "/v1/models").body))
    assert told == {
        "default": "tiny",
        "models": [
            {
                "name": "tiny",
                "version": "1",
                "digest": stage.bundle.digest,
                "classes": ["person", "car"],
                "input_size": 64,
                "engine": "fake",
                "precision": "fp32",
                "licence": "Apache-2.0",
                "state": "ready",
            }
        ],
    }


def test_a_model_that_does_not_load_leaves_the_old_one_serving(stage: Stage) -> None:
    broken = ServingConfig(models=(ModelSpec(name="tiny", path=Path("/nowhere")),))
    (problem,) = stage.registry.apply(broken)
    assert problem.startswith("tiny: /nowhere: no such folder")
    assert stage.call("POST", "/v1/detect", body()).status_code == 200
    (told,) = stage.registry.describe()["models"]
    assert (told["state"], told["version"]) == ("ready", "1")
    assert "no such folder" in told["problem"]
    assert stage.registry.swap_failures == 1


def test_a_new_model_that_does_not_load_is_listed_as_failed(stage: Stage) -> None:
    specs = (ModelSpec(name="tiny", path=stage.bundle.path), ModelSpec(name="other", path=Path("/nowhere")))
    stage.registry.apply(ServingConfig(models=specs))
    states = {model["name"]: model["state"] for model in stage.registry.describe()["models"]}
    assert states == {"tiny": "ready", "other": "failed"}
    response = stage.call("POST", "/v1/detect", body(model="other"))
    assert response.status_code == 404
    assert "model 'other' did not load: /nowhere: no such folder" in error_of(response)


def test_an_unchanged_model_is_not_loaded_again(stage: Stage) -> None:
    before = stage.registry.get("tiny").detector
    stage.registry.apply(ServingConfig(models=(ModelSpec(name="tiny", path=stage.bundle.path),)))
    same = ModelSpec(name="tiny", path=stage.bundle.path, digest=stage.bundle.digest)
    stage.registry.apply(ServingConfig(models=(same,)))
    assert stage.registry.get("tiny").detector is before
    assert stage.registry.swaps == 1


def test_an_engine_that_raises_anything_leaves_the_old_model(stage: Stage, make_bundle: MakeBundle) -> None:
    other = make_bundle(OUTPUT, name="other")

    def explode(bundle: Bundle) -> Any:
        raise MemoryError("no room")

    stage.registry._open_detector = explode
    assert stage.registry.apply(ServingConfig(models=(ModelSpec(name="tiny", path=other.path),))) == [
        "tiny: MemoryError: no room"
    ]
    assert stage.registry.get("").version == "1"


def test_a_digest_other_than_the_expected_one_is_refused(stage: Stage) -> None:
    spec = ModelSpec(name="tiny", path=stage.bundle.path, digest="0" * 64)
    (problem,) = stage.registry.apply(ServingConfig(models=(spec,)))
    assert f"expected digest {'0' * 64}, got {stage.bundle.digest}" in problem


def test_a_request_in_flight_ends_on_the_model_it_started_on(make_bundle: MakeBundle) -> None:
    stage = Stage(make_bundle(OUTPUT))
    stage.gate = threading.Event()
    stage.batcher.start()
    stage.load()
    other = make_bundle(OUTPUT, name="other", version="2")

    async def swap_meanwhile() -> tuple[str, str]:
        first = asyncio.create_task(stage.service.handle(request("POST", "/v1/detect", [body()])))
        await asyncio.sleep(0.05)
        gate, stage.gate = stage.gate, None
        stage.registry.apply(ServingConfig(models=(ModelSpec(name="tiny", path=other.path),)))
        second = asyncio.create_task(stage.service.handle(request("POST", "/v1/detect", [body()])))
        await asyncio.sleep(0.05)
        assert gate is not None
        gate.set()
        answers = [decode_response(bytes((await task).body)) for task in (first, second)]
        return answers[0].version, answers[1].version

    assert asyncio.run(swap_meanwhile()) == ("1", "2")
    stage.batcher.stop()


def test_wrong_serving_configs_are_refused() -> None:
    spec = ModelSpec(name="a", path=Path("x"))
    with pytest.raises(ValueError, match="expected each name once, got a twice"):
        ServingConfig(models=(spec, spec))
    with pytest.raises(ValueError, match="expected one of a, got 'b'"):
        ServingConfig(models=(spec,), default_model="b")


def test_problems_that_are_no_model_errors_keep_their_type() -> None:
    assert issubclass(ModelError, Exception)
