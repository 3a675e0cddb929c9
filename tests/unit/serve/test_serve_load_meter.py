"""What a replica says of its load: rates by its own clock, service times of full batches."""

from __future__ import annotations

import pytest
from framegrid_serve.load_meter import WINDOW_S, LoadMeter
from framegrid_serve.service_time import ServiceTime
from framegrid_serve.sizing import ReplicaStats


class FakeDetector:
    def __init__(self, max_batch: int = 1) -> None:
        self.max_batch = max_batch


class FakeBatcher:
    """Has run what the test says, on `streams` streams."""

    def __init__(self, streams: int = 1) -> None:
        self.streams = streams
        self.busy_s = 0.0
        self.times: dict[FakeDetector, float] = {}

    def live_busy_s(self) -> float:
        return self.busy_s

    def frame_s(self, detector: FakeDetector) -> float | None:
        return self.times.get(detector)

    def stats(self):
        return type("Stats", (), {"queued_frames": 3})


class Stage:
    def __init__(self, streams: int = 1) -> None:
        self.now_s = 50.0
        self.batcher = FakeBatcher(streams)
        self.meter = LoadMeter(self.batcher, clock=lambda: self.now_s)  # type: ignore[arg-type]

    def second(
        self, detector: FakeDetector, model: str = "m", *, frames: int = 0, lost: int = 0
    ) -> ReplicaStats:
        """One second in which so many frames were answered and lost."""
        self.now_s += 1
        self.batcher.busy_s += frames * self.batcher.times.get(detector, 0.0)
        self.meter.answered(model, detector, frames)
        self.meter.dropped(model, detector, lost)
        return self.meter.stats()


def test_rates_are_those_of_the_last_seconds() -> None:
    stage, detector = Stage(), FakeDetector()
    stage.batcher.times[detector] = 0.02
    for _ in range(20):
        stats = stage.second(detector, frames=10)
    assert (stats.offered_fps, stats.dropped_fps) == (10, 0)
    assert (stats.busy, stats.offered) == (pytest.approx(0.2), pytest.approx(0.2))
    for _ in range(round(WINDOW_S)):
        stats = stage.second(detector, frames=40, lost=20)
    assert (stats.offered_fps, stats.dropped_fps) == (60, 20)
    assert (stats.busy, stats.offered) == (pytest.approx(0.8), pytest.approx(1.2))
    assert (stats.service_s, stats.queued_frames) == (0.02, 3)


def test_asking_often_changes_nothing() -> None:
    stage, detector = Stage(), FakeDetector()
    for _ in range(5):
        stage.second(detector, frames=10)
    assert {stage.meter.stats().offered_fps for _ in range(1000)} == {10}


def test_a_share_is_of_all_streams() -> None:
    stage, detector = Stage(streams=4), FakeDetector()
    stage.batcher.times[detector] = 0.02
    for _ in range(5):
        stats = stage.second(detector, frames=100)
    assert (stats.busy, stats.offered, stats.streams) == (pytest.approx(0.5), pytest.approx(0.5), 4)


def test_a_frame_costs_what_its_model_costs() -> None:
    stage, small, large = Stage(), FakeDetector(), FakeDetector()
    stage.batcher.times.update({small: 0.01, large: 0.1})
    for _ in range(5):
        stage.meter.answered("small", small, 30)
        stats = stage.second(large, "large", frames=2, lost=8)
    assert stats.offered == pytest.approx(30 * 0.01 + 10 * 0.1)
    assert stats.service_s == pytest.approx(1.3 / 40)


def test_frames_of_a_model_that_has_not_run_are_told_apart() -> None:
    stage, detector = Stage(), FakeDetector()
    for _ in range(5):
        stats = stage.second(detector, lost=5)
    assert (stats.unmeasured_fps, stats.offered, stats.service_s) == (5, 0, 0)


def test_a_swapped_model_brings_its_own_service_time() -> None:
    stage, old, new = Stage(), FakeDetector(), FakeDetector()
    stage.batcher.times.update({old: 0.01, new: 0.04})
    for _ in range(5):
        stage.second(old, frames=10)
    assert stage.second(new, frames=10).offered == pytest.approx(0.4)


def test_small_batches_are_not_a_full_engine() -> None:
    """An engine that takes 16 frames at a time and is given one after another."""
    stage, detector = Stage(), FakeDetector(max_batch=16)
    stage.batcher.times[detector] = 0.001
    for _ in range(5):
        stats = stage.second(detector, frames=100)
        stage.batcher.busy_s += 0.8  # it was at work most of the time, in batches of one
    assert stats.busy == pytest.approx(0.1)


def test_an_idle_replica_knows_what_its_models_took() -> None:
    stage, detector = Stage(), FakeDetector()
    stage.batcher.times[detector] = 0.02
    for frames in (5, 0, 0, 0, 0):
        stats = stage.second(detector, frames=frames)
    assert (stats.offered_fps, stats.busy, stats.service_s) == (0, 0, 0.02)


def test_the_service_time_is_of_full_batches() -> None:
    one_by_one = ServiceTime()
    for frames in (1, 2, 1, 3, 1, 2) * 20:
        one_by_one.add(frames, 0.008 + 0.001 * frames)
    assert one_by_one.frame_s(16) == pytest.approx((0.008 + 0.016) / 16, rel=0.02)
    assert one_by_one.frame_s(1) == pytest.approx(0.009, rel=0.02)


def test_the_first_and_single_slow_batches_hardly_count() -> None:
    known = ServiceTime()
    assert (known.is_known, known.frame_s(1)) == (False, 0.0)
    known.add(1, 0.5)
    assert known.frame_s(1) == 0.5
    for _ in range(30):
        known.add(1, 0.02)
    assert known.frame_s(1) == pytest.approx(0.02)
    known.add(1, 3.0)
    assert known.frame_s(1) < 0.022


def test_a_lasting_change_is_followed() -> None:
    known = ServiceTime()
    for elapsed_s in [0.02] * 200 + [0.2] * 200:
        known.add(1, elapsed_s)
    assert known.frame_s(1) == pytest.approx(0.2, rel=0.05)
