"""The queue between requests and engines.

One worker thread per engine stream. Whenever a worker is free it takes everything waiting for one model,
up to that model's batch, so batches grow with load and a lone frame never waits for company. (Ray's own
`@serve.batch` forms batches by a timer while the engine is busy.) A frame whose time is spent is answered
STALE without being decoded. The queue is bounded: a request that does not fit is refused whole, at once,
with the time after which it is worth trying again.

No Ray, no asyncio: `submit` returns a `concurrent.futures.Future`. Cancelling it drops what still waits.
"""

from __future__ import annotations

import heapq
import itertools
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
        self._queue: list[tuple[int, int, _Job]] = []  # heap: highest priority, then oldest
        self._order = itertools.count()
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
            waiting = [job for _, _, job in self._queue]
            self._queue.clear()
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
        beyond_capacity: int = 0,
    ) -> Future[list[FrameResult]]:
        """Queue the frames of one request. Raises OverloadError, taking none, when they do not fit.

        `beyond_capacity` more may wait for this request: for senders that bound themselves.
        """
        now_s = self._clock()
        ticket = _Ticket(Future(), [None] * len(jpegs), len(jpegs))
        with self._ready:
            room_frames = self._capacity_frames + beyond_capacity - len(self._queue)
            if self._stopping or len(jpegs) > room_frames:
                self._refused_frames += len(jpegs)
                raise OverloadError(
                    f"expected at most {self._capacity_frames} waiting frames, got {len(self._queue)} and "
                    f"{len(jpegs)} more; retry later or add replicas",
                    retry_after_s=self._wait_s(),
                )
            for index, jpeg in enumerate(jpegs):
                job = _Job(detector, jpeg, min_score, now_s, now_s + timeout_s, priority, ticket, index)
                heapq.heappush(self._queue, (-priority, next(self._order), job))
            self._ready.notify(len(jpegs))
        return ticket.future

    def stats(self) -> BatcherStats:
        """A snapshot; cheap."""
        now_s = self._clock()
        with self._ready:
            return BatcherStats(
                busy_s=self._busy_s + sum(now_s - start_s for start_s, _ in self._running.values()),
                frames=dict(self._frames),
                batches=self._batches,
                queued_frames=len(self._queue),
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

    def _wait_s(self) -> float:
        """Time until the queue as it is will be empty."""
        return len(self._queue) * self._service_s / self.streams

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
            while not self._queue and not self._stopping:
                self._ready.wait()
            if self._stopping:
                return None
            batch: list[_Job] = []
            stale: list[_Job] = []
            passed: list[tuple[int, int, _Job]] = []
            now_s = self._clock()
            while self._queue and (not batch or len(batch) < batch[0].detector.max_batch):
                entry = heapq.heappop(self._queue)
                job = entry[2]
                if job.ticket.future.cancelled():
                    continue
                if now_s >= job.deadline_s:
                    stale.append(job)
                elif batch and job.detector is not batch[0].detector:
                    passed.append(entry)
                else:
                    batch.append(job)
            for entry in passed:
                heapq.heappush(self._queue, entry)
            if batch:
                live = sum(job.priority >= 0 for job in batch) / len(batch)
                self._running[worker] = (now_s, live)
        return batch, stale

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
