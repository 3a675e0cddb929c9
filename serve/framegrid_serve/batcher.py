"""The queue between requests and engines.

One worker thread per engine stream. Whenever a worker is free it takes everything waiting for one model,
up to that model's batch, so batches grow with load and a lone frame never waits for company. (Ray's own
`@serve.batch` forms batches by a timer while the engine is busy.) Whose turn it is: `waiting`. A frame that
cannot be done in its time is answered STALE without being decoded. The queue is bounded: a request that does
not fit, or whose turn would come too late, is refused whole, at once, with the time after which it is worth
trying again.

No Ray, no asyncio: `submit` returns a `concurrent.futures.Future`. Cancelling it drops what still waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakKeyDictionary

from framegrid_serve.errors import OverloadError
from framegrid_serve.service_time import ServiceTime
from framegrid_serve.waiting import WaitingFrames
from framegrid_serve.wire import Buffer, FrameResult, FrameStatus

logger = logging.getLogger(__name__)

# Weight of the newest frame in the running mean of the time a frame takes.
_SERVICE_WEIGHT = 0.05
_FIRST_GUESS_SERVICE_S = 0.02


class Detects(Protocol):
    """What the batcher needs of a detector."""

    @property
    def max_batch(self) -> int:
        """Pictures that one call takes at most."""
        ...

    def detect(self, jpegs: Sequence[Buffer], min_scores: Sequence[float]) -> list[FrameResult]:
        """One result for each JPEG, in order."""
        ...


@dataclass(frozen=True, slots=True)
class BatcherStats:
    """Totals since the start, and the queue now."""

    busy_s: float  # summed over the workers
    frames: dict[FrameStatus, int]
    batches: int
    queued_frames: int
    capacity_frames: int
    refused_frames: int
    service_s: float  # running mean of the time one frame takes one worker
    oldest_batch_s: float  # age of the longest-running batch; 0 when idle


@dataclass(slots=True)
class _Ticket:
    """One request: done when all its frames have a result."""

    future: Future[list[FrameResult]]
    results: list[FrameResult | None]
    left: int


@dataclass(slots=True)
class _Job:
    """One frame of a request."""

    camera: str
    detector: Detects
    jpeg: Buffer
    min_score: float
    arrived_s: float
    deadline_s: float
    priority: int
    ticket: _Ticket
    index: int


class Batcher:
    """See the module. Start it with `start()`, end it with `stop()`."""

    def __init__(
        self, *, streams: int, capacity_frames: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.streams = streams
        self._capacity_frames = capacity_frames
        self._clock = clock
        self._ready = threading.Condition()
        self._waiting: WaitingFrames[_Job] = WaitingFrames()
        self._stopping = False
        self._workers: list[threading.Thread] = []
        # worker -> start of its batch, and the share of it that is live work
        self._running: dict[int, tuple[float, float]] = {}
        self._busy_s = 0.0
        self._live_busy_s = 0.0
        self._service_times: WeakKeyDictionary[Detects, ServiceTime] = WeakKeyDictionary()
        self._batches = 0
        self._refused_frames = 0
        self._frames = dict.fromkeys(FrameStatus, 0)
        self._service_s = _FIRST_GUESS_SERVICE_S

    def start(self) -> None:
        """Start the workers."""
        for index in range(self.streams):
            worker = threading.Thread(target=self._work, args=(index,), name=f"engine-{index}", daemon=True)
            worker.start()
            self._workers.append(worker)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Answer what waits as STALE, let running batches end, and stop the workers."""
        with self._ready:
            self._stopping = True
            waiting = self._waiting.clear()
            self._ready.notify_all()
        self._drop(waiting)
        deadline_s = time.monotonic() + timeout_s
        for worker in self._workers:
            worker.join(max(0.0, deadline_s - time.monotonic()))

    def submit(
        self,
        detector: Detects,
        jpegs: Sequence[Buffer],
        *,
        min_score: float,
        timeout_s: float,
        priority: int = 0,
        cameras: Sequence[str] = (),
        beyond_capacity: int = 0,
    ) -> Future[list[FrameResult]]:
        """Queue the frames of one request. Raises OverloadError, taking none, when they do not fit.

        `cameras` take turns, one name for each frame; without names all are one camera's. `beyond_capacity`
        more may wait for this request: for senders that bound themselves.
        """
        now_s = self._clock()
        names = cameras or [""] * len(jpegs)
        ticket = _Ticket(Future(), [None] * len(jpegs), len(jpegs))
        with self._ready:
            self._check_turn(names, priority, timeout_s)
            left = self._make_room(names, priority, beyond_capacity)
            for index, (name, jpeg) in enumerate(zip(names, jpegs, strict=True)):
                deadline_s = now_s + timeout_s
                self._waiting.add(
                    _Job(name, detector, jpeg, min_score, now_s, deadline_s, priority, ticket, index)
                )
            self._ready.notify(len(jpegs))
        self._drop(left)
        return ticket.future

    def stats(self) -> BatcherStats:
        """A snapshot; cheap."""
        now_s = self._clock()
        with self._ready:
            return BatcherStats(
                busy_s=self._busy_s + sum(now_s - start_s for start_s, _ in self._running.values()),
                frames=dict(self._frames),
                batches=self._batches,
                queued_frames=len(self._waiting),
                capacity_frames=self._capacity_frames,
                refused_frames=self._refused_frames,
                service_s=self._service_s,
                oldest_batch_s=max((now_s - start_s for start_s, _ in self._running.values()), default=0.0),
            )

    def live_busy_s(self) -> float:
        """Of `busy_s`, what was spent on frames of priority 0 and more."""
        now_s = self._clock()
        with self._ready:
            return self._live_busy_s + sum(
                (now_s - start_s) * live for start_s, live in self._running.values()
            )

    def frame_s(self, detector: Detects) -> float | None:
        """Time that one frame takes this detector on one stream, in full batches; None before the first."""
        with self._ready:
            known = self._service_times.get(detector)
            return known.frame_s(detector.max_batch) if known is not None else None

    def _make_room(self, cameras: Sequence[str], priority: int, beyond_capacity: int) -> list[_Job]:
        """Frames that leave for these; raises OverloadError when they may not come."""
        over = len(self._waiting) + len(cameras) - self._capacity_frames - beyond_capacity
        if over <= 0 and not self._stopping:
            return []
        left = [] if self._stopping else self._waiting.make_room(cameras, priority, over)
        if left:
            return left
        self._refused_frames += len(cameras)
        raise OverloadError(
            f"expected at most {self._capacity_frames} waiting frames, got {len(self._waiting)} and "
            f"{len(cameras)} more; retry later or add replicas",
            retry_after_s=len(self._waiting) * self._service_s / self.streams,
        )

    def _check_turn(self, cameras: Sequence[str], priority: int, timeout_s: float) -> None:
        """Raise OverloadError when none of these would be done in time: better told now than then."""
        if len(self._waiting) * self._service_s / self.streams <= timeout_s:
            return
        ahead = min(self._waiting.ahead_of(camera, priority) for camera in set(cameras))
        wait_s = ahead * self._service_s / self.streams
        if wait_s > timeout_s:
            self._refused_frames += len(cameras)
            raise OverloadError(
                f"expected an engine within {timeout_s:.3g} s, got {ahead} frames before, which take "
                f"about {wait_s:.3g} s; retry later or add replicas",
                retry_after_s=wait_s - timeout_s,
            )

    def _work(self, worker: int) -> None:
        while (taken := self._take(worker)) is not None:
            batch, stale = taken
            if stale:
                self._drop(stale)
            if batch:
                self._run(worker, batch)

    def _take(self, worker: int) -> tuple[list[_Job], list[_Job]] | None:
        """Wait for work: frames of one model to run now, and those whose time is spent. None: stop."""
        with self._ready:
            while not self._waiting and not self._stopping:
                self._ready.wait()
            if self._stopping:
                return None
            stale: list[_Job] = []
            now_s = self._clock()

            def usable(job: _Job) -> bool:
                if job.ticket.future.cancelled():
                    return False
                if now_s + self._expected_s(job) < job.deadline_s:
                    return True
                stale.append(job)
                return False

            batch = self._waiting.take(usable)
            if batch:
                live = sum(job.priority >= 0 for job in batch) / len(batch)
                self._running[worker] = (now_s, live)
        return batch, stale

    def _expected_s(self, job: _Job) -> float:
        """The engine's time for a frame. At most half of what the frame was given: figures may be wrong."""
        known = self._service_times.get(job.detector)
        expected_s = known.batch_s(1) if known is not None else 0.0
        return min(expected_s, (job.deadline_s - job.arrived_s) / 2)

    def _run(self, worker: int, batch: list[_Job]) -> None:
        started_s, live = self._running[worker]
        try:
            results = batch[0].detector.detect([job.jpeg for job in batch], [job.min_score for job in batch])
        except Exception:  # a detector answers for its own errors; a worker must outlive any
            logger.exception("detector failed", extra={"frames": len(batch)})
            results = [FrameResult.without_boxes(FrameStatus.FAILED)] * len(batch)
        elapsed_s = self._clock() - started_s
        with self._ready:
            del self._running[worker]
            self._busy_s += elapsed_s
            self._live_busy_s += elapsed_s * live
            self._service_times.setdefault(batch[0].detector, ServiceTime()).add(len(batch), elapsed_s)
            self._batches += 1
            self._service_s += _SERVICE_WEIGHT * (elapsed_s / len(batch) - self._service_s)
        self._answer(
            (job, replace(result, queue_ms=(started_s - job.arrived_s) * 1e3))
            for job, result in zip(batch, results, strict=True)
        )

    def _drop(self, jobs: Sequence[_Job]) -> None:
        now_s = self._clock()
        self._answer(
            (job, FrameResult.without_boxes(FrameStatus.STALE, (now_s - job.arrived_s) * 1e3)) for job in jobs
        )

    def _answer(self, answers: Iterable[tuple[_Job, FrameResult]]) -> None:
        done: list[_Ticket] = []
        with self._ready:
            for job, result in answers:
                self._frames[result.status] += 1
                job.ticket.results[job.index] = result
                job.ticket.left -= 1
                if job.ticket.left == 0:
                    done.append(job.ticket)
        for ticket in done:
            try:
                ticket.future.set_result([result for result in ticket.results if result is not None])
            except InvalidStateError:
                continue  # the client went away meanwhile
