"""Arrival times are fixed in advance, whatever happens meanwhile."""

from __future__ import annotations

import pytest
from framegrid_load.schedule import Arrival, Schedule


def due_until(schedule: Schedule, end_s: float, look_every_s: float) -> list[Arrival]:
    found, now_s = [], 0.0
    while now_s < end_s:
        now_s = min(end_s, now_s + look_every_s)
        found += schedule.due(now_s)
    return found


def made(cameras: int, fps: float = 10.0) -> Schedule:
    schedule = Schedule(fps, seed=7)
    schedule.set_cameras(cameras, 0.0)
    return schedule


def test_a_late_look_gives_out_the_same_frames_with_the_same_times() -> None:
    assert due_until(made(5), 6.0, 0.001) == due_until(made(5), 6.0, 3.0)


def test_each_camera_keeps_its_rate_without_drift() -> None:
    frames = due_until(made(3, fps=7.0), 100.0, 0.5)
    for camera in range(3):
        mine = [frame for frame in frames if frame.camera == camera]
        assert [frame.seq for frame in mine] == list(range(len(mine)))
        assert mine[-1].due_s == pytest.approx(mine[0].due_s + (len(mine) - 1) / 7.0, abs=1e-9)
        assert len(mine) in (699, 700, 701)


def test_cameras_have_phases_of_their_own() -> None:
    first = [frame.due_s for frame in due_until(made(50), 0.1, 0.1)]
    assert len(set(first)) == 50
    assert min(first) < 0.01
    assert max(first) > 0.09


def test_cameras_taken_away_send_no_more() -> None:
    schedule = made(10)
    schedule.due(1.0)
    schedule.set_cameras(4, 1.0)
    assert {frame.camera for frame in schedule.due(2.0)} == {0, 1, 2, 3}
    assert schedule.cameras == 4


def test_added_cameras_begin_when_they_are_added() -> None:
    schedule = made(0)
    assert schedule.next_due_s is None
    assert schedule.due(5.0) == []
    schedule.set_cameras(3, 5.0)
    assert all(5.0 <= frame.due_s < 5.1 for frame in schedule.due(5.1))


def test_refuses_a_rate_of_nothing() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Schedule(0.0)
