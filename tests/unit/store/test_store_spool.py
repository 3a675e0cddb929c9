"""The spool on a real disk: order, bounds, what goes first, crashes half way, two writers, damaged files."""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import pytest
from framegrid_store import spool_shelf
from framegrid_store.rows import CountRow, CoverageRow, CrossingRow, DetectionRow, EventRow, Row, TrackRow
from framegrid_store.spool import EXPIRED, FULL, TEND_EVERY_S, Spool, SpoolSettings
from framegrid_store.spool_file import Lane, State
from framegrid_store.spool_room import STEPS
from framegrid_store.spool_shelf import DAMAGED

START_S = 1_699_999_980.0  # a whole minute
Opened: TypeAlias = Callable[..., Spool]
BOX = (0.1, 0.2, 0.3, 0.4)
LIMIT = 256 * 1024


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is what takes time, and no test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class ManualClock:
    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


def counts(second: int, n: int = 50) -> list[Row]:
    return [
        CountRow(START_S + second, 1.0, f"camera-{i}", "person", "", "m@1", 10, i, i * i, 0, i, 1, 0.5)
        for i in range(n)
    ]


def coverage(second: int) -> CoverageRow:
    return CoverageRow(START_S + second, 1.0, "north", 1.0, 10, 9, 1, 0, 0, 0, 0)


def detections(n: int) -> list[Row]:
    return [DetectionRow(START_S + i, "north", i, "person", "m@1", str(uuid4()), 0.5, *BOX) for i in range(n)]


def tracks(n: int) -> list[Row]:
    return [
        TrackRow(str(uuid4()), "north", "person", "m@1", START_S, START_S + 9, 90, 0.9, BOX, BOX)
        for _ in range(n)
    ]


def crossings(n: int) -> list[Row]:
    return [CrossingRow(START_S + i, "north", "door", "person", str(uuid4()), "in", "m@1") for i in range(n)]


def events(n: int) -> list[Row]:
    return [EventRow(START_S, str(uuid4()), "north", "camera.lost", "warning", "", {}) for _ in range(n)]


@pytest.fixture
def opened() -> Iterator[Callable[..., Spool]]:
    """Opens spools, and closes what is still open at the end."""
    spools = []

    def open_one(folder: Path, **settings: Any) -> Spool:
        clocks = {name: settings.pop(name) for name in ("wall", "monotonic") if name in settings}
        spool = Spool(SpoolSettings(folder, **settings), **clocks)
        spool.open()
        spools.append(spool)
        return spool

    yield open_one
    for spool in spools:
        spool.close()


def all_rows(spool: Spool) -> list[Row]:
    return [row for file in spool.shelf.files() for row in spool.shelf.read(file) or []]


def kinds(rows: list[Row]) -> Counter[type]:
    return Counter(map(type, rows))


def test_comes_back_oldest_first_with_ids_and_after_a_restart(tmp_path: Path, opened: Opened) -> None:
    first, second = uuid4(), uuid4()
    spool = opened(tmp_path)
    assert spool.add(first, counts(0), was_sent=True) == []
    assert spool.add(second, counts(1), was_sent=False) == []
    spool.close()
    again = opened(tmp_path)
    assert [file.batch_id for file in again.shelf.files()] == [first, second]
    assert [file.state for file in again.shelf.files()] == [State.SENT, State.NEW]
    assert all_rows(again) == counts(0) + counts(1)
    assert again.stats().rows == 100


def test_a_clock_that_steps_back_changes_no_order_and_no_age(tmp_path: Path, opened: Opened) -> None:
    wall, monotonic = ManualClock(), ManualClock()
    spool = opened(tmp_path, wall=wall, monotonic=monotonic)
    ids = [uuid4() for _ in range(3)]
    for place, step_s in enumerate((0, -86_400, 10 * 365 * 86_400)):
        wall.now_s += step_s
        monotonic.now_s += 1
        spool.add(ids[place], counts(place), was_sent=False)
        monotonic.now_s += TEND_EVERY_S
        spool.tend()
    assert [file.batch_id for file in spool.shelf.files()] == ids
    assert spool.stats().oldest_age_s == pytest.approx(3 * TEND_EVERY_S + 2)
    wall.now_s -= 5 * 365 * 86_400
    spool.close()
    again = opened(tmp_path, wall=wall, monotonic=monotonic)
    again.add(uuid4(), counts(3), was_sent=False)
    assert all_rows(again) == counts(0) + counts(1) + counts(2) + counts(3)


