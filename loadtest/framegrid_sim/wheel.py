"""One timer for all the cameras of a frame rate.

A frame's period is cut into slots and the cameras are spread over them, so that two hundred cameras neither
wake the loop two hundred times a frame nor all send at once. Tick m is at epoch_s + m / (fps * slots): slot
m mod slots, frame m // slots. A late wheel sends each camera its newest frame only and counts the ticks
left out.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

MIN_SLOT_S = 0.005  # finer than this, waking costs more than spreading the load wins
MAX_SLOTS = 32
ROUNDING_TICKS = 1e-3


def slots_for(fps: float, cameras: int) -> int:
    """How many slots to cut a period into."""
    return max(1, min(cameras, MAX_SLOTS, int(1 / (fps * MIN_SLOT_S))))


class FrameWheel:
    """Calls `show(slot, frame)` at each slot that `is_watched`, in order of time.

    `run_due` is the whole logic and takes the time as a value; `poke` arms the event loop's timer.
    """

    def __init__(
        self,
        fps: float,
        slots: int,
        epoch_s: float,
        *,
        show: Callable[[int, int], None],
        is_watched: Callable[[int], bool],
        clock: Callable[[], float],
    ) -> None:
        self.fps = fps
        self.slots = slots
        self.late_ticks = 0
        self._tick_s = 1 / (fps * slots)
        self._epoch_s = epoch_s
        self._show = show
        self._is_watched = is_watched
        self._clock = clock
        self._done = self._tick_at(clock())
        self._timer: asyncio.TimerHandle | None = None

    def slot_epoch_s(self, slot: int) -> float:
        """Unix time of frame 0 of a slot."""
        return self._epoch_s + slot * self._tick_s

    def poke(self) -> None:
        """Somebody came to watch: see to it that the next watched slot is served. Event loop only."""
        if self._timer is None:
            self._done = max(self._done, self._tick_at(self._clock()))
        self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def run_due(self, now_s: float) -> None:
        """Serve every tick that is due and not done."""
        newest = self._tick_at(now_s)
        first = self._done + 1
        if newest - first >= self.slots:
            self.late_ticks += newest - self.slots + 1 - first
            first = newest - self.slots + 1
        if newest < self._done - self.slots:  # the wall clock was set back: follow it
            self._done = newest
        for tick in range(first, newest + 1):
            self._done = tick
            slot = tick % self.slots
            if self._is_watched(slot):
                self._show(slot, tick // self.slots)

    def wait_s(self, now_s: float) -> float | None:
        """Seconds to the next watched slot; None when nobody watches."""
        for tick in range(self._done + 1, self._done + 1 + self.slots):
            if self._is_watched(tick % self.slots):
                wait_s = self._epoch_s + tick * self._tick_s - now_s
                return min(max(wait_s, 0.0), 1 / self.fps)
        return None

    def _wake(self) -> None:
        self._timer = None
        self.run_due(self._clock())
        self._arm()

    def _arm(self) -> None:
        self.stop()
        wait_s = self.wait_s(self._clock())
        if wait_s is not None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake)

    def _tick_at(self, now_s: float) -> int:
        return math.floor((now_s - self._epoch_s) / self._tick_s + ROUNDING_TICKS)
