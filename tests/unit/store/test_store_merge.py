"""Merging counts and coverage: every sum that a minute's view shows stays the same to the last unit."""

import math
from collections import Counter
from typing import Any

from framegrid_store.encode import scaled
from framegrid_store.merge import merged
from framegrid_store.rows import CountRow, CoverageRow, EventRow, Row
from hypothesis import given
from hypothesis import strategies as st

START_S = 1_699_999_980.0  # a whole minute


@st.composite
def count_rows(draw: st.DrawFn) -> CountRow:
    samples = draw(st.integers(0, 10))
    seen = [draw(st.integers(0, 9)) for _ in range(samples)]
    return CountRow(
        START_S + draw(st.integers(0, 179)),
        1.0,
        draw(st.sampled_from("ab")),
        draw(st.sampled_from(["person", "vehicle"])),
        draw(st.sampled_from(["", "door"])),
        draw(st.sampled_from(["m@1", "m@2"])),
        samples,
        sum(seen),
        sum(n * n for n in seen),
        min(seen, default=0),
        max(seen, default=0),
        draw(st.integers(0, 3)),
        draw(st.floats(0, 1)),
    )


@st.composite
def coverage_rows(draw: st.DrawFn) -> CoverageRow:
    outcomes = [draw(st.integers(0, 9)) for _ in range(6)]
    second = START_S + draw(st.integers(0, 179))
    return CoverageRow(
        second, 1.0, draw(st.sampled_from("ab")), draw(st.floats(0, 1)), sum(outcomes), *outcomes
    )


def by_minute(rows: list[Row]) -> dict[Any, Any]:
    """What the tables hold and a minute's view adds up, in the tables' own units."""
    sums: dict[Any, Counter[str]] = {}
    ends: dict[Any, list[int]] = {}
    for row in rows:
        if isinstance(row, CountRow):
            key: Any = (row.time_s // 60, row.camera, row.cls, row.zone, row.model)
            numbers = {name: getattr(row, name) for name in ("samples", "n_sum", "n_sumsq", "uniques")}
            numbers["score_milli_sum"] = int(scaled([row.score_mean * row.n_sum], 1000, "bigint")[0])
            if row.samples:
                ends.setdefault(key, []).extend((row.n_min, row.n_max))
        else:
            assert isinstance(row, CoverageRow)
            key = (row.time_s // 60, row.camera)
            numbers = dict(zip(CoverageRow._fields[4:], row[4:], strict=True))  # type: ignore[arg-type]
            numbers["observed_ms"] = int(scaled([row.observed_s], 1000, "int")[0])
        sums.setdefault(key, Counter()).update(numbers)
    return {key: (sums[key], min(ends.get(key, [0])), max(ends.get(key, [0]))) for key in sums}


@given(st.lists(st.one_of(count_rows(), coverage_rows()), max_size=200))
def test_every_minute_adds_up_to_the_same(rows: list[Row]) -> None:
    after = merged(rows)
    assert by_minute(after) == by_minute(rows)
    assert by_minute(merged(after)) == by_minute(rows), "merging what is merged changes nothing"
    keys = [(type(row), row.time_s // 60, *row[2:6]) for row in after if isinstance(row, CountRow)]
    assert len(keys) == len(set(keys)), "one row per key and minute"
    for row in after:
        if isinstance(row, CoverageRow):
            assert row.expected == row.processed + sum(row[6:]), "the table's check holds"


def test_sixty_seconds_become_one_minute() -> None:
    rows = [CountRow(START_S + s, 1.0, "a", "person", "", "m@1", 10, 20, 40, s, s, 1, 0.5) for s in range(60)]
    (minute,) = merged(rows)
    assert minute == CountRow(START_S, 60.0, "a", "person", "", "m@1", 600, 1200, 2400, 0, 59, 60, 0.5)


def test_an_interval_without_frames_says_nothing_about_least_and_greatest() -> None:
    seen = CountRow(START_S, 1.0, "a", "person", "", "m@1", 10, 50, 250, 5, 5, 0, 0.5)
    blind = seen._replace(time_s=START_S + 1, samples=0, n_sum=0, n_sumsq=0, n_min=0, n_max=0)
    (row,) = merged([blind, seen])
    assert isinstance(row, CountRow)
    assert (row.n_min, row.n_max) == (5, 5)


def test_what_cannot_be_merged_stays_as_it_is() -> None:
    good = CountRow(START_S, 1.0, "a", "person", "", "m@1", 10, 50, 250, 5, 5, 0, 0.5)
    event = EventRow(START_S, "e", "a", "camera.lost", "info", "", {})
    odd: list[Row] = [
        event,
        good._replace(interval_s=120.0),  # a slow camera: two minutes
        good._replace(time_s=START_S + 30, interval_s=60.0),  # lies in two
        good._replace(samples=-1),  # the table would refuse it, and the sum with it
        good._replace(time_s=math.nan),
        good._replace(n_sum=10**12),
        CoverageRow(START_S, 1.0, "a", 1.0, 10, 9, 0, 0, 0, 0, 0),  # 10 is not 9
    ]
    after = merged([good, *odd, good])
    assert [repr(row) for row in after[1:]] == [repr(row) for row in odd]
    assert after[0] == good._replace(interval_s=60.0, samples=20, n_sum=100, n_sumsq=500)
