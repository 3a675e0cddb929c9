"""A part of this machine: a control group with so much CPU and memory. Linux, as root; versions 1 and 2."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from framegrid_local.bench.unavailable import UnavailableError

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
_GONE_S = 10.0


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Its folders: one a controller in version 1, one for all in version 2."""

    folders: tuple[Path, ...]

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before a command so that it runs inside."""
        enter = "; ".join(f"echo $$ > '{folder}/cgroup.procs'" for folder in self.folders)
        return ("sh", "-ec", f'{enter}; exec "$@"', "sh")

    @property
    def peak_bytes(self) -> int:
        """Memory at its highest, page cache included."""
        names = ("memory.peak", "memory.max_usage_in_bytes")
        return next(int(path.read_text()) for path in self._files(*names))

    @property
    def anonymous_bytes(self) -> int:
        """Memory now that cannot be given back: no page cache."""
        (stat,) = self._files("memory.stat")
        values = dict(line.split()[:2] for line in stat.read_text().splitlines())
        return int(values.get("anon") or values["total_rss"])

    def _files(self, *names: str) -> list[Path]:
        return [folder / name for folder in self.folders for name in names if (folder / name).exists()]


@contextmanager
def cgroup(name: str, *, cpus: float, memory_bytes: int) -> Iterator[Cgroup]:
    """A new group, gone at the end with its processes. Raises UnavailableError where none can be made."""
    quota_us = round(cpus * _PERIOD_US)
    one = (_ROOT / "cpu").is_dir()
    parents = (_ROOT / "cpu", _ROOT / "memory") if one else (_ROOT,)
    folders = tuple(parent / f"{name}-{os.getpid()}" for parent in parents)
    limits = (
        {"cpu.cfs_period_us": _PERIOD_US, "cpu.cfs_quota_us": quota_us, "memory.limit_in_bytes": memory_bytes}
        if one
        else {"cpu.max": f"{quota_us} {_PERIOD_US}", "memory.max": memory_bytes, "memory.swap.max": 0}
    )
    try:
        for folder in folders:
            folder.mkdir()
        for key, value in limits.items():
            place = folders[1] if one and key.startswith("memory") else folders[0]
            (place / key).write_text(str(value))
    except OSError as error:
        _remove(folders)
        raise UnavailableError(f"expected to make a control group (root on Linux): {error}") from error
    try:
        yield Cgroup(folders)
    finally:
        _remove(folders)


def _remove(folders: tuple[Path, ...]) -> None:
    """The folders can go when the kernel has let go of the last process."""
    deadline_s = time.monotonic() + _GONE_S
    for folder in folders:
        while folder.exists() and time.monotonic() < deadline_s:
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)
