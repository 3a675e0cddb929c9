"""Per-interval numbers of one camera: what is written to SQL.

Capture time is cut in steps aligned to the epoch. A tick belongs to the interval of its own time, whatever
happened to it, so coverage and counts agree. Cameras sampled more slowly than `interval_s` get the next
longer step that divides a minute, an hour or a day, so that roll-ups nest. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from framegrid_store.rows import CountRow, CoverageRow

from framegrid_ingest.outcomes import DropReason

_STEPS_S = (
    1,
    2,
    5,
    10,
    15,
    20,
    30,
    60,
    120,
    300,
    600,
    900,
    1200,
    1800,
    3600,
    7200,
    14400,
    21600,
    43200,
    86400,
)


def interval_for(fps: float, interval_s: float) -> float:
    """`interval_s`, or the shortest nesting step that holds at least one tick."""
    tick_s = 1.0 / fps
    if tick_s <= interval_s * (1 + 1e-9):
        return interval_s
    return next((float(step) for step in _STEPS_S if step >= max(tick_s * (1 - 1e-9), interval_s)), 86400.0)


@dataclass(slots=True)
class _Cell:
    """n(f) of one class in one zone, by one model."""

    samples: int = 0
    n_sum: int = 0
    n_sumsq: int = 0
    n_min: int = 0
    n_max: int = 0
    uniques: int = 0
    score_sum: float = 0.0

    def add(self, n: int) -> None:
        self.n_min = n if self.samples == 0 else min(self.n_min, n)
        self.n_max = max(self.n_max, n)
        self.samples += 1
        self.n_sum += n
        self.n_sumsq += n * n


@dataclass(slots=True)
class Interval:
    """One camera's interval while it is open."""

    camera: str
    time_s: float
    interval_s: float
    expected: int = 0
    processed: int = 0
    dropped: dict[DropReason, int] = field(default_factory=lambda: dict.fromkeys(DropReason, 0))
    captured_s: list[float] = field(default_factory=list)
    _cells: dict[tuple[str, str, str], _Cell] = field(default_factory=dict)

    def drop(self, reason: DropReason) -> None:
        """A tick without a counted frame."""
        self.expected += 1
        self.dropped[reason] += 1

    def count(
        self,
        model: str,
        counts: Mapping[tuple[str, str], int],
        new_uniques: Mapping[str, int],
        score_sums: Mapping[tuple[str, str], float],
        captured_s: float,
    ) -> None:
        """A processed frame: n by (zone, class); new visits by class, the sum of scores as n."""
        self.expected += 1
        self.processed += 1
        self.captured_s.append(captured_s)
        for (zone, cls), n in counts.items():
            cell = self._cells.get((zone, cls, model))
            if cell is None:
                cell = self._cells[zone, cls, model] = _Cell()
            cell.add(n)
            if zone == "":
                cell.uniques += new_uniques.get(cls, 0)
            cell.score_sum += score_sums.get((zone, cls), 0.0)

    def rows(self, tick_s: float) -> list[CountRow | CoverageRow]:
        """Coverage first, then one count per zone, class and model. `tick_s` is what one frame stands for."""
        # An interval that begins or ends with the camera holds fewer ticks than it has room for.
        watched_s = min(self.interval_s, (self.expected + 1) * tick_s)
        observed_s = watched_s * self.processed / self.expected if self.expected else 0.0
        dropped = [self.dropped[reason] for reason in DropReason]
        rows: list[CountRow | CoverageRow] = [
            CoverageRow(
                self.time_s, self.interval_s, self.camera, observed_s, self.expected, self.processed, *dropped
            )
        ]
        for (zone, cls, model), cell in self._cells.items():
            score = cell.score_sum / cell.n_sum if cell.n_sum else 0.0
            rows.append(
                CountRow(
                    self.time_s,
                    self.interval_s,
                    self.camera,
                    cls,
                    zone,
                    model,
                    cell.samples,
                    cell.n_sum,
                    cell.n_sumsq,
                    cell.n_min,
                    cell.n_max,
                    cell.uniques,
                    min(1.0, score),
                )
            )
        return rows


class Intervals:
    """The open interval of one camera; closes the one before when time moves on."""

    def __init__(self, camera: str, fps: float, interval_s: float) -> None:
        self._camera = camera
        self._tick_s = 1.0 / fps
        self.interval_s = interval_for(fps, interval_s)
        self._open: Interval | None = None
        self._index = 0

    def at(self, tick_time_s: float) -> Interval:
        """The open interval for a tick. `advance` must have been called with its time."""
        index = self._index_of(tick_time_s)
        if self._open is None:
            self._index = index
            self._open = Interval(self._camera, index * self.interval_s, self.interval_s)
        elif index != self._index:
            raise ValueError(f"expected interval {self._index} to be closed before {index} is opened")
        return self._open

    def advance(self, next_tick_s: float) -> Interval | None:
        """No tick before `next_tick_s` is still to come. Returns the interval that this closes."""
        if self._open is None or self._index_of(next_tick_s) == self._index:
            return None
        return self.close()

    def close(self) -> Interval | None:
        """The open interval as it is, or None."""
        closed, self._open = self._open, None
        return closed

    def rows(self, interval: Interval) -> list[CountRow | CoverageRow]:
        """Rows of a closed interval."""
        return interval.rows(self._tick_s)

    def _index_of(self, time_s: float) -> int:
        # A tick a rounding error before a boundary belongs behind it.
        return math.floor(time_s / self.interval_s + 1e-6)