def test_too_old_goes_but_events_stay(tmp_path: Path, opened: Opened) -> None:
    wall, monotonic = ManualClock(), ManualClock()
    spool = opened(tmp_path, wall=wall, monotonic=monotonic, age_s=100)
    kept = events(2)
    spool.add(uuid4(), [*counts(0), *detections(3), *tracks(4), *kept], was_sent=False)
    spool.add(uuid4(), [*counts(1), *kept], was_sent=True)
    monotonic.now_s += 99
    spool.tend()
    assert len(all_rows(spool)) == 111
    monotonic.now_s += TEND_EVERY_S
    spool.tend()
    assert all_rows(spool) == kept + kept
    assert spool.dropped == {
        ("frame_count", EXPIRED): 100,
        ("detection", EXPIRED): 3,
        ("track", EXPIRED): 4,
    }


def test_when_full_detections_go_first_then_counts_are_merged_and_add_up(
    tmp_path: Path, opened: Opened
) -> None:
    spool = opened(tmp_path, size_bytes=LIMIT)
    sent: list[Row] = []
    for second in range(600):
        rows = [*counts(second), coverage(second), *(detections(20) if second % 20 == 0 else [])]
        assert spool.add(uuid4(), rows, was_sent=False) == []
        sent += rows
        assert spool.shelf.used_bytes <= LIMIT
    back = all_rows(spool)
    stored = [row for row in back if isinstance(row, CountRow)]
    assert kinds(sent)[DetectionRow] == 600
    assert set(spool.dropped) == {("detection", FULL)}
    assert kinds(back)[DetectionRow] == 600 - spool.dropped["detection", FULL]
    assert len(stored) < 30_000 / 5
    assert len(stored) + spool.merged["frame_count"] == 30_000
    for field in ("samples", "n_sum", "n_sumsq", "uniques"):
        assert sum(getattr(row, field) for row in stored) == sum(
            getattr(row, field) for row in sent if isinstance(row, CountRow)
        )
    covered = [row for row in back if isinstance(row, CoverageRow)]
    assert (sum(row.expected for row in covered), sum(row.processed for row in covered)) == (6000, 5400)
    assert sum(row.observed_s for row in covered) == 600


def test_when_nothing_can_be_merged_counts_go_then_tracks_then_crossings_and_events_never(
    tmp_path: Path,
    opened: Opened,
) -> None:
    spool = opened(tmp_path, size_bytes=LIMIT)
    spool.add(uuid4(), counts(0, 5000), was_sent=False)
    kept: list[Row] = []
    order = []
    for _ in range(200):
        rows = [*tracks(20), *crossings(30), *events(30)]
        left = spool.add(uuid4(), rows, was_sent=False)
        for table, _reason in spool.dropped:
            if table not in order:
                order.append(table)
        if left:
            assert left == rows, "all or nothing, nothing half"
            break
        kept += [row for row in rows if isinstance(row, EventRow)]
    assert order == ["frame_count", "track", "line_crossing"]
    assert sorted(map(repr, all_rows(spool))) == sorted(map(repr, kept))
    assert spool.shelf.used_bytes <= LIMIT


def test_a_sent_batch_keeps_its_id_and_is_never_merged_with_others(tmp_path: Path, opened: Opened) -> None:
    spool = opened(tmp_path, size_bytes=LIMIT)
    batch_id = uuid4()
    mixed = [*detections(10), *counts(0), *counts(1), *tracks(2), *events(1)]
    spool.add(batch_id, mixed, was_sent=True)
    for second in range(600):
        spool.add(uuid4(), counts(second), was_sent=False)
    (file,) = [file for file in spool.shelf.files() if file.batch_id == batch_id]
    assert (file.lane, file.state) == (Lane.THIN, State.SENT)
    rows = spool.shelf.read(file) or []
    assert kinds(rows) == {CountRow: 50, TrackRow: 2, EventRow: 1}
    assert sum(row.samples for row in rows if isinstance(row, CountRow)) == 1000


