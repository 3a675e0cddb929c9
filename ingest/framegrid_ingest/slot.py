"""What waits between a camera's reader and the dispatcher: one newest frame, or a short queue for recordings.

`DROP_OLDEST` (cameras): one frame waits; a newer one replaces it, and the replaced one is handed back to be
counted. `WAIT` (recordings read as fast as possible): nothing is dropped, `put` blocks the reading thread.
Thread-safe; `take` never blocks.
"""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class SlotPolicy(str, Enum):
    DROP_OLDEST = "drop_oldest"
    WAIT = "wait"


class Slot(Generic[T]):
    """A bounded hand-over from one thread to another."""

    def __init__(self, policy: SlotPolicy = SlotPolicy.DROP_OLDEST, capacity: int = 1) -> None:
        self.policy = policy
        self.capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T) -> T | None:
        """Hand over `item`. Returns what is lost by it: an older item, or `item` itself after `close`."""
        with self._changed:
            if self.policy is SlotPolicy.WAIT:
                self._changed.wait_for(lambda: self._closed or len(self._items) < self.capacity)
            if self._closed:
                return item
            lost = self._items.popleft() if len(self._items) >= self.capacity else None
            self._items.append(item)
            return lost

    def take(self) -> T | None:
        """The oldest item, or None when nothing waits."""
        with self._changed:
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify()
            return item

    def close(self) -> list[T]:
        """Accept nothing more, let a blocked `put` go, and hand back what waited."""
        with self._changed:
            self._closed = True
            left = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return left

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)
