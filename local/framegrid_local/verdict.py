"""Are the demo's counts right? Line crossings in SQL against the simulator's exact truth. Pure.

A crossing within EDGE_S of the window's ends may be in or out of it: its measured time differs a little
from the true one, and an object under way when counting began has no track yet. So each cell (camera, line,
class, direction) is wrong only by how far the truth lies outside [counted surely inside, counted inside or
at an edge]:

    error = sum of max(0, least - truth, truth - most)  over the cells
    count_error = error / max(1, sum of truth)
    right when error <= max(ALLOWED_CROSSINGS, ALLOWED_SHARE * sum of truth)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

EDGE_S = 1.0
# The simulator's scenes overlap and queue on purpose: one crossing in ten may be missed before the demo says
# that something is broken. The counting gate over ten long clips (2 %) is in `make bench`.
ALLOWED_SHARE = 0.10
# In a short window one bad crossing would be a large share.
ALLOWED_CROSSINGS = 2


class Cell(NamedTuple):
    """What is compared one by one."""

    camera: str
    line: str
    cls: str
    direction: str


class TimedCrossing(NamedTuple):
    """A stored crossing."""

    cell: Cell
    time_s: float


@dataclass(frozen=True, slots=True)
class CountVerdict:
    """The comparison. `wrong` lists the cells that are off: (counted, truth)."""

    counted: int
    truth: int
    error: int
    wrong: Mapping[Cell, tuple[int, int]]

    @property
    def count_error(self) -> float:
        """Share of the true crossings, 0 = exact."""
        return self.error / max(1, self.truth)

    @property
    def is_right(self) -> bool:
        """Within what is allowed; see the module."""
        return self.error <= max(ALLOWED_CROSSINGS, ALLOWED_SHARE * self.truth)


def compare(
    crossings: Iterable[TimedCrossing], truth: Mapping[Cell, int], from_s: float, to_s: float
) -> CountVerdict:
    """Crossings stored (any time) against the true numbers of the window [from_s, to_s)."""
    surely, perhaps, counted = Counter[Cell](), Counter[Cell](), Counter[Cell]()
    for cell, time_s in crossings:
        surely[cell] += from_s + EDGE_S <= time_s < to_s - EDGE_S
        perhaps[cell] += from_s - EDGE_S <= time_s < to_s + EDGE_S
        counted[cell] += from_s <= time_s < to_s
    wrong: dict[Cell, tuple[int, int]] = {}
    error = 0
    for cell in {*truth, *perhaps}:
        true = truth.get(cell, 0)
        off = max(0, surely[cell] - true, true - perhaps[cell])
        if off:
            error += off
            wrong[cell] = (counted[cell], true)
    return CountVerdict(sum(counted.values()), sum(truth.values()), error, wrong)
