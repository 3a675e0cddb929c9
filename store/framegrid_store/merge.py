"""Counts and coverage in fewer rows, with nothing lost that a minute, an hour or a day can tell. Pure.

Rows of one camera, class, zone, model and minute become one row of that minute. What the tables add up stays
the same to the last unit, in the tables' own units (milliseconds, thousandths): samples, sums, sums of
squares, uniques, scores, observed time, frames expected, processed and dropped; least and greatest stay too.
What is lost is where within the minute it happened: `bi.counts_5s` shows a merged minute in its first bucket.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

from framegrid_store.rows import CountRow, CoverageRow, Row

MERGED_S = 60.0
_MOST = 1_000_000
"""Of samples, frames or objects in one row: thousands of such rows still fit an integer column."""


def merged(rows: Sequence[Row]) -> list[Row]:
    """Counts and coverage by the minute, then every other row as it was.

    A row that does not lie within one minute (slow cameras have longer intervals) stays as it is, and so does
    one that the tables would refuse: added to others it would take them along.
    """
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    rest: list[Row] = []
    for row in rows:
        if type(row) is CountRow and _is_sound(row) and (minute_s := _minute_s(row)) is not None:
            groups["count", minute_s, row.camera, row.cls, row.zone, row.model].append(row)
        elif type(row) is CoverageRow and _is_sound(row) and (minute_s := _minute_s(row)) is not None:
            groups["coverage", minute_s, row.camera].append(row)
        else:
            rest.append(row)
    return [_merged(group) for group in groups.values()] + rest


def _is_sound(row: CountRow | CoverageRow) -> bool:
    """Whether the tables' checks hold, with room for sums."""
    if not all(map(math.isfinite, (row.time_s, row.interval_s))):
        return False
    if isinstance(row, CountRow):
        numbers = (row.samples, row.n_sum, row.uniques)
        return all(0 <= n <= _MOST for n in numbers) and math.isfinite(row.score_mean)
    outcomes = (
        row.processed,
        row.dropped_no_frame,
        row.dropped_overload,
        row.dropped_stale,
        row.dropped_refused,
        row.dropped_corrupt,
    )
    is_whole = row.expected == sum(outcomes) and math.isfinite(row.observed_s)
    return is_whole and all(0 <= n <= _MOST for n in outcomes)


def _minute_s(row: CountRow | CoverageRow) -> float | None:
    start_s = math.floor(row.time_s / MERGED_S) * MERGED_S
    # Half a millisecond: starts are multiples of, say, 0.1 s, which floats only approach.
    return start_s if row.time_s + row.interval_s <= start_s + MERGED_S + 0.0005 else None


def _merged(group: Sequence[Row]) -> Row:
    if len(group) == 1:
        return group[0]
    if type(group[0]) is CountRow:
        return _merged_counts([row for row in group if type(row) is CountRow])
    return _merged_coverage([row for row in group if type(row) is CoverageRow])


def _merged_counts(group: Sequence[CountRow]) -> CountRow:
    looked = [row for row in group if row.samples] or group[:1]
    n_sum = sum(row.n_sum for row in group)
    score_milli_sum = sum(round(row.score_mean * row.n_sum * 1000) for row in group)
    return group[0]._replace(
        time_s=_start_s(group[0]),
        interval_s=MERGED_S,
        samples=sum(row.samples for row in group),
        n_sum=n_sum,
        n_sumsq=sum(row.n_sumsq for row in group),
        n_min=min(row.n_min for row in looked),
        n_max=max(row.n_max for row in looked),
        uniques=sum(row.uniques for row in group),
        score_mean=score_milli_sum / 1000 / n_sum if n_sum else 0.0,
    )


def _merged_coverage(group: Sequence[CoverageRow]) -> CoverageRow:
    return group[0]._replace(
        time_s=_start_s(group[0]),
        interval_s=MERGED_S,
        observed_s=sum(round(row.observed_s * 1000) for row in group) / 1000,
        expected=sum(row.expected for row in group),
        processed=sum(row.processed for row in group),
        dropped_no_frame=sum(row.dropped_no_frame for row in group),
        dropped_overload=sum(row.dropped_overload for row in group),
        dropped_stale=sum(row.dropped_stale for row in group),
        dropped_refused=sum(row.dropped_refused for row in group),
        dropped_corrupt=sum(row.dropped_corrupt for row in group),
    )


def _start_s(row: CountRow | CoverageRow) -> float:
    return math.floor(row.time_s / MERGED_S) * MERGED_S
