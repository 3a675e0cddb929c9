"""Capture to stored: how old a count is when it can be read in SQL.

`expect` remembers the capture times behind a coverage row, `stored` looks them up when the writer has
committed it. Thread-safe; bounded: what is never stored is forgotten after a while.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from framegrid_store.rows import CoverageRow, Row

WINDOW_S = 60.0
MAX_PENDING = 50_000


class CaptureToStored:
    """Latencies of the last minute, by camera."""

    def __init__(self, observe: Callable[[str, float], None]) -> None:
        self._observe = observe
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, float], list[float]] = {}
        self._recent: dict[str, deque[tuple[float, float]]] = {}

    def expect(self, row: CoverageRow, captured_s: Sequence[float]) -> None:
        """`row` is about to be handed over; `captured_s` are its frames' times (unix s)."""
        with self._lock:
            if len(self._pending) >= MAX_PENDING:
                self._pending.pop(next(iter(self._pending)))
            self._pending.setdefault((row.camera, row.time_s), []).extend(captured_s)

    def stored(self, rows: Iterable[Row], stored_at_s: float) -> None:
        """Rows are in SQL since `stored_at_s`. Called from the writer's thread."""
        for row in rows:
            if not isinstance(row, CoverageRow):
                continue
            with self._lock:
                captured_s = self._pending.pop((row.camera, row.time_s), [])
                recent = self._recent.setdefault(row.camera, deque(maxlen=8192))
                recent.extend((stored_at_s, stored_at_s - at_s) for at_s in captured_s)
            for at_s in captured_s:
                self._observe(row.camera, max(0.0, stored_at_s - at_s))

    def percentiles_s(self, camera: str, now_s: float) -> tuple[float, float] | None:
        """p50 and p95 of the last minute, or None when nothing was stored in it."""
        with self._lock:
            recent = self._recent.get(camera)
            if recent is None:
                return None
            while recent and recent[0][0] < now_s - WINDOW_S:
                recent.popleft()
            ages = sorted(age_s for _, age_s in recent)
        if not ages:
            return None
        return ages[(len(ages) - 1) // 2], ages[min(len(ages) - 1, int(len(ages) * 0.95))]

    def forget(self, camera: str) -> None:
        """The camera is gone."""
        with self._lock:
            self._recent.pop(camera, None)
