"""What `framegrid db status` says: the figures, aligned, and a line for whatever needs doing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from framegrid_local.database_report import duration, size, status_lines
from framegrid_store.capabilities import Capabilities
from framegrid_store.status import RollUpStatus, SkewedRows, Status, TableStatus, TaskStatus

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
APACHE = Capabilities("apache", "17.12", "2.19.3")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def table(rows: int, kept: timedelta | None) -> TableStatus:
    return TableStatus(
        rows=rows,
        size_bytes=rows * 127,
        newest=NOW - timedelta(seconds=3),
        chunks=12,
        chunk_interval=6 * HOUR,
        chunk_reason="6 h hold 86,400 rows: a quarter of memory",
        keep=kept,
        next_drop=NOW + 3 * HOUR,
        dropped_before=None,
        compressed_chunks=0,
        compressed_bytes=None,
        uncompressed_bytes=None,
    )


HEALTHY = Status(
    revision="0002",
    revision_wanted="0002",
    capabilities=APACHE,
    cameras=4,
    size_bytes=812_000_000,
    lag_s=3.0,
    tables={"frame_count": table(1_234_567, 7 * DAY), "event": table(12, None)},
    roll_up=RollUpStatus(1, 2, NOW - timedelta(minutes=1), 12.0, 0),
    tasks=[TaskStatus("rollup", NOW - timedelta(seconds=4), NOW + timedelta(seconds=11), 87, "41 rows", "")],
    late_after=DAY,
    future_after=timedelta(minutes=5),
)


def test_a_healthy_store_is_told_in_figures_and_needs_nothing() -> None:
    lines = status_lines("owner@db:5432/framegrid", HEALTHY, NOW)
    text = "\n".join(lines)
    assert lines[0] == "owner@db:5432/framegrid"
    assert "TimescaleDB 2.19.3 Apache on PostgreSQL 17.12" in text
    assert "4, newest row 3 s ago" in text
    assert "1 minutes pending, the oldest 1 min ago" in text
    assert "812 MB" in text
    (heading,) = [line for line in lines if line.startswith("table ")]
    (counts,) = [line for line in lines if line.startswith("frame_count ")]
    (events,) = [line for line in lines if line.startswith("event ")]
    for words, shown in (("rows", "1,234,567"), ("each", "6 h"), ("kept", "7 d")):
        assert counts.index(shown) + len(shown) == heading.index(words) + len(words), "aligned to the right"
    assert counts.index("in 3 h") == heading.index("next drop")
    assert "for ever" in events
    assert text.count("a quarter of memory") == 1, "tables with one reason share a line"
    assert "rollup  4 s ago   87 ms  in 11 s  41 rows" in text
    assert lines[-1] == "Nothing needs doing."
    assert not [line for line in lines if line != line.rstrip()]


def test_what_needs_doing_is_said_with_what_to_do() -> None:
    ill = replace(
        HEALTHY,
        lag_s=700.0,
        roll_up=RollUpStatus(30, 60, NOW - HOUR, 1800.0, 0),
        tasks=[TaskStatus("retention", NOW - HOUR, NOW, 5, "", "permission denied for table event")],
        skewed=[SkewedRows("late", 132, NOW - 3 * DAY, NOW - 2 * DAY, NOW)],
    )
    notes = [line for line in status_lines("db", ill, NOW) if line.startswith("!")]
    assert len(notes) == 3
    assert "maintenance never ran" in notes[0] and "framegrid_store maintain" in notes[0]
    assert "retention failed: permission denied" in notes[1]
    assert "no row for 12 min" in notes[2]
    assert "132 rows came more than 1 d late" in status_lines("db", ill, NOW)[-1]


def test_late_rows_that_wait_for_the_next_round_are_no_alarm() -> None:
    waiting = replace(HEALTHY, roll_up=RollUpStatus(100, 100, NOW - 28 * DAY, 28 * 86_400.0, 0))
    assert status_lines("db", waiting, NOW)[-1] == "Nothing needs doing."
    (task,) = HEALTHY.tasks
    stopped = replace(waiting, tasks=[replace(task, ran_at=NOW - HOUR, next_at=NOW - HOUR)])
    assert "maintenance ran 1 h ago" in status_lines("db", stopped, NOW)[-1]


def test_rows_that_nobody_counted_yet_are_unknown() -> None:
    unknown = replace(HEALTHY, tables={"event": replace(table(12, None), rows=0)})
    (events,) = [line for line in status_lines("db", unknown, NOW) if line.startswith("event ")]
    assert events.split()[1] == "?"


def test_a_database_that_was_never_upgraded_says_the_one_thing_to_do() -> None:
    lines = status_lines("db", Status(None, "0002", Capabilities("plain", "18.4", None)), NOW)
    assert lines[1:3] == ["  server    PostgreSQL 18.4", "  schema    none yet"]
    assert lines[-1].startswith("! schema 0002 is wanted: run `framegrid db upgrade`")


def test_durations_and_sizes_are_short() -> None:
    assert [duration(s) for s in (0.4, 59, 60, 119, 120, 3600, 90_000, 86_400, 800_000)] == [
        "0 s", "59 s", "1 min", "119 s", "2 min", "1 h", "25 h", "1 d", "9 d",
    ]  # fmt: skip
    assert [size(b) for b in (7, 2_500, 25_000, 812e6, 3.2e12)] == [
        "7 B",
        "2.5 kB",
        "25 kB",
        "812 MB",
        "3.2 TB",
    ]
