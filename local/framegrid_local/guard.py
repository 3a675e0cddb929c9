"""Run one command so that nothing of it outlives its parent: `python guard.py [options] -- command…`.

The supervisor holds the write end of this process's standard input. When that end closes (the supervisor
asked for a stop, crashed, or was killed with -9) the command gets its stop signal, a grace period, then
SIGKILL, and with it every process that descends from it, those that moved to a session of their own
included (Linux: this process is their reaper). A byte on standard input is a signal number to pass on to
the command. The exit status is the command's; 128 + N when signal N ended it.

Standard library alone, and run by path with `-S -E`: it has to start in milliseconds and hold few
megabytes.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ORPHAN_GRACE_S = 2.0  # what is left after the command itself has ended was told to end already
POLL_S = 0.05


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _children_of(pid: int) -> Iterator[int]:
    """Living children by /proc; none where there is no /proc (macOS: the process group covers them)."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text()
        except OSError:
            continue
        fields = text[text.rindex(")") + 2 :].split()  # the name may hold spaces and brackets
        if int(fields[1]) == pid and fields[0] != "Z":
            yield int(entry.parent.name)


def _descendants_of(pid: int) -> list[int]:
    found: list[int] = []
    for child in _children_of(pid):
        found.append(child)
        found.extend(_descendants_of(child))
    return found


def _signal_all(pids: list[int], signal_number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal_number)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end_orphans(group: int) -> None:
    """Ends what the command left behind: first politely, then not."""
    for signal_number, wait_s in ((signal.SIGTERM, ORPHAN_GRACE_S), (signal.SIGKILL, ORPHAN_GRACE_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal_number)
        _signal_all(_descendants_of(os.getpid()), signal_number)
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            _reap()
            if not any(_children_of(os.getpid())):
                return
            time.sleep(POLL_S)


def _wait(child: subprocess.Popen[bytes], wake: int, stop_signal: int, grace_s: float) -> int:
    """Until the command ends; a closed input or a signal to us starts the stop, once."""
    watched = [sys.stdin.fileno(), wake]
    kill_at: float | None = None
    while child.poll() is None:
        timeout_s = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        readable, _, _ = select.select(watched, [], [], timeout_s)
        numbers = os.read(wake, 64) if wake in readable else b""
        asked = any(number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) for number in numbers)
        if sys.stdin.fileno() in readable:
            passed_on = os.read(sys.stdin.fileno(), 64)
            for number in passed_on:
                _signal_all([child.pid], number)
            if not passed_on:
                watched = [wake]
                asked = True
        if asked and kill_at is None:
            kill_at = time.monotonic() + grace_s
            _signal_all([child.pid], stop_signal)
        elif kill_at is not None and time.monotonic() >= kill_at:
            _signal_all([child.pid, *_descendants_of(child.pid)], signal.SIGKILL)
            kill_at = time.monotonic() + grace_s
    return child.returncode


def main() -> int:
    """Parse, spawn, wait, clean up; returns the exit status to end with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop-signal", default="SIGTERM")
    parser.add_argument("--grace-s", type=float, default=10.0)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        child = subprocess.Popen(
            args.command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            user=args.uid,
            group=args.gid,
            extra_groups=None if args.uid is None else [],
            # Runs after the change of user, which would clear it. Safe: this process has one thread.
            preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
        )
    except (OSError, subprocess.SubprocessError) as error:
        print(f"cannot run {args.command[0]}: {error}", file=sys.stderr)
        return 127
    status = _wait(child, wake_read, getattr(signal, args.stop_signal), args.grace_s)
    _end_orphans(child.pid)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
