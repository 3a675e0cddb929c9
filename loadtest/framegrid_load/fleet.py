"""Cameras in a process of their own, so that nobody else's work delays them. No event loop needed here."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from framegrid_load.sender import FleetOptions
from framegrid_load.tally import Tally, Timeline

_START_S = 60.0  # clips may have to be drawn
_STOP_S = 15.0


class FleetError(RuntimeError):
    """The cameras' process does not run."""


class FleetProcess:
    """`set_cameras` at will inside a `with` block. Afterwards `timeline` is complete.

    `on_tallies` is called with what is new, from the thread that reads.
    """

    def __init__(
        self,
        options: FleetOptions,
        on_tallies: Callable[[Mapping[int, Tally], Mapping[str, int]], None] | None = None,
    ) -> None:
        self.options = options
        self.timeline = Timeline()
        self.errors: Counter[str] = Counter()
        self.changes: list[tuple[float, int]] = []  # second since the start, cameras from there on
        self.cpu_s = 0.0
        self._started_unix_s = 0.0
        self._on_tallies = on_tallies
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        self._changed = threading.Condition()

    def __enter__(self) -> FleetProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when frames could be sent. Raises FleetError."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "framegrid_load.sender", self.options.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="cameras", daemon=True)
        self._reader.start()
        if not self._ready.wait(_START_S) or self._process.poll() is not None:
            self.stop()
            raise FleetError("the cameras' process did not start; its message is above")

    def set_cameras(self, count: int) -> float:
        """From now on so many cameras; returns the second of the run in which it happened."""
        known = len(self.changes)
        self._command(max(0, count))
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.changes) > known, _STOP_S):
                raise FleetError("the cameras' process does not answer")
            return self.changes[-1][0]

    def now_s(self) -> float:
        """Seconds of the run that have passed: the same clock as the timeline's."""
        return time.time() - self._started_unix_s

    def stop(self) -> None:
        """Wait for the answers under way, and end. Safe to call twice."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(FleetError):
            self._command(-1)
        try:
            process.wait(_STOP_S + self.options.deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join(_STOP_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process = None

    def _command(self, cameras: int) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"cameras": cameras}) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise FleetError("the cameras' process has ended; its message is above") from error

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            self._hear(json.loads(line))
        self._ready.set()  # ended: nobody waits any longer

    def _hear(self, message: dict[str, Any]) -> None:
        if message["event"] == "ready":
            self._started_unix_s = message["unix_s"]
            self._ready.set()
        elif message["event"] == "cameras":
            with self._changed:
                self.changes.append((message["at_s"], message["cameras"]))
                self._changed.notify_all()
        elif message["event"] == "tallies":
            tallies = {int(second): Tally.from_json(data) for second, data in message["seconds"].items()}
            self.timeline.add(tallies)
            self.errors.update(message["errors"])
            self.cpu_s = message["cpu_s"]
            if self._on_tallies is not None:
                self._on_tallies(tallies, message["errors"])
