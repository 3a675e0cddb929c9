"""Progress for a person: a table that stays in place on a terminal, plain lines anywhere else."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Sequence
from typing import TextIO

from framegrid_local.supervisor import Event, EventKind

SIGNS = {
    EventKind.STARTING: "starting",
    EventKind.READY: "ready",
    EventKind.CRASHED: "crashed",
    EventKind.RESTARTING: "restart",
    EventKind.FAILED: "failed",
    EventKind.STOPPED: "stopped",
}


class Console:
    """Thread-safe. `table` replaces the last table on a terminal; `say` writes above it."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self.in_place = self._out.isatty()
        self._header = ""
        self._lines_up = 0
        self._last: Sequence[str] = ()
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def say(self, text: str = "") -> None:
        """One line that stays."""
        with self._lock:
            self._erase()
            self._out.write(text + "\n")
            self._draw(self._last)
            self._out.flush()

    def event(self, event: Event) -> None:
        """What the supervisor did, with the seconds since the start."""
        message = f": {event.message}" if event.message else ""
        self.say(
            f"[{time.monotonic() - self._started:5.1f} s] {event.service:<9} {SIGNS[event.kind]}{message}"
        )

    def table(self, header: str, lines: Sequence[str]) -> None:
        """The state now. Without a terminal the header is repeated only when it changes."""
        with self._lock:
            self._erase()
            self._last = (header, *lines)
            if self.in_place:
                self._draw(self._last)
            else:
                shown = lines if header == self._header else self._last
                self._out.writelines(f"{line}\n" for line in shown)
            self._header = header
            self._out.flush()

    def end_table(self) -> None:
        """Leaves the table where it is; what follows goes below."""
        with self._lock:
            self._last = ()
            self._lines_up = 0

    def _erase(self) -> None:
        if self.in_place and self._lines_up:
            self._out.write(f"\x1b[{self._lines_up}F\x1b[J")
            self._lines_up = 0

    def _draw(self, lines: Sequence[str]) -> None:
        if not self.in_place:
            return
        width = shutil.get_terminal_size().columns
        for line in lines:  # a wrapped line would make the cursor go up too few
            self._out.write(line[: width - 1] + "\n")
        self._lines_up = len(lines)
