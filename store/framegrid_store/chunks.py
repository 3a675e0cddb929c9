"""How long a chunk is, and why: the longest that keeps the index of the chunk being filled in memory. Pure.

A batch touches the newest chunk's index at as many places as it has cameras. While that index fits into
memory this costs nothing; when it does not, every row waits for the disk. TimescaleDB's advice is a quarter
of memory for the active chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

INDEX_BYTES_PER_ROW = 40
"""Measured on frame_count (camera_id, time), pages as full as inserts in order of time leave them."""
INDEX_BYTES_PER_MINUTE = 200
"""The same of frame_count_minute and coverage_minute, whose keys carry the values: 170 and 235."""
SHARE_OF_MEMORY = 0.25
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LADDER = (
    HOUR,
    2 * HOUR,
    3 * HOUR,
    4 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    7 * DAY,
    28 * DAY,
    91 * DAY,
    364 * DAY,
)
"""Whole parts of a day, then whole weeks: partitions made on one of them never straddle two of the next."""

_RATES = {
    "minute": 1 / 60,
    "hour": 1 / 3600,
    "day": 1 / 86_400,
    "track": 1 / 20,
    "crossing": 1 / 20,
    "event": 1 / 600,
    "detection": 10.0,
}
"""Rows a second over those of counts, by the last word of the table's name; tracks and such are assumed."""
_LONGEST = {
    "track": 7 * DAY,
    "crossing": 28 * DAY,
    "event": 28 * DAY,
    "detection": 6 * HOUR,
    "minute": 7 * DAY,
    "hour": 91 * DAY,
    "day": 364 * DAY,
}
"""Retention drops whole chunks: the shorter rows are kept, the shorter their chunks have to be."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is written, and the memory for it."""

    cameras: int
    rows_per_s_per_camera: float
    memory_bytes: int

    @property
    def rows_per_s(self) -> float:
        return self.cameras * self.rows_per_s_per_camera


@dataclass(frozen=True, slots=True)
class Chunk:
    """A time span and the reason for it."""

    interval: timedelta
    reason: str


def chunk_of(table: str, load: Load, keep: timedelta | None = None) -> Chunk:
    """The chunk of a table of `names.TIME_TABLES`: by its load, and no longer than a quarter of its
    retention."""
    kind = table.rpartition("_")[2]
    rows_per_s = load.rows_per_s * _RATES.get(kind, 1.0)
    longest = _LONGEST.get(kind, DAY)
    if keep is not None:
        longest = min(longest, max(keep / 4, LADDER[0]))
    budget = load.memory_bytes * SHARE_OF_MEMORY
    index_bytes_per_s = rows_per_s * (INDEX_BYTES_PER_MINUTE if kind == "minute" else INDEX_BYTES_PER_ROW)
    fitting = [
        step for step in LADDER if step <= longest and step.total_seconds() * index_bytes_per_s <= budget
    ]
    interval = max(fitting, default=LADDER[0])
    index_bytes = interval.total_seconds() * index_bytes_per_s
    reason = (
        f"{load.cameras:,} cameras at {load.rows_per_s_per_camera:g} rows/s: {rows_per_s:,.6g} rows/s here,"
        f" index of {_size(index_bytes)} a chunk; {SHARE_OF_MEMORY:.0%} of memory are {_size(budget)}"
    )
    if index_bytes > budget:
        reason += "; even the shortest chunk is larger: give the server more memory"
    elif interval == max(step for step in LADDER if step <= longest):
        reason += "; longest for this table"
    return Chunk(interval, reason)


def _size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.3g} GB"
