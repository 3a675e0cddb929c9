"""What became of the frames: counts by the second in which each was due, exact to the millisecond.

A frame that was not answered counts as slower than every answered one. Otherwise a server that drops what it
cannot do would look fast.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

P95 = 0.95
# A p95 of fewer frames than this says nothing.
_FEWEST_FRAMES = 5


class Outcome(str, Enum):
    """How a frame ended. Only `OK` was detected."""

    OK = "ok"
    STALE = "stale"  # serve gave it up: its time was spent in the queue
    REFUSED = "refused"  # 429: the queue was full
    UNSENT = "unsent"  # its time was spent before a connection was free
    FAILED = "failed"  # serve answered that it cannot
    BROKEN = "broken"  # an error status, a broken connection, no answer


SHED = (Outcome.STALE, Outcome.REFUSED, Outcome.UNSENT)  # what overload may cost
WRONG = (Outcome.FAILED, Outcome.BROKEN)  # what nothing may


@dataclass(slots=True)
class Tally:
    """Frames that were due in one span of time."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    latency_ms: Counter[int] = field(default_factory=Counter)  # of those OK: due until answered, rounded up
    lag_ms: Counter[int] = field(default_factory=Counter)  # of all: due until the sender took notice

    @property
    def frames(self) -> int:
        return self.outcomes.total()

    @property
    def lost(self) -> int:
        return self.frames - self.outcomes[Outcome.OK]

    @property
    def lost_share(self) -> float:
        return self.lost / self.frames if self.frames else 0.0

    def count(self, outcome: Outcome, latency_s: float = 0.0) -> None:
        """One frame has ended."""
        self.outcomes[outcome] += 1
        if outcome is Outcome.OK:
            self.latency_ms[rounded_ms(latency_s)] += 1

    def add(self, other: Tally) -> None:
        """Count these frames too."""
        self.outcomes.update(other.outcomes)
        self.latency_ms.update(other.latency_ms)
        self.lag_ms.update(other.lag_ms)

    def quantile_ms(self, share: float) -> float:
        """Within this latency that share of all frames was answered; 0 without frames.

        Infinite when more than the rest is lost.
        """
        return _quantile(self.latency_ms, self.frames, share)

    def lag_quantile_ms(self, share: float) -> float:
        """The same for the sender's own delay."""
        return _quantile(self.lag_ms, self.lag_ms.total(), share)

    def to_json(self) -> dict[str, Any]:
        return {
            "outcomes": {outcome.value: count for outcome, count in self.outcomes.items()},
            "latency_ms": dict(self.latency_ms),
            "lag_ms": dict(self.lag_ms),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tally:
        return cls(
            Counter({Outcome(name): count for name, count in data["outcomes"].items()}),
            Counter({int(ms): count for ms, count in data["latency_ms"].items()}),
            Counter({int(ms): count for ms, count in data["lag_ms"].items()}),
        )


class Timeline:
    """Tallies by second since the start of a run."""

    def __init__(self) -> None:
        self.seconds: dict[int, Tally] = {}

    def at(self, second: int) -> Tally:
        """The tally of that second, made when it is not there."""
        return self.seconds.setdefault(second, Tally())

    def add(self, seconds: Mapping[int, Tally]) -> None:
        """Count these frames too."""
        for second, tally in seconds.items():
            self.at(second).add(tally)

    def total(self, from_s: float = 0.0, to_s: float = math.inf) -> Tally:
        """All frames due in `from_s <= second < to_s`."""
        return summed(tally for second, tally in self.seconds.items() if from_s <= second < to_s)

    def recovery_s(self, changed_s: float, until_s: float, target_ms: float) -> float | None:
        """Seconds from a change of load until the p95 of each second stays within the target.

        0 when no second missed it; None when the last second still does.
        """
        last_bad = None
        seconds = [s for s in sorted(self.seconds) if changed_s <= s < until_s]
        for second in seconds:
            tally = self.seconds[second]
            if tally.frames >= _FEWEST_FRAMES and tally.quantile_ms(P95) > target_ms:
                last_bad = second
        if last_bad is None:
            return 0.0
        return None if last_bad == seconds[-1] else last_bad + 1 - changed_s


def summed(tallies: Iterable[Tally]) -> Tally:
    """One tally of many."""
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def rounded_ms(seconds: float) -> int:
    """Milliseconds, rounded up; from a second on to the next ten, to keep tallies small."""
    ms = max(0, math.ceil(seconds * 1e3))
    return ms if ms < 1000 else -(-ms // 10) * 10


def finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def _quantile(values: Counter[int], total: int, share: float) -> float:
    if not total:
        return 0.0
    wanted = math.ceil(share * total)
    for value in sorted(values):
        wanted -= values[value]
        if wanted <= 0:
            return float(value)
    return math.inf
