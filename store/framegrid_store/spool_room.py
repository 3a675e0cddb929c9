"""What goes first when the spool is full: rows to fewer rows, in steps from cheap to dear. Pure.

Detections go; counts and coverage are merged into minutes, which loses nothing that a minute's view shows;
then the oldest minutes go, then tracks, then crossings. Events never go. A step is taken on the oldest file
of its lane, and only as many steps as are needed. Files that were never sent are merged many at a time; then
merged files among themselves, because they may hold parts of the same minutes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from framegrid_store.facts import table_of
from framegrid_store.merge import merged
from framegrid_store.rows import CountRow, CoverageRow, CrossingRow, DetectionRow, EventRow, Row, TrackRow
from framegrid_store.spool_file import Lane

Change = Callable[[Sequence[Row]], "list[Row]"]
ADDITIVE = (CountRow, CoverageRow)


@dataclass(frozen=True, slots=True)
class Step:
    """A file of `lane` becomes one of `becomes` with fewer rows; None: it goes as a whole.

    Where both are the same only several files together get fewer.
    """

    lane: Lane
    becomes: Lane | None
    change: Change

    def count(self, before: Sequence[Row], after: Sequence[Row]) -> tuple[Counter[str], Counter[str]]:
        """Rows that went, by table: merged into others, and dropped."""
        missing = Counter(map(type, before)) - Counter(map(type, after))
        merges = self.becomes in (Lane.MINUTE, Lane.THIN)
        by_merging = {kind: n for kind, n in missing.items() if merges and kind in ADDITIVE}
        return _by_table(by_merging), _by_table({k: n for k, n in missing.items() if k not in by_merging})


def without(*kinds: type[Any]) -> Change:
    """A change that leaves rows of these kinds out."""
    return lambda rows: [row for row in rows if type(row) not in kinds]


def gone(_: Sequence[Row]) -> list[Row]:
    """Nothing is left."""
    return []


STEPS = (
    Step(Lane.DETECTION, None, gone),
    Step(Lane.MIXED, Lane.THIN, lambda rows: merged(without(DetectionRow)(rows))),
    Step(Lane.ADDITIVE, Lane.MINUTE, merged),
    Step(Lane.MINUTE, Lane.MINUTE, merged),
    Step(Lane.MINUTE, None, gone),
    Step(Lane.THIN, Lane.KEPT, without(*ADDITIVE)),
    Step(Lane.KEPT, Lane.BRIEF, without(TrackRow)),
    Step(Lane.BRIEF, Lane.EVENT, without(CrossingRow)),
)
_FOR_COUNTS = STEPS[:5]
EXPIRE = without(CountRow, CoverageRow, TrackRow, CrossingRow, DetectionRow)
"""What is left of a file that is too old."""


def steps_for(lane: Lane) -> tuple[Step, ...]:
    """What may be given up to make room for a file of this lane: nothing that is worth more."""
    if lane is Lane.DETECTION:
        return ()
    return _FOR_COUNTS if lane is Lane.ADDITIVE else STEPS


def by_lane(rows: Sequence[Row]) -> dict[Lane, list[Row]]:
    """Rows of a batch that was never sent, by file: worth most first, so that it is safe first."""
    order = (Lane.EVENT, Lane.KEPT, Lane.ADDITIVE, Lane.DETECTION)
    lanes: dict[Lane, list[Row]] = {lane: [] for lane in order}
    for row in rows:
        lanes[_LANES.get(type(row), Lane.KEPT)].append(row)
    if lanes[Lane.KEPT]:  # one file for the few events and the few tracks that come with them
        lanes[Lane.KEPT] += lanes.pop(Lane.EVENT)
    return {lane: of_lane for lane, of_lane in lanes.items() if of_lane}


_LANES: dict[type[Any], Lane] = {
    DetectionRow: Lane.DETECTION,
    CountRow: Lane.ADDITIVE,
    CoverageRow: Lane.ADDITIVE,
    EventRow: Lane.EVENT,
}


def _by_table(kinds: dict[type[Any], int]) -> Counter[str]:
    return Counter({table_of(kind): n for kind, n in kinds.items()})
