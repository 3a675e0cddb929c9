"""The way to serve: pooled connections, retries within a deadline, and the load told along.

One layer retries, this one: connection failures, 408, 429 (Retry-After), 500 (HAProxy's word for "no
replica"), 502, 503, 504, with jittered exponential waits, as long as the frames are worth it. Connections
are closed after about a minute, because balancers choose per connection. Raises RetryLaterError when time
ran out on failures, asyncio.TimeoutError when serve did not answer in time, RefusedError when serve will
not take it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from framegrid_serve.wire import (
    CONTENT_TYPE,
    DetectRequest,
    DetectResponse,
    WireError,
    decode_response,
    encode_request,
)

from framegrid_ingest.backoff import Backoff
from framegrid_ingest.clock import Clock
from framegrid_ingest.errors import RefusedError, RetryLaterError
from framegrid_ingest.http1 import Address, Connection, HttpError, address_of
from framegrid_ingest.metrics import IngestMetrics

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
# Balancers in Kubernetes choose a pod per connection; half a minute spread so that they do not go together.
MAX_CONNECTION_AGE_S = 60.0
MAX_IDLE_S = 20.0
CONNECT_TIMEOUT_S = 2.0
MODELS_TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024
_SHOWN_BYTES = 120
_NETWORK_ERRORS = (OSError, asyncio.IncompleteReadError, HttpError)


@dataclass(slots=True)
class _Pooled:
    connection: Connection
    retire_at_s: float
    used_at_s: float


class ServeClient:
    """For one event loop. `close` when done."""

    def __init__(self, serve_url: str, metrics: IngestMetrics, clock: Clock) -> None:
        base = address_of(serve_url)
        self._detect = Address(base.scheme, base.host, base.port, "/v1/detect")
        self._models = Address(base.scheme, base.host, base.port, "/v1/models")
        self._metrics = metrics
        self._clock = clock
        self._idle: list[_Pooled] = []
        self.last_error = ""

    async def detect(
        self,
        make_request: Callable[[int], DetectRequest],
        deadline_s: float,
        on_load_counted: Callable[[], None] = lambda: None,
    ) -> DetectResponse:
        """Ask until `deadline_s` (monotonic). `make_request` gets the milliseconds left, at each attempt.

        `on_load_counted`: serve refused an attempt's frames, and noted the load that it told. Raises
        RefusedError at once; at the deadline RetryLaterError with the last failure, or TimeoutError
        when nothing was answered at all.
        """
        backoff = Backoff(first_s=0.05, cap_s=1.0)
        failure: RetryLaterError | None = None
        while True:
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                raise failure or asyncio.TimeoutError
            body = _encoded(make_request(max(1, int(left_s * 1000))))
            try:
                answer = await asyncio.wait_for(self._post(body), left_s)
            except RetryLaterError as error:
                if error.is_load_counted:
                    on_load_counted()
                wait_s = backoff.failed(at_least_s=error.retry_after_s)
                if self._clock.monotonic_s() + wait_s >= deadline_s:
                    raise
                failure = error
                await asyncio.sleep(wait_s)
                continue
            except asyncio.TimeoutError:
                self._count("timeout")
                if failure:
                    raise failure from None
                self.last_error = "no answer in time"
                raise
            self.last_error = ""
            return answer

    async def models(self) -> bytes:
        """Body of GET /v1/models. Raises RetryLaterError."""
        try:
            status, _, body = await asyncio.wait_for(
                self._exchange(self._models, "GET", None), MODELS_TIMEOUT_S
            )
        except _NETWORK_ERRORS as error:
            raise self._unreachable(error) from None
        except asyncio.TimeoutError:
            raise RetryLaterError("expected the models of serve, got no answer in time") from None
        if status != 200:
            raise RetryLaterError(f"expected the models of serve, got status {status}")
        return body

    def close(self) -> None:
        """Drop all connections."""
        for pooled in self._idle:
            pooled.connection.close()
        self._idle.clear()

    async def _post(self, body: bytes) -> DetectResponse:
        try:
            status, headers, answer = await self._exchange(self._detect, "POST", body)
        except _NETWORK_ERRORS as error:
            raise self._unreachable(error) from None
        self._count(str(status))
        if status == 200:
            try:
                return decode_response(answer)
            except WireError as error:
                raise RefusedError(f"expected detections from serve, got something else: {error}") from None
        told = _json_of(answer)
        message = f"serve answered {status}: {_message_of(told, answer)}"
        if status in RETRYABLE:
            self.last_error = message
            raise RetryLaterError(
                message,
                _retry_after_s(headers, told),
                is_busy=status == 429,
                is_load_counted=told.get("load_counted") is True,
            )
        raise RefusedError(message)

    async def _exchange(
        self, address: Address, method: str, body: bytes | None
    ) -> tuple[int, dict[str, str], bytes]:
        pooled = self._pop_idle() or await self._connect(address)
        connection = pooled.connection
        headers = () if body is None else (("Content-Type", CONTENT_TYPE),)
        try:
            await connection.send(address, method, headers, body)
            head = await connection.head()
            answer = await connection.body(MAX_ANSWER_BYTES)
        except BaseException:  # cancelled ones too: the answer would meet the next request
            connection.close()
            raise
        if connection.is_reusable:
            pooled.used_at_s = self._clock.monotonic_s()
            self._idle.append(pooled)
        else:
            connection.close()
        return head.status, head.headers, answer

    async def _connect(self, address: Address) -> _Pooled:
        try:
            connection = await asyncio.wait_for(Connection.open(address), CONNECT_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise ConnectionError("no connection in time") from None
        now_s = self._clock.monotonic_s()
        age_s = MAX_CONNECTION_AGE_S * (0.75 + 0.5 * random.random())
        return _Pooled(connection, now_s + age_s, now_s)

    def _pop_idle(self) -> _Pooled | None:
        now_s = self._clock.monotonic_s()
        while self._idle:
            pooled = self._idle.pop()
            is_fresh = now_s < pooled.retire_at_s and now_s - pooled.used_at_s < MAX_IDLE_S
            if is_fresh and pooled.connection.is_reusable:
                return pooled
            pooled.connection.close()
        return None

    def _unreachable(self, error: BaseException) -> RetryLaterError:
        refused = isinstance(error, ConnectionRefusedError)
        self._count("refused" if refused else "connection")
        what = "connection refused" if refused else f"a broken connection ({type(error).__name__})"
        where = f"{self._detect.host}:{self._detect.port}"
        self.last_error = f"expected serve at {where}, got {what}; check serve_url and that serve runs"
        return RetryLaterError(self.last_error)

    def _count(self, outcome: str) -> None:
        self._metrics.requests.labels(outcome).inc()


def _encoded(request: DetectRequest) -> bytes:
    try:
        return encode_request(request)
    except WireError as error:
        raise RefusedError(f"cannot send this to serve: {error}") from None


def _json_of(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _message_of(told: dict[str, object], body: bytes) -> str:
    text = str(told.get("error") or body[:_SHOWN_BYTES].decode("utf-8", "replace"))
    return "".join(c if c.isprintable() else " " for c in text)[:_SHOWN_BYTES]


def _retry_after_s(headers: dict[str, str], told: dict[str, object]) -> float:
    """Serve gives fractions of a second in the body; the header knows whole seconds only."""
    exact_s = told.get("retry_after_s")
    if isinstance(exact_s, int | float):
        return min(60.0, max(0.0, float(exact_s)))
    text = headers.get("retry-after", "")
    return min(60.0, float(text)) if text.isdigit() else 0.0
