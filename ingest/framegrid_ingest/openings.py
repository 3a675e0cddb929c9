"""How many cameras are opened at once: a hundred that move to this process do not come as a herd.

A camera takes a place before it is opened for the first time and frees it when pictures come, when opening
failed, or after a second, so that cameras that hang keep nobody waiting for long. Later attempts wait by
their own backoff. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

PLACES = 16
HOLD_S = 1.0
_JITTER_S = 0.05


class Openings:
    """Places for cameras that are being opened."""

    def __init__(self, places: int = PLACES, hold_s: float = HOLD_S) -> None:
        self._places = asyncio.Semaphore(places)
        self._hold_s = hold_s

    async def enter(self) -> Callable[[], None]:
        """Wait for a place. Call what this returns when the camera is open; once or more often."""
        await self._places.acquire()
        place = _Place(self._places)
        timer = asyncio.get_running_loop().call_later(self._hold_s, place.free)
        place.on_free = timer.cancel
        try:
            await asyncio.sleep(random.random() * _JITTER_S)
        except asyncio.CancelledError:
            place.free()
            raise
        return place.free


class _Place:
    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places: asyncio.Semaphore | None = places
        self.on_free: Callable[[], None] = lambda: None

    def free(self) -> None:
        places, self._places = self._places, None
        if places is not None:
            self.on_free()
            places.release()
