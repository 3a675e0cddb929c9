"""Ctrl-C, SIGTERM and a closed terminal, as one word: stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_AT_ONCE = 130


class StopSwitch:
    """`requested` is set by the first stop signal.

    A third signal ends this process at once; the children's guards then stop them on their own.
    """

    def __init__(self) -> None:
        self.requested = threading.Event()
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

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        self.requested.set()
        if self._signals == 2:
            # Not print: the signal may have come in the middle of one.
            os.write(
                sys.stderr.fileno(), b"framegrid: still stopping; once more leaves it to the background\n"
            )
        if self._signals >= 3:
            os._exit(EXIT_AT_ONCE)
