"""Shapes of load: how many cameras there are at which time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Phase:
    """A time with one number of cameras."""

    name: str
    cameras: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Shape:
    """Phases one after another. `recovers` are those that begin with a change to be recovered from."""

    name: str
    phases: tuple[Phase, ...]
    recovers: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float:
        return sum(phase.seconds for phase in self.phases)

    def at(self, elapsed_s: float) -> Phase | None:
        """The phase at that time; None after the last."""
        ends_s = accumulate(phase.seconds for phase in self.phases)
        return next(
            (phase for phase, end_s in zip(self.phases, ends_s, strict=True) if elapsed_s < end_s), None
        )


def steady(cameras: int, unit_s: float) -> Shape:
    """All cameras, all the time."""
    return Shape("steady", (Phase("steady", cameras, 3 * unit_s),))


def step(cameras: int, unit_s: float) -> Shape:
    """A quarter of the cameras, then four times as many at once."""
    before = max(1, round(cameras / 4))
    phases = (Phase("before", before, unit_s), Phase("after x4", 4 * before, 4 * unit_s))
    return Shape("step", phases, frozenset({"after x4"}))


def burst(cameras: int, unit_s: float) -> Shape:
    """Half the cameras, and twice for half a unit twice as many as `cameras`."""
    calm, peak = max(1, cameras // 2), 2 * cameras
    phases = (
        Phase("calm", calm, unit_s),
        Phase("burst 1", peak, unit_s / 2),
        Phase("after burst 1", calm, 1.5 * unit_s),
        Phase("burst 2", peak, unit_s / 2),
        Phase("after burst 2", calm, 1.5 * unit_s),
    )
    return Shape("burst", phases, frozenset({"after burst 1", "after burst 2"}))


SHAPES: Mapping[str, Callable[[int, float], Shape]] = {"steady": steady, "step": step, "burst": burst}
