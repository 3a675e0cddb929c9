"""When a Camera's status is written."""

from collections import Counter

import pytest
from framegrid_ingest.kubernetes.status_plan import CameraStatus, StatusPlan

RUNNING = CameraStatus("running", "rtsp", "", "ingest-0", 3, 9.96, 1_800_000_000.4)


def write_all(plan: StatusPlan, wanted: dict[str, CameraStatus], total: int, now_s: float) -> list[str]:
    due = plan.due(wanted, total, now_s)
    for name in due:
        plan.tried(name, wanted[name], now_s, is_written=True)
    return due


def test_a_first_status_is_written_at_once_and_then_nothing_while_nothing_changes() -> None:
    plan = StatusPlan()
    assert write_all(plan, {"a": RUNNING}, 1, 0.0) == ["a"]
    assert [write_all(plan, {"a": RUNNING}, 1, now_s) for now_s in (1.0, 100.0, 1000.0)] == [[], [], []]


def test_a_change_of_state_is_written_but_not_within_three_seconds_of_the_last() -> None:
    plan = StatusPlan()
    write_all(plan, {"a": RUNNING}, 1, 0.0)
    lost = RUNNING._replace(state="failed", message="refused")
    assert write_all(plan, {"a": lost}, 1, 1.0) == []
    assert write_all(plan, {"a": lost}, 1, 3.0) == ["a"]


def test_frames_alone_are_told_every_half_minute() -> None:
    plan = StatusPlan()
    writes = 0
    for second in range(600):
        now = RUNNING._replace(last_frame_s=1_800_000_000.0 + second, fps=10 + second % 2)
        writes += len(write_all(plan, {"a": now}, 1, float(second)))
    assert 600 / 30 * 0.75 <= writes <= 600 / 30 * 1.4


def test_ten_thousand_cameras_are_refreshed_fifty_times_a_second_in_all() -> None:
    plan = StatusPlan()
    names = [f"camera-{number}" for number in range(50)]  # the share of one pod of 200
    writes: Counter[int] = Counter()
    for second in range(1000):
        now = {name: RUNNING._replace(last_frame_s=float(second)) for name in names}
        writes[second // 200] += len(write_all(plan, now, 10_000, float(second)))
    assert sum(writes.values()) <= 50 + 1000 / 200 * 50 * 1.1  # one each per 200 s on average
    assert max(list(writes.values())[1:]) <= 75


def test_one_process_never_writes_more_than_five_times_a_second_for_long() -> None:
    plan = StatusPlan()
    writes = 0
    for second in range(100):
        state = ("failed", "running")[second // 4 % 2]
        wanted = {f"camera-{n}": RUNNING._replace(state=state) for n in range(500)}
        writes += len(write_all(plan, wanted, 500, float(second)))
    assert writes <= 10 + 5 * 100


def test_a_write_that_failed_is_tried_again() -> None:
    plan = StatusPlan()
    plan.tried("a", RUNNING, 0.0, is_written=False)
    assert plan.due({"a": RUNNING}, 1, 1.0) == []
    assert plan.due({"a": RUNNING}, 1, 3.0) == ["a"]


def test_a_camera_that_comes_back_is_told_anew() -> None:
    plan = StatusPlan()
    write_all(plan, {"a": RUNNING, "b": RUNNING}, 2, 0.0)
    plan.keep(["b"])
    assert plan.due({"a": RUNNING, "b": RUNNING}, 2, 1.0) == ["a"]


def test_the_patch_is_what_the_columns_show() -> None:
    assert RUNNING.patch() == {
        "status": {
            "state": "running",
            "sourceKind": "rtsp",
            "message": "",
            "owner": "ingest-0",
            "observedGeneration": 3,
            "fps": 10.0,
            "lastFrameTime": "2027-01-15T08:00:00Z",
        }
    }
    assert RUNNING._replace(last_frame_s=None).patch()["status"]["lastFrameTime"] is None


@pytest.mark.parametrize("chars", [1024, 5000])
def test_a_long_message_is_cut(chars: int) -> None:
    assert len(RUNNING._replace(message="x" * chars).patch()["status"]["message"]) == 1024
