"""What cameras offered to serve and lost, told along with requests so that serve can size itself.

Each frame is told once, with a request for its model: `take` hands the figures to a request, `give_back`
returns those of one that serve did not count. Figures that nobody took within KEPT_S are forgotten: after
serve was away, the frames of the past ten minutes say nothing about the load of now.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from framegrid_ingest.clock import Clock

# As long as the window over which serve takes its means (framegrid_serve.load_meter).
KEPT_S = 3.0
_BUCKET_S = 0.25


@dataclass(slots=True)
class _Bucket:
    began_s: float
    offered: int = 0
    dropped: int = 0


@dataclass(slots=True)
class Taken:
    """Figures that a request carries."""

    offered: int = 0
    dropped: int = 0
    buckets: list[_Bucket] = field(default_factory=list)


class Load:
    """Of one process, by model. For one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, deque[_Bucket]] = {}

    def add(self, model: str, *, is_dropped: bool = False) -> None:
        """A frame for `model` got its outcome."""
        now_s = self._clock.monotonic_s()
        buckets = self._buckets.setdefault(model, deque())
        if not buckets or now_s - buckets[-1].began_s >= _BUCKET_S:
            _forget(buckets, now_s)
            buckets.append(_Bucket(now_s))
        buckets[-1].offered += 1
        buckets[-1].dropped += is_dropped

    def take(self, model: str) -> Taken:
        """Everything about `model`; it is now the caller's."""
        buckets = self._buckets.pop(model, deque())
        _forget(buckets, self._clock.monotonic_s())
        return Taken(sum(b.offered for b in buckets), sum(b.dropped for b in buckets), list(buckets))

    def give_back(self, model: str, taken: Taken) -> None:
        """Serve did not count these."""
        merged = [*taken.buckets, *self._buckets.get(model, ())]
        self._buckets[model] = deque(sorted(merged, key=lambda bucket: bucket.began_s))
        _forget(self._buckets[model], self._clock.monotonic_s())


def _forget(buckets: deque[_Bucket], now_s: float) -> None:
    while buckets and now_s - buckets[0].began_s > KEPT_S:
        buckets.popleft()
