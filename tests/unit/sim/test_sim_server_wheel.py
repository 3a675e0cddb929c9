"""The timer wheel: each camera's frames in time, the newest one when late."""

from collections.abc import Callable

from framegrid_sim.wheel import FrameWheel, slots_for

EPOCH_S = 1_800_000_000.0


class ManualClock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def wheel_at(
    now_s: float, is_watched: Callable[[int], bool] = lambda slot: True
) -> tuple[FrameWheel, list[tuple[int, int]]]:
    shown: list[tuple[int, int]] = []
    wheel = FrameWheel(
        10.0,
        4,
        EPOCH_S,
        show=lambda slot, frame: shown.append((slot, frame)),
        is_watched=is_watched,
        clock=ManualClock(now_s),
    )
    return wheel, shown


def test_serves_every_slot_of_a_frame_at_its_own_time() -> None:
    wheel, shown = wheel_at(EPOCH_S - 0.001)
    for step in range(8):
        wheel.run_due(EPOCH_S + step * 0.025 + 0.001)
    assert shown == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 1), (3, 1)]
    assert wheel.late_ticks == 0


def test_serves_nothing_twice() -> None:
    wheel, shown = wheel_at(EPOCH_S - 0.001)
    for _ in range(3):
        wheel.run_due(EPOCH_S + 0.03)
    assert shown == [(0, 0), (1, 0)]


def test_a_late_wheel_shows_each_camera_its_newest_frame_only() -> None:
    wheel, shown = wheel_at(EPOCH_S - 0.001)
    wheel.run_due(EPOCH_S + 1.0)  # forty ticks late: 0 to 40 are due
    assert shown == [(1, 9), (2, 9), (3, 9), (0, 10)]
    assert wheel.late_ticks == 37


def test_waits_for_the_next_slot_that_somebody_watches() -> None:
    wheel, _ = wheel_at(EPOCH_S, is_watched=lambda slot: slot == 3)
    wait_s = wheel.wait_s(EPOCH_S)
    assert wait_s is not None
    assert abs(wait_s - 0.075) < 1e-5


def test_waits_for_nobody_when_nobody_watches() -> None:
    wheel, _ = wheel_at(EPOCH_S, is_watched=lambda slot: False)
    assert wheel.wait_s(EPOCH_S) is None


def test_follows_a_clock_that_was_set_back() -> None:
    wheel, shown = wheel_at(EPOCH_S + 3600)
    wheel.run_due(EPOCH_S)
    wait_s = wheel.wait_s(EPOCH_S)
    assert wait_s is not None
    assert wait_s <= 0.1
    wheel.run_due(EPOCH_S + 0.03)
    assert shown == [(1, 0)]


def test_cuts_a_period_into_no_more_slots_than_are_worth_waking_for() -> None:
    assert slots_for(10.0, 1) == 1
    assert slots_for(10.0, 500) == 20
    assert slots_for(60.0, 500) == 3
    assert slots_for(0.5, 500) == 32


def test_a_slot_begins_later_by_its_share_of_the_period() -> None:
    wheel, _ = wheel_at(EPOCH_S)
    assert abs(wheel.slot_epoch_s(2) - EPOCH_S - 0.05) < 1e-6
