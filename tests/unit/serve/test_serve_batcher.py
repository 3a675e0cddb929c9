"""The batcher with a fake detector that the test holds and releases."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from framegrid_serve.batcher import Batcher
from framegrid_serve.errors import OverloadError
from framegrid_serve.wire import Buffer, FrameResult, FrameStatus

WAIT_S = 10.0


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class HeldDetector:
    """Runs a batch only when `release` is called; remembers what it was given."""

    def __init__(self, max_batch: int = 8) -> None:
        self.max_batch = max_batch
        self.batches: list[list[bytes]] = []
        self.min_scores: list[float] = []
        self.started = threading.Semaphore(0)
        self._may_run = threading.Semaphore(0)

    def detect(self, jpegs: Sequence[Buffer], min_scores: Sequence[float]) -> list[FrameResult]:
        self.batches.append([bytes(jpeg) for jpeg in jpegs])
        self.min_scores.extend(min_scores)
        self.started.release()
        assert self._may_run.acquire(timeout=WAIT_S)
        if b"boom" in self.batches[-1]:
            raise RuntimeError("engine broke")
        return [FrameResult.without_boxes(FrameStatus.OK, infer_ms=float(len(jpeg))) for jpeg in jpegs]

    def wait_started(self) -> None:
        assert self.started.acquire(timeout=WAIT_S)

    def release(self, batches: int = 1) -> None:
        self._may_run.release(batches)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def batcher(clock: ManualClock) -> Iterator[Batcher]:
    batcher = Batcher(streams=1, capacity_frames=10, clock=clock)
    batcher.start()
    yield batcher
    batcher.stop()


def submit(
    batcher: Batcher, detector: HeldDetector, *jpegs: bytes, timeout_s: float = 1.0, priority: int = 0
):
    return batcher.submit(detector, jpegs, min_score=0.5, timeout_s=timeout_s, priority=priority)


def test_a_lone_frame_runs_at_once(batcher: Batcher) -> None:
    detector = HeldDetector()
    detector.release()
    results = submit(batcher, detector, b"a").result(WAIT_S)
    assert [result.status for result in results] == [FrameStatus.OK]


def test_takes_everything_waiting_when_the_engine_becomes_free(batcher: Batcher) -> None:
    detector = HeldDetector()
    futures = [submit(batcher, detector, b"first")]
    detector.wait_started()
    futures += [submit(batcher, detector, bytes([65 + index])) for index in range(5)]
    detector.release(2)
    for future in futures:
        future.result(WAIT_S)
    assert detector.batches == [[b"first"], [b"A", b"B", b"C", b"D", b"E"]]


def test_never_exceeds_the_batch_of_the_engine(batcher: Batcher) -> None:
    detector = HeldDetector(max_batch=2)
    detector.release(9)
    submit(batcher, detector, *[b"x"] * 5).result(WAIT_S)
    assert all(len(batch) <= 2 for batch in detector.batches)
    assert sum(map(len, detector.batches)) == 5


def test_never_mixes_models_in_one_batch_and_loses_none(batcher: Batcher) -> None:
    gate, one, two = HeldDetector(), HeldDetector(), HeldDetector()
    futures = [submit(batcher, gate, b"gate")]
    gate.wait_started()
    futures += [submit(batcher, detector, b"x") for detector in (one, two, one, two)]
    one.release(2)
    two.release(2)
    gate.release()
    for future in futures:
        future.result(WAIT_S)
    assert one.batches == [[b"x", b"x"]]
    assert two.batches == [[b"x", b"x"]]


def test_results_keep_the_order_of_the_frames_and_say_how_long_they_waited(
    batcher: Batcher, clock: ManualClock
) -> None:
    detector = HeldDetector()
    first = submit(batcher, detector, b"0")
    detector.wait_started()
    second = submit(batcher, detector, b"1", b"22", b"333")
    clock.now_s += 0.25
    detector.release(2)
    first.result(WAIT_S)
    results = second.result(WAIT_S)
    assert [result.infer_ms for result in results] == [1.0, 2.0, 3.0]
    assert [result.queue_ms for result in results] == pytest.approx([250.0] * 3)


def test_a_frame_past_its_deadline_is_stale_and_never_reaches_the_engine(
    batcher: Batcher, clock: ManualClock
) -> None:
    detector = HeldDetector()
    first = submit(batcher, detector, b"running")
    detector.wait_started()
    late = submit(batcher, detector, b"late", timeout_s=0.5)
    fresh = submit(batcher, detector, b"fresh", timeout_s=5.0)
    clock.now_s += 1.0
    detector.release(2)
    assert first.result(WAIT_S)[0].status is FrameStatus.OK  # what runs is finished
    assert late.result(WAIT_S)[0].status is FrameStatus.STALE
    assert fresh.result(WAIT_S)[0].status is FrameStatus.OK
    assert detector.batches == [[b"running"], [b"fresh"]]
    assert batcher.stats().frames[FrameStatus.STALE] == 1


def test_a_request_that_does_not_fit_is_refused_whole_with_a_time_to_retry(batcher: Batcher) -> None:
    detector = HeldDetector()
    submit(batcher, detector, b"running")
    detector.wait_started()
    submit(batcher, detector, *[b"x"] * 8)
    with pytest.raises(OverloadError, match="at most 10 waiting frames, got 8 and 3 more") as caught:
        submit(batcher, detector, *[b"y"] * 3)
    assert caught.value.retry_after_s > 0
    stats = batcher.stats()
    assert (stats.queued_frames, stats.capacity_frames, stats.refused_frames) == (8, 10, 3)
    detector.release(9)


def test_higher_priority_goes_first(batcher: Batcher) -> None:
    detector = HeldDetector(max_batch=1)
    futures = [submit(batcher, detector, b"running")]
    detector.wait_started()
    futures.append(submit(batcher, detector, b"camera"))
    futures.append(submit(batcher, detector, b"person", priority=10))
    detector.release(3)
    for future in futures:
        future.result(WAIT_S)
    assert detector.batches == [[b"running"], [b"person"], [b"camera"]]


def test_a_cancelled_request_is_dropped_before_the_engine(batcher: Batcher) -> None:
    detector = HeldDetector()
    first = submit(batcher, detector, b"running")
    detector.wait_started()
    gone = submit(batcher, detector, b"gone")
    last = submit(batcher, detector, b"last")
    assert gone.cancel()
    detector.release(2)
    first.result(WAIT_S)
    last.result(WAIT_S)
    assert detector.batches == [[b"running"], [b"last"]]


def test_a_queue_of_cancelled_requests_alone_does_not_end_the_worker(batcher: Batcher) -> None:
    detector = HeldDetector()
    first = submit(batcher, detector, b"running")
    detector.wait_started()
    assert submit(batcher, detector, b"gone").cancel()
    detector.release(2)
    first.result(WAIT_S)
    assert submit(batcher, detector, b"next").result(WAIT_S)[0].status is FrameStatus.OK


def test_a_failing_detector_fails_its_frames_and_the_worker_goes_on(batcher: Batcher) -> None:
    detector = HeldDetector()
    detector.release(2)
    assert submit(batcher, detector, b"boom").result(WAIT_S)[0].status is FrameStatus.FAILED
    assert submit(batcher, detector, b"fine").result(WAIT_S)[0].status is FrameStatus.OK


def test_two_streams_run_two_batches_at_a_time() -> None:
    batcher = Batcher(streams=2, capacity_frames=10)
    batcher.start()
    detector = HeldDetector(max_batch=1)
    future = batcher.submit(detector, [b"a", b"b"], min_score=0.5, timeout_s=5.0)
    detector.wait_started()
    detector.wait_started()
    detector.release(2)
    assert len(future.result(WAIT_S)) == 2
    batcher.stop()


def test_stopping_answers_what_waits_and_refuses_what_comes(clock: ManualClock) -> None:
    batcher = Batcher(streams=1, capacity_frames=10, clock=clock)
    batcher.start()
    detector = HeldDetector()
    running = submit(batcher, detector, b"running")
    detector.wait_started()
    waiting = submit(batcher, detector, b"waiting")
    detector.release()
    batcher.stop()
    assert running.result(WAIT_S)[0].status is FrameStatus.OK
    assert waiting.result(WAIT_S)[0].status is FrameStatus.STALE
    with pytest.raises(OverloadError):
        submit(batcher, detector, b"late")


def test_busy_time_and_service_time_are_measured(batcher: Batcher, clock: ManualClock) -> None:
    detector = HeldDetector()
    future = submit(batcher, detector, b"a", b"b")
    detector.wait_started()
    clock.now_s += 0.5
    assert batcher.stats().oldest_batch_s == pytest.approx(0.5)
    detector.release(2)
    future.result(WAIT_S)
    stats = batcher.stats()
    assert stats.busy_s == pytest.approx(0.5)
    assert stats.service_s > 0.02
