"""From waiting frames to requests: whenever a request slot is free, take what waits, across cameras.

Cameras wait in the order in which they became ready; a newer frame of the same camera takes the older one's
place in its slot, not a new place in the queue, so nobody starves. Waiting frames are spread over the free
request slots, because two replicas with two frames each beat one with four. Frames are scaled and encoded
only when they are about to be sent. Every frame taken gets exactly one outcome.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from framegrid_serve.wire import DetectRequest, DetectResponse, Frame, FrameResult, FrameStatus

from framegrid_ingest.analysis import Detections
from framegrid_ingest.backoff import Backoff
from framegrid_ingest.catalog import Catalog, ModelFacts
from framegrid_ingest.client import ServeClient
from framegrid_ingest.clock import Clock
from framegrid_ingest.errors import ClientError, FrameError, RetryLaterError
from framegrid_ingest.intake import SourceFrame
from framegrid_ingest.lane import Lane
from framegrid_ingest.load import Load, Taken
from framegrid_ingest.metrics import IngestMetrics
from framegrid_ingest.outcomes import DropReason
from framegrid_ingest.pictures import Jpeg, Picture, SizedJpeg, fits_as_it_is, to_jpeg
from framegrid_ingest.request_limit import RequestLimit

logger = logging.getLogger(__name__)

# Bodies beyond this gain nothing (measured), and cost memory on the way.
MAX_REQUEST_BYTES = 2 * 1024 * 1024
# A recording's frames are not given up: asked again and again, this long each, this often.
RECORDING_DEADLINE_S = 30.0
RECORDING_ATTEMPTS = 20

_OUTCOMES = {
    FrameStatus.STALE: DropReason.STALE,
    FrameStatus.CORRUPT: DropReason.CORRUPT,
    FrameStatus.FAILED: DropReason.REFUSED,
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A frame taken from its lane."""

    lane: Lane
    frame: SourceFrame


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame ready for the wire."""

    lane: Lane
    frame: SourceFrame
    jpeg: SizedJpeg


class Dispatcher:
    """For one event loop. `ready` is the way in; `drain` waits for the way out."""

    def __init__(
        self,
        client: ServeClient,
        catalog: Catalog,
        executor: Executor,
        *,
        max_requests: int,
        max_frames: int,
        deadline_s: float,
        load: Load,
        metrics: IngestMetrics,
        clock: Clock,
    ) -> None:
        self._client = client
        self._catalog = catalog
        self._executor = executor
        self._limit = RequestLimit(max_requests)
        self._max_frames = max_frames
        self._deadline_s = deadline_s
        self._load = load
        self._metrics = metrics
        self._clock = clock
        self._ready: dict[int, Lane] = {}  # by id(), in order of becoming ready
        self._tasks: set[asyncio.Task[None]] = set()
        self._backoff = Backoff(first_s=0.2, cap_s=2.0, reset_after_s=0.0)
        self._probe_at_s: float | None = None
        self._is_closed = False
        self.last_error = ""

    @property
    def is_serve_down(self) -> bool:
        """Serve failed for a whole deadline and has not answered since."""
        return self._probe_at_s is not None

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self._tasks)

    def ready(self, lane: Lane) -> None:
        """`lane` has a frame."""
        self._ready.setdefault(id(lane), lane)
        self.pump()

    def pump(self) -> None:
        """Send what can be sent now."""
        while self._ready and len(self._tasks) < self._limit.value and not self._is_closed:
            if self.is_serve_down and self._refuse_waiting():
                break
            batch = self._take_batch()
            if not batch:
                break
            task = asyncio.get_running_loop().create_task(self._send(batch))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        self._metrics.in_flight.set(len(self._tasks))
        self._metrics.in_flight_limit.set(self._limit.value)
        self._metrics.waiting.set(len(self._ready))

    async def drain(self, timeout_s: float) -> None:
        """At the end: wait until nothing waits or is under way; what is left then is settled as stale."""
        until_s = self._clock.monotonic_s() + timeout_s
        while self._tasks or self._ready:
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0 or not self._tasks:
                break
            await asyncio.wait(self._tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        for waiting in self._take_all(lambda _: True):
            waiting.lane.dropped(waiting.frame, DropReason.STALE)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a request ended unexpectedly", exc_info=task.exception())
        self.pump()

    def _refuse_waiting(self) -> bool:
        """While serve is down: drop live frames at once, but for one request now and then that asks.

        True when nothing is to be sent now."""
        if self._probe_at_s is not None and self._clock.monotonic_s() >= self._probe_at_s and not self._tasks:
            return False
        for waiting in self._take_all(lambda lane: not lane.is_recording):
            waiting.lane.dropped(waiting.frame, DropReason.REFUSED)
        return True

    def _take_all(self, wanted: Callable[[Lane], bool]) -> list[Waiting]:
        taken = []
        for lane in [lane for lane in self._ready.values() if wanted(lane)]:
            while (frame := lane.take()) is not None:
                taken.append(Waiting(lane, frame))
            del self._ready[id(lane)]
        return taken

    def _take_batch(self) -> list[Waiting]:
        """Frames for one request: one model, live ones and recordings apart, a fair share of what waits."""
        first = next((lane for lane in self._ready.values() if self._can_send(lane)), None)
        if first is None:
            return []
        model, is_recording = first.camera.model, first.is_recording
        same = [
            lane
            for lane in self._ready.values()
            if lane.camera.model == model and lane.is_recording is is_recording
        ]
        waiting = sum(max(1, lane.intake.waiting) for lane in same)
        share = -(-waiting // max(1, self._limit.value - len(self._tasks)))
        wanted = min(self._max_frames, max(1, share))
        batch: list[Waiting] = []
        while same and len(batch) < wanted:
            lane = same.pop(0)
            frame = lane.take()
            del self._ready[id(lane)]
            if frame is None:
                continue
            batch.append(Waiting(lane, frame))
            if lane.intake.waiting:  # a recording's queue: to the end of the line
                self._ready[id(lane)] = lane
                same.append(lane)
        return batch

    def _can_send(self, lane: Lane) -> bool:
        """A recording waits until its model is there; a camera's frames do not keep."""
        if not lane.is_recording or self._catalog.get(lane.camera.model) is not None:
            return True
        told, self.last_error = self.last_error, self._no_model(lane.camera.model)
        if self.last_error != told:
            logger.warning("a recording waits for its model: %s", self.last_error)
        return False

    async def _send(self, batch: list[Waiting]) -> None:
        settled: set[int] = set()
        try:
            await self._send_settling(batch, settled)
        except ClientError as error:
            self._note_failure(error)
            self._drop_rest(batch, settled, DropReason.REFUSED)
        except asyncio.TimeoutError:
            self._limit.failed()
            self._drop_rest(batch, settled, DropReason.STALE)
        except asyncio.CancelledError:
            self._drop_rest(batch, settled, DropReason.STALE)
            raise
        except Exception:
            self._drop_rest(batch, settled, DropReason.REFUSED)
            raise

    async def _send_settling(self, batch: list[Waiting], settled: set[int]) -> None:
        """Settle frames as they get their outcome, noting `id(frame)` of each; the caller does the rest."""
        lane = batch[0].lane
        facts = self._catalog.get(lane.camera.model)
        if facts is None:
            raise ClientError(self._no_model(lane.camera.model))
        encoded = await self._encode(batch, facts, settled)
        for part in _parts(encoded):
            began_s = self._clock.monotonic_s()
            oldest_s = min(one.frame.arrived_monotonic_s for one in part)
            if lane.is_recording:
                answer = await self._ask_patiently(part)
            else:
                answer = await self._ask(part, oldest_s + self._deadline_s)
            self._metrics.request_seconds.observe(self._clock.monotonic_s() - began_s)
            self._metrics.request_frames.observe(len(part))
            self._note_success()
            self._note_wait(answer.results)
            made_by = await self._model_of(answer)
            for one, result in zip(part, answer.results, strict=True):
                settled.add(id(one.frame))
                _settle(one, result, made_by)

    async def _encode(self, batch: list[Waiting], facts: ModelFacts, settled: set[int]) -> list[Encoded]:
        """JPEGs at the model's size. What cannot be used is settled as corrupt."""
        pictures = [(one.frame.picture, one.lane.camera.jpeg_quality) for one in batch]
        is_quick = all(
            isinstance(picture, Jpeg) and fits_as_it_is(picture, facts.input_size) for picture, _ in pictures
        )

        def encode() -> list[SizedJpeg | FrameError]:
            return [_encoded_or_error(picture, facts.input_size, quality) for picture, quality in pictures]

        jpegs = (
            encode() if is_quick else await asyncio.get_running_loop().run_in_executor(self._executor, encode)
        )
        encoded = []
        for one, jpeg in zip(batch, jpegs, strict=True):
            if isinstance(jpeg, FrameError):
                settled.add(id(one.frame))
                one.lane.dropped(one.frame, DropReason.CORRUPT)
            else:
                encoded.append(Encoded(one.lane, one.frame, jpeg))
        return encoded

    async def _ask(self, part: list[Encoded], deadline_s: float) -> DetectResponse:
        taken = Taken()
        model = part[0].lane.camera.model
        frames = tuple(Frame(one.lane.name, one.frame.tick.number, one.jpeg.data) for one in part)
        min_score = min(one.lane.analysis.wanted_min_score for one in part)

        def request(left_ms: int) -> DetectRequest:
            nonlocal taken
            self._load.give_back(model, taken)
            taken = self._load.take(model)
            return DetectRequest(
                frames,
                model,
                left_ms,
                min_score,
                offered_frames=taken.offered,
                dropped_frames=taken.dropped,
            )

        def counted() -> None:
            nonlocal taken
            taken = Taken()

        try:
            answer = await self._client.detect(request, deadline_s, counted)
        except BaseException:
            self._load.give_back(model, taken)
            raise
        if len(answer.results) != len(part):
            raise ClientError(f"expected {len(part)} results from serve, got {len(answer.results)}")
        return answer

    async def _ask_patiently(self, part: list[Encoded]) -> DetectResponse:
        for _ in range(RECORDING_ATTEMPTS):
            try:
                answer = await self._ask(part, self._clock.monotonic_s() + RECORDING_DEADLINE_S)
            except (RetryLaterError, asyncio.TimeoutError) as error:
                self.last_error = str(error) or "serve did not answer in time"
                continue
            return answer
        raise ClientError(
            f"expected serve to come back, got {RECORDING_ATTEMPTS} failures: {self.last_error}"
        )

    async def _model_of(self, answer: DetectResponse) -> ModelFacts:
        facts = await self._catalog.of_answer(answer.model, answer.version, answer.digest, self._deadline_s)
        if facts is None:
            raise ClientError(
                f"expected serve to know the model of its answer, {answer.model}@{answer.version}, got none"
            )
        return facts

    def _no_model(self, model: str) -> str:
        known = ", ".join(self._catalog.names)
        if known:
            return f"expected serve to have the model {model!r}, got {known}; load it or change the camera"
        return (
            f"expected serve to name its models, got nothing: {self._catalog.last_error or 'not yet asked'}"
        )

    def _note_wait(self, results: Sequence[FrameResult]) -> None:
        first = min(results, key=lambda result: result.queue_ms)
        self._limit.answered(first.queue_ms / 1e3, first.infer_ms / 1e3, in_flight=len(self._tasks))

    def _note_failure(self, error: ClientError) -> None:
        self.last_error = str(error)
        if isinstance(error, RetryLaterError) and error.is_busy:
            self._limit.failed()
        if not isinstance(error, RetryLaterError) or error.is_busy:
            return
        if not self.is_serve_down:
            logger.warning("serve is away, frames are dropped: %s", error)
        self._probe_at_s = self._clock.monotonic_s() + self._backoff.failed()
        self._metrics.serve_up.set(0)

    def _note_success(self) -> None:
        if self.is_serve_down:
            logger.info("serve is back")
        self._probe_at_s = None
        self._backoff.healthy(0.0)
        self.last_error = ""
        self._metrics.serve_up.set(1)

    @staticmethod
    def _drop_rest(batch: Iterable[Waiting], settled: set[int], reason: DropReason) -> None:
        for one in batch:
            if id(one.frame) not in settled:
                one.lane.dropped(one.frame, reason)