def test_a_split_batch_is_left_alone(tmp_path: Path, opened: Opened) -> None:
    spool = opened(tmp_path, size_bytes=LIMIT)
    batch_id, rows = uuid4(), [*counts(0), *counts(1)]
    spool.add(batch_id, rows, was_sent=True)
    spool.shelf.mark(spool.shelf.files()[0], State.SPLIT)
    for second in range(600):
        spool.add(uuid4(), counts(second), was_sent=False)
    (file,) = [file for file in spool.shelf.files() if file.batch_id == batch_id]
    assert spool.shelf.read(file) == rows


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(1, 12))
def test_a_crash_at_any_step_of_a_merge_doubles_and_loses_nothing(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    spool = opened(tmp_path, size_bytes=LIMIT)
    for second in range(3):
        spool.add(uuid4(), counts(second), was_sent=False)
    left = step

    def counting(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return real(*args, **options)

        return call

    for owner, name in (
        (spool_shelf, "write_durably"),
        (spool_shelf, "sync_folder"),
        (spool_shelf, "move"),
        (Path, "unlink"),
    ):
        monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    try:
        spool._make_room(STEPS)
    except Killed:
        pass
    else:
        assert step > 8, "a merge has that many steps"
    monkeypatch.undo()
    # The process is gone: its lock too.
    assert spool.shelf._owned is not None
    spool.shelf._owned._lock.close()
    spool.shelf._owned = None
    again = opened(tmp_path)
    rows = [row for row in all_rows(again) if isinstance(row, CountRow)]
    assert sum(row.samples for row in rows) == 3 * 50 * 10
    assert not list(tmp_path.rglob("*.tmp"))
    assert {file.state for file in again.shelf.files()} == {State.NEW}


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "renamed"])
def test_a_damaged_file_is_set_aside_and_the_others_are_read(
    tmp_path: Path, opened: Opened, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    spool = opened(tmp_path)
    for second in range(3):
        spool.add(uuid4(), counts(second), was_sent=False)
    path = spool.shelf.files()[1].path
    spool.close()
    data = path.read_bytes()
    if damage == "renamed":
        path.rename(path.with_name(path.name.replace(path.name[18:50], UUID(int=1).hex)))
    else:
        path.write_bytes({"cut": data[:-100], "changed": data[:-9] + b"x" + data[-8:], "empty": b""}[damage])
    again = opened(tmp_path)
    assert all_rows(again) == counts(0) + counts(2)
    assert again.stats().damaged == 1
    assert again.stats().files == 2
    assert len(list((tmp_path / DAMAGED).iterdir())) == 1
    assert "it is put into" in caplog.text


def test_two_writers_never_have_the_same_file_and_leftovers_find_an_owner(
    tmp_path: Path, opened: Opened
) -> None:
    dead = [opened(tmp_path) for _ in range(3)]
    for second, spool in enumerate(dead):
        spool.add(uuid4(), counts(second), was_sent=False)
    for spool in dead:
        spool.close()
    one, two = opened(tmp_path), opened(tmp_path)
    assert len(one) == 3
    assert len(two) == 0
    assert sorted(map(repr, all_rows(one))) == sorted(map(repr, counts(0) + counts(1) + counts(2)))
    two.add(uuid4(), counts(9), was_sent=False)
    one.close()
    two.shelf.open()
    assert len(two) == 4
    two.close()
    assert len(list(tmp_path.glob("writer-*"))) == 1, "empty folders go"


def test_a_disk_that_fails_for_another_reason_is_said_and_nothing_is_half_done(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path)
    calls = 0

    def failing(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls != 1:
            raise OSError(errno.EIO, "input/output error")
        real(path, data)

    real = spool_shelf.write_durably
    monkeypatch.setattr(spool_shelf, "write_durably", failing)
    left = spool.add(uuid4(), [*tracks(1), *counts(0), *detections(2)], was_sent=False)
    assert kinds(left) == {CountRow: 50, DetectionRow: 2}
    assert "input/output error" in spool.stats().error
    with pytest.raises(OSError, match="input/output"):
        spool.add(uuid4(), left, was_sent=False)
    monkeypatch.undo()
    assert spool.add(uuid4(), left, was_sent=False) == []
    assert kinds(all_rows(spool)) == {TrackRow: 1, CountRow: 50, DetectionRow: 2}


def test_files_are_for_us_alone(tmp_path: Path, opened: Opened) -> None:
    spool = opened(tmp_path / "spool")
    spool.add(uuid4(), events(1), was_sent=False)
    for path in (tmp_path / "spool").rglob("*"):
        if path.suffix in (".new", ".sent"):
            assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("wrong", [{"size_bytes": 1000}, {"age_s": 8 * 86_400}, {"age_s": 0}])
def test_bounds_that_cannot_work_are_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        SpoolSettings(tmp_path, **wrong)
