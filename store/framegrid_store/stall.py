"""Ends a database call that hangs: a server that is frozen, or unplugged behind a live proxy, sends no error.

The writer's thread waits inside the driver and cannot look at a clock; this thread does, once a second, and
shuts the connection's socket down. The call then fails as if the network had been cut.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

logger = logging.getLogger(__name__)

POLL_S = 1.0


class StallGuard:
    """`start` and `stop` its thread; calls under `watch` may take `limit_s()`, asked again and again."""

    def __init__(self, limit_s: Callable[[], float]) -> None:
        self._limit_s = limit_s
        self._watched: tuple[float, Callable[[], None]] | None = None
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="framegrid-store-guard", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    @contextmanager
    def watch(self, abort: Callable[[], None]) -> Iterator[None]:
        """Call `abort` from the other thread when the block takes too long. Not for nesting."""
        self._watched = (time.monotonic(), abort)
        try:
            yield
        finally:
            self._watched = None

    def _run(self) -> None:
        while not self._stopped.wait(POLL_S):
            watched = self._watched
            if watched is not None and (took_s := time.monotonic() - watched[0]) > self._limit_s():
                logger.warning("the database has not answered for %.0f s: cutting the connection", took_s)
                self._watched = None
                watched[1]()