def _encoded_or_error(picture: Picture, input_size: int, quality: int) -> SizedJpeg | FrameError:
    try:
        return to_jpeg(picture, input_size, quality)
    except FrameError as error:
        return error


def _parts(encoded: list[Encoded]) -> Iterable[list[Encoded]]:
    """Cut so that no request is larger than MAX_REQUEST_BYTES, unless one frame is."""
    part: list[Encoded] = []
    size_bytes = 0
    for one in encoded:
        if part and size_bytes + len(one.jpeg.data) > MAX_REQUEST_BYTES:
            yield part
            part, size_bytes = [], 0
        part.append(one)
        size_bytes += len(one.jpeg.data)
    if part:
        yield part


def _settle(one: Encoded, result: FrameResult, facts: ModelFacts) -> None:
    if result.status is not FrameStatus.OK:
        one.lane.dropped(one.frame, _OUTCOMES[result.status])
        return
    classes = facts.classes
    known = (result.class_ids >= 0) & (result.class_ids < len(classes))
    if not known.all():  # serve's own bounds are wrong: nothing of this frame can be trusted
        one.lane.dropped(one.frame, DropReason.REFUSED)
        return
    names = tuple(classes[number] for number in result.class_ids.tolist())
    boxes = np.asarray(result.boxes_xyxy, np.float32)
    one.lane.processed(one.frame, Detections(boxes, result.scores, names), facts.key)
