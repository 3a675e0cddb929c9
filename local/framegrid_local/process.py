"""A child process that cannot outlive us: started through guard.py, its output in a log file."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")
TAIL_BYTES = 16_384
# The guard itself needs up to twice its orphans' grace after the command's own.
GUARD_MARGIN_S = 6.0


@dataclass(frozen=True, slots=True)
class Command:
    """What to run and how to stop it. `uid`/`gid` only when we are root and the program must not be."""

    argv: tuple[str, ...]
    log_path: Path
    env: Mapping[str, str] | None = None  # added to ours
    cwd: Path | None = None
    stop_signal: str = "SIGTERM"
    grace_s: float = 10.0
    uid: int | None = None
    gid: int | None = None


class GuardedProcess:
    """One run of a command. `stop()` asks, waits for the grace period, kills; nothing is left behind."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self._log_start = command.log_path.stat().st_size if command.log_path.exists() else 0
        guard = [sys.executable, "-S", "-E", str(GUARD)]
        guard += ["--stop-signal", command.stop_signal, "--grace-s", str(command.grace_s)]
        if command.uid is not None:
            guard += ["--uid", str(command.uid), "--gid", str(command.gid)]
        command.log_path.parent.mkdir(parents=True, exist_ok=True)
        with command.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*guard, "--", *command.argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(command.env or {})},
                cwd=command.cwd,
                start_new_session=True,  # Ctrl-C is for us; we stop the children in order
            )

    @property
    def pid(self) -> int:
        """The guard's process id; the command is its child."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        status = self._process.poll()
        if status is not None:
            self.request_stop()  # closes our end of the pipe
        return status

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Exit status, or None when it still runs after timeout_s."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Passes a signal on to the command itself; nothing when it has ended."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(bytes([number]))
                self._process.stdin.flush()

    def request_stop(self) -> None:
        """Asks it to end; returns at once. Safe to call twice."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def stop(self) -> int:
        """Ends it, at the latest after its grace period; returns the exit status."""
        self.request_stop()
        status = self.wait(2 * self.command.grace_s + GUARD_MARGIN_S)
        if status is None:  # only when the guard itself hangs, e.g. on a dead network file system
            self._process.kill()
            status = self._process.wait()
        return status

    def log_since_start(self, max_bytes: int = TAIL_BYTES) -> str:
        """The end of what this run has written."""
        try:
            with self.command.log_path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, end - max_bytes))
                return log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
