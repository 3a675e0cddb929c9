"""Which frames of a camera are wanted: the ticks of a steady clock, each with at most one frame.

A camera with `fps: f` has ticks at (k + phase) / f, k an integer, phase fixed by the camera's name (so that
polled cameras do not all ask at once). Each tick is one expected frame. It is claimed by the first frame that
reaches it, or it is missed.

A frame may claim tick k when it was captured in [t_k - early, t_k + 1/f): early is half the camera's own
frame interval (so the frame nearest to the tick is taken), and the window's end overlaps the next tick's
window, which keeps a camera whose rate equals the sampling rate from losing frames to jitter. Pure: reads no
clock.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import NamedTuple

# Seconds beyond its window that a tick is kept open for a frame that was captured in it and arrives late.
GRACE_S = 0.1
# A tick grid that is off by more than this has met a clock that was set, or a machine that slept.
MAX_GAP_S = 60.0


class Tick(NamedTuple):
    """One expected frame. `number` is unique per camera, ascending, without holes but for `restart`."""

    number: int
    time_s: float


class Offer(NamedTuple):
    """What became of an offered frame: the tick it claimed, if any, and the ticks it shows to be missed."""

    tick: Tick | None
    missed: range


_NONE = range(0)


class Sampler:
    """Ticks of one camera. Not thread-safe."""

    def __init__(
        self, fps: float, start_s: float, phase: float = 0.0, until_s: Callable[[], float] = lambda: math.inf
    ) -> None:
        """`until_s`: no later tick is claimed or missed; asked again each time, since it may move on."""
        self.fps = fps
        self._phase = phase % 1.0
        self._start_s = start_s
        self._until_s = until_s
        self._next = self._first_at(start_s)
        self._last_captured_s = -math.inf
        self._frame_interval_s = math.inf
        self._last_offered_s = -math.inf
        self._lag_s = 0.0

    @property
    def next_tick(self) -> Tick:
        """The first tick that is neither claimed nor missed."""
        return Tick(self._next, self.time_of(self._next))

    def time_of(self, number: int) -> float:
        """Unix seconds of a tick."""
        return (number + self._phase) / self.fps

    def offer(self, captured_at_s: float, arrived_at_s: float | None = None) -> Offer:
        """Show a frame, in order of capture. `arrived_at_s` tells how far behind capture times come."""
        self._learn(captured_at_s, arrived_at_s)
        if not self.may_want(captured_at_s):
            return Offer(None, _NONE)
        first = self._next
        claimed = self._reached(captured_at_s)
        self._next = claimed + 1
        self._last_captured_s = captured_at_s
        return Offer(Tick(claimed, self.time_of(claimed)), range(first, claimed))

    def may_want(self, captured_at_s: float) -> bool:
        """Whether a frame of that time would claim a tick."""
        early_s = 0.5 * min(1.0 / self.fps, self._frame_interval_s)
        return (
            captured_at_s > self._last_captured_s
            and captured_at_s >= self.time_of(self._next) - early_s
            and self.time_of(self._reached(captured_at_s)) <= self._until_s()
        )

    def expire(self, now_s: float) -> range:
        """Ticks that no frame can claim any more at `now_s`."""
        open_from_s = min(now_s - self._lag_s - GRACE_S - 1.0 / self.fps, self._until_s())
        first = self._next
        if open_from_s > self.time_of(first):
            self._next = max(first, self._first_at(open_from_s))
        return range(first, self._next)

    def has_jumped(self, now_s: float) -> bool:
        """Whether the next tick is so far from `now_s` that the clock must have been set; then `restart`."""
        if self._last_captured_s == -math.inf and now_s < self._start_s:
            return False  # waiting for its start, which may be far ahead
        return abs(now_s - self._lag_s - self.time_of(self._next)) > max(MAX_GAP_S, 3.0 / self.fps)

    def restart(self, now_s: float) -> range:
        """Go on from `now_s`. The numbers in between were never expected; empty when the clock went back."""
        first = self._next
        self._next = self._first_at(now_s)
        self._last_captured_s = -math.inf
        return range(first, self._next)

    def _reached(self, captured_at_s: float) -> int:
        """The tick that a frame of that time claims, if any."""
        if captured_at_s < self.time_of(self._next) + 1.0 / self.fps:
            return self._next
        return max(self._next, math.floor(captured_at_s * self.fps - self._phase))

    def _first_at(self, time_s: float) -> int:
        return math.ceil(time_s * self.fps - self._phase - 1e-6)

    def _learn(self, captured_at_s: float, arrived_at_s: float | None) -> None:
        interval_s = captured_at_s - self._last_offered_s
        self._last_offered_s = captured_at_s
        if 0.0 < interval_s < math.inf:
            known = math.isfinite(self._frame_interval_s)
            self._frame_interval_s += (interval_s - self._frame_interval_s) * 0.1 if known else 0.0
            self._frame_interval_s = self._frame_interval_s if known else interval_s
        if arrived_at_s is not None:  # peak, forgotten over a few hundred frames
            self._lag_s = max(arrived_at_s - captured_at_s, self._lag_s * 0.99, 0.0)


def phase_of(camera: str) -> float:
    """A camera's share of the sampling interval, 0..1; the same after every restart."""
    return zlib.crc32(camera.encode()) / 2**32
