"""When frames are due. Fixed when a camera is added, whatever the server does: load comes on time."""

from __future__ import annotations

import heapq
import random
from typing import NamedTuple


class Arrival(NamedTuple):
    """One frame of one camera."""

    due_s: float
    camera: int
    seq: int


class Schedule:
    """Cameras of one frame rate, each at a phase of its own, as real ones are.

    A camera added at t has its first frame within t and t + 1/fps, and then one every 1/fps without drift.
    """

    def __init__(self, fps: float, seed: int = 0) -> None:
        if fps <= 0:
            raise ValueError(f"expected more than 0 frames a second, got {fps}")
        self._period_s = 1.0 / fps
        self._random = random.Random(seed)
        self._heap: list[Arrival] = []
        self._first_s: dict[int, float] = {}  # camera -> its first frame; in order of being added
        self._next_camera = 0

    @property
    def cameras(self) -> int:
        return len(self._first_s)

    @property
    def next_due_s(self) -> float | None:
        """When to call `due` next; None without cameras."""
        return self._heap[0].due_s if self._heap else None

    def set_cameras(self, count: int, now_s: float) -> None:
        """Add cameras, or take away those that were added last."""
        while len(self._first_s) < count:
            first_s = now_s + self._random.random() * self._period_s
            self._first_s[self._next_camera] = first_s
            heapq.heappush(self._heap, Arrival(first_s, self._next_camera, 0))
            self._next_camera += 1
        while len(self._first_s) > max(0, count):
            self._first_s.popitem()

    def due(self, now_s: float) -> list[Arrival]:
        """All frames due by now that were not given out yet, in order. Late calls leave none out."""
        found = []
        while self._heap and self._heap[0].due_s <= now_s:
            arrival = self._heap[0]
            first_s = self._first_s.get(arrival.camera)
            if first_s is None:  # taken away meanwhile
                heapq.heappop(self._heap)
                continue
            seq = arrival.seq + 1
            heapq.heapreplace(self._heap, Arrival(first_s + seq * self._period_s, arrival.camera, seq))
            found.append(arrival)
        return found
