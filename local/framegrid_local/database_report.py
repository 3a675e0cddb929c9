"""`framegrid db status` in words: what an operator wants to know first, then the tables, then what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framegrid_store.capabilities import Capabilities
    from framegrid_store.status import Status, TableStatus

NEWEST_EXPECTED_S = 60.0
"""Ingest stores each second: a newest row older than this is worth a word."""
OVERDUE_S = 300.0
"""Maintenance rolls up every 15 s: when its next round should have been so long ago, it is not running."""
LABEL_WIDTH = 10


def status_lines(address: str, status: Status, now: datetime) -> list[str]:
    """The whole report, plain text; `now` aware, for "3 s ago"."""
    lines = [address, *_head(status, now)]
    if status.tables:
        lines += ["", *_table(_table_rows(status, now)), "", *_chunk_reasons(status)]
    if status.tasks:
        lines += ["", *_table(_task_rows(status, now))]
    notes = list(_notes(status, now))
    return [*lines, "", *(notes or ["Nothing needs doing."])]


def edition_words(capabilities: Capabilities) -> str:
    """`TimescaleDB 2.19.3 Apache on PostgreSQL 17.12`."""
    server = f"PostgreSQL {capabilities.server_version.partition(' ')[0]}"
    if capabilities.timescaledb_version is None:
        return f"{server}, plain"
    return f"TimescaleDB {capabilities.timescaledb_version} {capabilities.edition.capitalize()} on {server}"


def _head(status: Status, now: datetime) -> Iterator[str]:
    if status.revision is None:
        # Plain or not is known after the upgrade, which makes the extension where the server has it.
        yield _fact("server", f"PostgreSQL {status.capabilities.server_version}")
        yield _fact("schema", "none yet")
        return
    current = status.revision == status.revision_wanted
    yield _fact("edition", edition_words(status.capabilities))
    yield _fact("means", status.capabilities.meaning)
    yield _fact("schema", f"revision {status.revision}{', up to date' if current else ''}")
    if not status.tables:
        return
    newest = "no row yet" if status.lag_s is None else f"newest row {duration(status.lag_s)} ago"
    yield _fact("cameras", f"{status.cameras}, {newest}")
    if status.roll_up is not None and status.roll_up.rolled_up_to is not None:
        oldest = f"the oldest {_when(status.roll_up.rolled_up_to, now)}"
        yield _fact("roll-ups", f"{status.roll_up.pending_minutes:,} minutes pending, {oldest}")
    else:
        yield _fact("roll-ups", "nothing pending")
    yield _fact("size", size(status.size_bytes))


def _table_rows(status: Status, now: datetime) -> Iterator[Sequence[str]]:
    yield ("table", ">rows", ">size", ">chunks", ">each", ">compressed", ">kept", "next drop", "newest")
    for name, table in status.tables.items():
        yield (
            name,
            # The planner's estimate: 0 until the first ANALYZE, which autovacuum does.
            f"{table.rows:,}" if table.rows or table.newest is None else "?",
            size(table.size_bytes),
            str(table.chunks),
            _span(table.chunk_interval),
            _compressed(table),
            _span(table.keep) if table.keep else "for ever",
            _when(table.next_drop, now),
            _when(table.newest, now),
        )


def _task_rows(status: Status, now: datetime) -> Iterator[Sequence[str]]:
    yield ("task", "last run", ">took", "next", "done")
    for task in status.tasks:
        done = f"FAILED: {task.error}" if task.error else task.done
        yield (
            task.task,
            _when(task.ran_at, now),
            f"{task.took_ms:,} ms",
            _when(task.next_at, now),
            done,
        )


def _chunk_reasons(status: Status) -> Iterator[str]:
    """Why chunks are as long as they are: once for tables that share the reason."""
    tables_of: dict[str, list[str]] = {}
    for name, table in status.tables.items():
        if table.chunk_reason:
            tables_of.setdefault(table.chunk_reason, []).append(name)
    for reason, names in tables_of.items():
        yield f"chunks of {', '.join(names)}: {reason}"


def _notes(status: Status, now: datetime) -> Iterator[str]:
    if status.revision != status.revision_wanted:
        yield f"! schema {status.revision_wanted} is wanted: run `framegrid db upgrade`"
        return
    roll_up = next((task for task in status.tasks if task.task == "rollup"), None)
    waits = status.roll_up is not None and status.roll_up.pending_minutes > status.roll_up.ahead
    overdue = roll_up is None or (now - roll_up.next_at).total_seconds() > OVERDUE_S
    if waits and overdue:
        last = "never ran" if roll_up is None else f"ran {_when(roll_up.ran_at, now)}"
        yield (
            f"! maintenance {last}: start `python -m framegrid_store maintain`. "
            "Numbers are right meanwhile, only slower to read; old rows stay."
        )
    for task in status.tasks:
        if task.error:
            yield f"! {task.task} failed: {task.error}"
    if status.lag_s is not None and status.lag_s > NEWEST_EXPECTED_S:
        yield f"! no row for {duration(status.lag_s)}: is ingest running? `framegrid doctor`, its /status"
    for skewed in status.skewed:
        limit = status.late_after if skewed.reason == "late" else status.future_after
        what = "came more than" if skewed.reason == "late" else "were ahead of the clock by more than"
        yield (
            f"  {skewed.rows:,} rows {what} {_span(limit)}{' late' if skewed.reason == 'late' else ''}, "
            f"of {_clock(skewed.oldest)} to {_clock(skewed.newest)}; they are stored and counted"
        )


def _fact(label: str, text: str) -> str:
    return f"  {label:<{LABEL_WIDTH}}{text}"


def _table(rows: Iterator[Sequence[str]]) -> list[str]:
    """Aligned columns; a heading with `>` aligns its column to the right."""
    heading, *body = (list(row) for row in rows)
    right = [title.startswith(">") for title in heading]
    cells = [[title.lstrip(">") for title in heading], *body]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heading))]
    return [
        "  ".join(
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _compressed(table: TableStatus) -> str:
    ratio = table.compression_ratio
    return "-" if ratio is None else f"{table.compressed_chunks}, {ratio:.1f}x"


def _when(at: datetime | None, now: datetime) -> str:
    if at is None:
        return "-"
    distance_s = (at - now).total_seconds()
    return f"in {duration(distance_s)}" if distance_s > 0 else f"{duration(-distance_s)} ago"


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at.utcoffset() == timedelta(0) else f"{at:%Y-%m-%d %H:%M %z}"


def _span(span: timedelta | None) -> str:
    return "-" if span is None else duration(span.total_seconds())


def duration(seconds: float) -> str:
    """`3 s`, `5 min`, `2 h`, `4 d`: the largest unit that there are two of, or exactly one."""
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s or seconds == length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(size_bytes: float) -> str:
    """`812 MB`; powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return (
                f"{size_bytes:.0f} {unit}" if size_bytes >= 10 or unit == "B" else f"{size_bytes:.1f} {unit}"
            )
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"
