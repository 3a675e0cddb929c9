"""Chunk intervals: from load and memory, with the reason in words."""

from datetime import timedelta

import pytest
from framegrid_store.chunks import INDEX_BYTES_PER_ROW, LADDER, SHARE_OF_MEMORY, Load, chunk_of
from framegrid_store.names import TIME_TABLES

HOUR, DAY, GB = timedelta(hours=1), timedelta(days=1), 1_000_000_000


@pytest.mark.parametrize(
    ("cameras", "memory_bytes", "expected"),
    [
        (10, 4 * GB, DAY),
        (100, 4 * GB, DAY),
        (1000, 4 * GB, 3 * HOUR),
        (1000, 32 * GB, DAY),
        (5000, 4 * GB, HOUR),
    ],
)
def test_the_index_of_a_chunk_of_counts_fits_its_share_of_memory(
    cameras: int, memory_bytes: int, expected: timedelta
) -> None:
    load = Load(cameras, 2.0, memory_bytes)
    chunk = chunk_of("frame_count", load)
    assert chunk.interval == expected
    assert (
        chunk.interval.total_seconds() * load.rows_per_s * INDEX_BYTES_PER_ROW
        <= memory_bytes * SHARE_OF_MEMORY
        or (chunk.interval == LADDER[0])
    )
    assert f"{cameras:,} cameras at 2 rows/s" in chunk.reason


def test_too_little_memory_is_said() -> None:
    chunk = chunk_of("frame_count", Load(20_000, 10.0, GB))
    assert chunk.interval == HOUR
    assert chunk.reason.endswith("give the server more memory")


def test_a_chunk_is_at_most_a_quarter_of_its_retention() -> None:
    load = Load(10, 2.0, 4 * GB)
    assert chunk_of("track", load, keep=timedelta(days=90)).interval == 7 * DAY
    assert chunk_of("track", load, keep=timedelta(days=2)).interval == 12 * HOUR
    assert chunk_of("detection", load, keep=timedelta(hours=2)).interval == HOUR


def test_coarser_tables_have_longer_chunks() -> None:
    load = Load(100, 2.0, 4 * GB)
    found = [chunk_of(f"frame_count{suffix}", load).interval for suffix in ("", "_minute", "_hour", "_day")]
    assert found == [DAY, 7 * DAY, 91 * DAY, 364 * DAY]
    assert all(chunk_of(table, load).interval in LADDER for table in TIME_TABLES)


def test_a_chunk_of_minutes_holds_its_covering_index_in_memory() -> None:
    assert chunk_of("frame_count_minute", Load(1000, 2.0, 4 * GB)).interval == DAY
    assert chunk_of("frame_count_minute", Load(1000, 2.0, 32 * GB)).interval == 7 * DAY


def test_steps_of_the_ladder_are_whole_parts_of_each_other_or_of_a_week() -> None:
    assert all(DAY % step == timedelta(0) for step in LADDER if step <= DAY)
    assert all(step % (7 * DAY) == timedelta(0) for step in LADDER if step > DAY)
