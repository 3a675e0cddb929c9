"""The bounded queue between producers and the writer's thread.

When it is full, detections go first: detections that wait make room for other rows, then new detections are
refused, then new counts and coverage, then tracks and crossings. Events, few and each of its kind, may fill
it once more. What is lost is counted, by table and reason. Rows that the writer has taken but neither stored
nor spooled yet still count towards the bound, so a database that is away cannot hide them.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from threading import Condition
from typing import Any, NamedTuple

from framegrid_store.facts import table_of
from framegrid_store.rows import CountRow, CoverageRow, DetectionRow, EventRow, Row

FULL = "queue_full"
CLOSED = "closed"
_WORTH: dict[type[Any], int] = {EventRow: 0, CountRow: 2, CoverageRow: 2}
"""Least first to be taken when there is no room for all; 1 for the others."""


class _Chunk(NamedTuple):
    put_at_s: float
    rows: Sequence[Row]


class RowBuffer:
    """Thread-safe. Drop policy as above; order is kept within detections, and within all other rows."""

    def __init__(self, capacity_rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        if capacity_rows < 1:
            raise ValueError(f"expected room for at least 1 row, got {capacity_rows}; set queue_rows higher")
        self._capacity = capacity_rows
        self._clock = clock
        self._changed = Condition()
        self._rows: deque[_Chunk] = deque()
        self._detections: deque[_Chunk] = deque()
        self._counts = {"rows": 0, "detections": 0, "in_flight": 0}
        self._in_flight_since_s: float | None = None
        self._closed = False
        self._nudged = False
        self.dropped: Counter[tuple[str, str]] = Counter()

    def put(self, rows: Sequence[Row]) -> int:
        """Take what there is room for; never blocks. Returns how many of these rows were not taken."""
        others = [row for row in rows if type(row) is not DetectionRow]
        detections = [row for row in rows if type(row) is DetectionRow] if len(others) < len(rows) else []
        with self._changed:
            if self._closed:
                return self._drop(rows, CLOSED)
            self._make_room(len(others) - self._free())
            refused = self._append(self._rows, "rows", others)
            refused += self._append(self._detections, "detections", detections)
            self._changed.notify()
        return refused

    def next_batch(self, max_rows: int, wait_s: float, idle_s: float | None = None) -> list[Row] | None:
        """Block until `max_rows` are there, or the oldest has waited `wait_s`, or somebody nudged.

        Returns [] after a nudge when nothing waits, or when none of this came true within `idle_s`; None when
        the buffer is closed and empty. The rows stay "in flight" until `done`.
        """
        idle_at_s = None if idle_s is None else self._clock() + idle_s
        with self._changed:
            while not self._ready(max_rows, wait_s):
                left_s = [
                    at_s - self._clock() for at_s in (self._ready_at_s(wait_s), idle_at_s) if at_s is not None
                ]
                if idle_at_s is not None and self._clock() >= idle_at_s:
                    return []
                self._changed.wait(min(left_s, default=None))
            self._nudged = False
            if self._closed and self._waiting() == 0:
                return None
            oldest_s = self._oldest_s()
            batch = self._take(self._rows, "rows", max_rows)
            batch += self._take(self._detections, "detections", max_rows - len(batch))
            self._counts["in_flight"] = len(batch)
            self._in_flight_since_s = oldest_s if batch else None
            return batch

    def done(self, rows: int) -> None:
        """So many rows in flight are stored, spooled or set aside: there is room for others."""
        with self._changed:
            self._counts["in_flight"] = max(0, self._counts["in_flight"] - rows)
            if self._counts["in_flight"] <= 0:
                self._in_flight_since_s = None

    def abandon(self, reason: str) -> int:
        """Give up on what waits, and count it. Returns how many rows that were."""
        with self._changed:
            in_flight = self._counts["in_flight"]
            if in_flight:  # part of them may have been stored: which, only the writer's thread knows
                self.dropped["unknown", reason] += in_flight
            waiting = self._take(self._rows, "rows", self._counts["rows"])
            waiting += self._take(self._detections, "detections", self._counts["detections"])
            self._counts["in_flight"] = 0
            return in_flight + self._drop(waiting, reason)

    def nudge(self) -> None:
        """Let `next_batch` return soon, with rows or without."""
        with self._changed:
            self._nudged = True
            self._changed.notify()

    def close(self) -> None:
        """Take no more; what waits is handed out at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        """Rows waiting and in flight."""
        with self._changed:
            return sum(self._counts.values())

    def lag_s(self) -> float:
        """Seconds since the oldest row that is not stored yet was put; 0 when there is none."""
        with self._changed:
            oldest_s = self._oldest_s()
            since_s = min((s for s in (oldest_s, self._in_flight_since_s) if s is not None), default=None)
            return 0.0 if since_s is None else max(0.0, self._clock() - since_s)

    def _ready(self, max_rows: int, wait_s: float) -> bool:
        if self._closed or self._nudged or self._waiting() >= max_rows:
            return True
        ready_at_s = self._ready_at_s(wait_s)
        return ready_at_s is not None and ready_at_s <= self._clock()

    def _ready_at_s(self, wait_s: float) -> float | None:
        oldest_s = self._oldest_s()
        return None if oldest_s is None else oldest_s + wait_s

    def _oldest_s(self) -> float | None:
        heads = [lane[0].put_at_s for lane in (self._rows, self._detections) if lane]
        return min(heads, default=None)

    def _waiting(self) -> int:
        return self._counts["rows"] + self._counts["detections"]

    def _free(self) -> int:
        return max(0, self._capacity - sum(self._counts.values()))

    def _make_room(self, rows: int) -> None:
        if rows > 0 and self._counts["detections"]:
            evicted = self._take(self._detections, "detections", min(rows, self._counts["detections"]))
            self._drop(evicted, FULL)

    def _append(self, lane: deque[_Chunk], name: str, rows: Sequence[Row]) -> int:
        free = self._free()
        refused = 0
        if len(rows) > free:
            rows = sorted(rows, key=lambda row: _WORTH.get(type(row), 1))
            events = sum(type(row) is EventRow for row in rows)
            room = 2 * self._capacity - sum(self._counts.values())
            taken = max(free, min(events, room))
            refused = self._drop(rows[taken:], FULL)
            rows = rows[:taken]
        if rows:
            lane.append(_Chunk(self._clock(), rows))
            self._counts[name] += len(rows)
        return refused

    def _drop(self, rows: Sequence[Row], reason: str) -> int:
        for kind, number in Counter(map(type, rows)).items():
            self.dropped[table_of(kind), reason] += number
        return len(rows)

    def _take(self, lane: deque[_Chunk], name: str, max_rows: int) -> list[Row]:
        taken: list[Row] = []
        while lane and len(taken) < max_rows:
            chunk = lane.popleft()
            room = max_rows - len(taken)
            taken += chunk.rows[:room]
            if len(chunk.rows) > room:
                lane.appendleft(_Chunk(chunk.put_at_s, chunk.rows[room:]))
        self._counts[name] -= len(taken)
        return taken
