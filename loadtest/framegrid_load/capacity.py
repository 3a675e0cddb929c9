"""How many cameras a target carries: found by trying, not by extrapolating from one point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from framegrid_load.fleet import FleetProcess
from framegrid_load.tally import P95, Tally, finite

_RESOLUTION = 0.05  # of the number of cameras
_MOST_CAMERAS = 100_000
# Beyond this the sender itself was late, and says nothing about the target.
LAG_P99_MS = 50.0


class GeneratorLimitError(RuntimeError):
    """The load generator, not the target, was the limit."""


@dataclass(frozen=True, slots=True)
class Trial:
    """So many cameras for so long, everything counted from their first frame on."""

    cameras: int
    seconds: float
    frames: int
    lost_share: float
    p50_ms: float
    p95_ms: float
    passed: bool

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        for key in ("p50_ms", "p95_ms"):
            values[key] = finite(values[key])  # None: more were lost
        return {**values, "lost_share": round(self.lost_share, 4)}


@dataclass(frozen=True, slots=True)
class Goal:
    """What counts as carried."""

    p95_ms: float = 500.0
    lost_share: float = 0.01

    def trial_of(self, cameras: int, seconds: float, tally: Tally) -> Trial:
        """The verdict on a tally."""
        p95_ms = tally.quantile_ms(P95)
        passed = tally.frames > 0 and p95_ms < self.p95_ms and tally.lost_share <= self.lost_share
        return Trial(cameras, seconds, tally.frames, tally.lost_share, tally.quantile_ms(0.5), p95_ms, passed)


def search(try_cameras: Callable[[int, bool], Trial], first: int = 4) -> tuple[int, list[Trial]]:
    """The most cameras that pass, and every trial. 0 when one camera does not.

    Doubles until a trial fails, halves the interval to 5 %, then asks for a long trial (the second argument
    true) of what it found: a slight overload takes longer than a short trial to show. What fails there is
    lowered by 5 % and tried again.
    """
    trials: list[Trial] = []

    def passes(cameras: int, is_long: bool = False) -> bool:
        trials.append(try_cameras(cameras, is_long))
        return trials[-1].passed

    good, bad = 0, 0
    cameras = max(1, first)
    while not bad:
        if cameras > _MOST_CAMERAS:
            raise GeneratorLimitError(f"expected fewer than {_MOST_CAMERAS} cameras to be carried")
        if passes(cameras):
            good, cameras = cameras, cameras * 2
        else:
            bad = cameras
    while bad - good > max(1, math.floor(good * _RESOLUTION)):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if passes(middle) else (good, middle)
    while good and not passes(good, True):
        good = min(good - 1, math.floor(good * (1 - _RESOLUTION)))
    return good, trials


class Prober:
    """Trials on a running fleet."""

    def __init__(
        self,
        fleet: FleetProcess,
        goal: Goal,
        *,
        short_s: float = 8.0,
        long_s: float = 30.0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._fleet = fleet
        self._goal = goal
        self._seconds = {False: short_s, True: long_s}
        self._tell = tell

    def __call__(self, cameras: int, is_long: bool) -> Trial:
        """Raises GeneratorLimitError when the sender was late."""
        seconds = self._seconds[is_long]
        from_s = self._fleet.set_cameras(cameras)
        time.sleep(seconds)
        to_s = self._fleet.set_cameras(0)
        time.sleep(self._fleet.options.deadline_s + 1.0)  # answers under way; the next trial starts empty
        tally = self._fleet.timeline.total(math.floor(from_s), math.ceil(to_s))
        lag_ms = tally.lag_quantile_ms(0.99)
        if lag_ms > LAG_P99_MS:
            raise GeneratorLimitError(
                f"expected the cameras to be on time, got p99 {lag_ms:.0f} ms late at {cameras}: their "
                f"process had no core; run the load from another machine"
            )
        trial = self._goal.trial_of(cameras, seconds, tally)
        self._tell(
            f"  {cameras} cameras for {seconds:g} s: p95 {ms_text(trial.p95_ms)}, "
            f"{trial.lost_share:.1%} lost: {'carried' if trial.passed else 'too many'}"
        )
        return trial


def ms_text(ms: float) -> str:
    """For people."""
    return f"{ms:.0f} ms" if math.isfinite(ms) else "beyond measure (frames were lost)"
