"""Ctrl-C, SIGTERM and a closed terminal, as one word: stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from framegrid_local.errors import LocalError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_AT_ONCE = 130


class StopRequestedError(LocalError):
    """The user asked for a stop while something was starting."""


class StopSwitch:
    """Set by the first stop signal. While `interrupting`, that signal also breaks off what the main thread
    waits for.

    A third signal ends this process at once; the children's guards then stop them on their own.
    """

    def __init__(self) -> None:
        self.requested = threading.Event()
        self._interrupting = False
        self._signals = 0

    @contextlib.contextmanager
    def installed(self) -> Iterator[StopSwitch]:
        """Handles the signals inside the block; main thread only."""
        before = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Inside, a stop signal raises StopRequestedError in the main thread."""
        if self.requested.is_set():
            raise StopRequestedError("stopped while starting")
        self._interrupting = True
        try:
            yield
        finally:
            self._interrupting = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 2:
            print("framegrid: still stopping; once more to leave it to the background", file=sys.stderr)
        if self._signals >= 3:
            os._exit(EXIT_AT_ONCE)
        self.requested.set()
        if self._interrupting:
            self._interrupting = False
            raise StopRequestedError("stopped while starting")
