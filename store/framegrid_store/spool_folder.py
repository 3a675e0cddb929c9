"""Who owns which spooled files: every writer has a folder of its own under the spool's, held by a lock.

    spool/                      shared: one volume may serve several writers
        writer-1f0c…/           owned by the process that holds `lock`; the kernel lets go when it dies
            lock  reserve  *.new  *.sent …
        damaged/                files that could not be read, for a person
        quarantine.jsonl        see quarantine.py

A writer that starts takes a folder that nobody holds, leftovers and all, before it makes a new one; and moves
what others left behind into its own. So nothing is sent by two, nobody waits for anybody, and no clock has a
say. Should locks not work on some file system, the ledger still stores each batch once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO
from uuid import uuid4

PREFIX = "writer-"
LOCK = "lock"


class OwnedFolder:
    """Made by `take`. `close` leaves the files to the next one; an empty folder goes."""

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self._lock = lock

    def adopt(self, tidy: Callable[[Path], None]) -> int:
        """Move what dead writers left into this folder, after `tidy` of theirs. Returns how many files."""
        moved = 0
        for other in _folders(self.path.parent):
            if other == self.path or (lock := _try_lock(other)) is None:
                continue
            with lock:
                tidy(other)
                for path in sorted(other.iterdir()):
                    if path.name != LOCK:
                        path.rename(self.path / path.name)
                        moved += 1
                _remove(other)
        if moved:
            sync_folder(self.path)
        return moved

    def close(self) -> None:
        """Let go."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            if all(path.name == LOCK for path in self.path.iterdir()):
                _remove(self.path)


def take(spool: Path) -> OwnedFolder:
    """A folder for one writer, made when none is free. Raises OSError when the spool cannot be written to."""
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in _folders(spool):
        if (lock := _try_lock(path)) is not None:
            return OwnedFolder(path, lock)
    while True:
        path = spool / f"{PREFIX}{uuid4().hex[:12]}"
        path.mkdir(mode=0o700)
        if (lock := _try_lock(path)) is not None:  # else somebody adopted it in between
            return OwnedFolder(path, lock)


def sync_folder(path: Path) -> None:
    """Names in the folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folders(spool: Path) -> list[Path]:
    return sorted(path for path in spool.glob(f"{PREFIX}*") if path.is_dir())


def _try_lock(path: Path) -> IO[str] | None:
    """The lock of a folder, or None: it is held, or the folder is gone."""
    try:
        lock = (path / LOCK).open("a")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it may have removed the folder after we opened the file.
        if os.fstat(lock.fileno()).st_ino == (path / LOCK).stat().st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        lock.close()
        raise
    lock.close()
    return None


def _remove(path: Path) -> None:
    (path / LOCK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty after all: somebody will adopt the rest
        path.rmdir()
