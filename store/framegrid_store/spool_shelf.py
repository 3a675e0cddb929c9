"""The spooled files of one writer: written, read, replaced and removed, each so that a crash does no harm.

Merging several files into one makes a new batch, so none of the old ones may ever be sent again, even when
the process dies half way: the new file is complete and named `.merging` first, then the old ones are deleted,
then it gets its name; `tidy` finishes that after a crash.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

from framegrid_store.rows import Row
from framegrid_store.spool_file import (
    BLOCK_BYTES,
    SCRATCH,
    Lane,
    SpoolFile,
    State,
    disk_bytes,
    move,
    parse,
    write_durably,
)
from framegrid_store.spool_folder import OwnedFolder, sync_folder, take
from framegrid_store.spool_format import DamagedError, decode_file, encode_file, read_contents

logger = logging.getLogger(__name__)

RESERVE = "reserve"
DAMAGED = "damaged"
DAMAGED_MOST = 20  # files kept for a person


class Shelf:
    """Oldest first. Not thread-safe, but for `files`. Methods raise OSError when the disk fails."""

    def __init__(
        self,
        spool: Path,
        reserve_bytes: int,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reserve_bytes = self._reserve_most_bytes = reserve_bytes
        """What a merge may take in: less than was asked for on a small disk."""
        self.used_bytes = 0
        self.damaged = 0
        """Files set aside since the start."""
        self._spool = spool
        self._wall, self._monotonic = wall, monotonic
        self._owned: OwnedFolder | None = None
        self._files: dict[UUID, SpoolFile] = {}
        self._last_ms = 0

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[SpoolFile]:
        return iter(self._files.values())

    def files(self) -> list[SpoolFile]:
        """A copy, made in one step of the interpreter: for other threads too."""
        return list(self._files.values())

    def open(self) -> None:
        """Take a folder, the leftovers in it, and what dead writers left in theirs. Once more: the latter."""
        is_first = self._owned is None
        if self._owned is None:
            self._owned = take(self._spool)
            tidy(self._owned.path)
        if self._owned.adopt(tidy) or is_first:
            self._scan()
        self.take_reserve()

    def close(self) -> None:
        """Leave what is there to the next one."""
        if self._owned is not None:
            self.release_reserve()
            self._owned.close()
            self._owned = None

    def age_s(self, file: SpoolFile) -> float:
        """Since it was written."""
        return max(0.0, self._monotonic() - file.born_s)

    def write(self, lane: Lane, state: State, batch_id: UUID, rows: int, data: bytes) -> None:
        """A new file. `sync` comes after the last of a few."""
        # Later than every other, also when the clock was set back: the order is what replay goes by.
        self._last_ms = max(self._last_ms + 1, int(self._wall() * 1000))
        size_bytes, now_s = disk_bytes(len(data)), self._monotonic()
        file = SpoolFile(self._folder(), self._last_ms, batch_id, rows, lane, state, size_bytes, now_s)
        write_durably(file.path, data)
        self._add(file)

    def sync(self) -> None:
        """What was written is there after a power cut."""
        sync_folder(self._folder())

    def read(self, file: SpoolFile) -> list[Row] | None:
        """Its rows, always in the same order; None when it is gone or damaged, and then it is set aside."""
        try:
            contents, rows = decode_file(file.path.read_bytes())
            if contents.batch_id != file.batch_id:
                raise DamagedError(f"it holds batch {contents.batch_id}: it was renamed")
        except FileNotFoundError:
            logger.error("spool file %s is gone; nobody but the writer should delete it", file.path.name)
            self._forget(file)
            return None
        except DamagedError as error:
            self._set_aside(file, error)
            return None
        return rows

    def mark(self, file: SpoolFile, state: State) -> SpoolFile:
        """Write down that it is about to be sent, or split."""
        if file.state in (state, State.SPLIT):
            return file
        marked = replace(file, state=state)
        move(file, marked)
        self._files[file.batch_id] = marked
        return marked

    def rewrite(self, file: SpoolFile, rows: Sequence[Row], lane: Lane) -> None:
        """Fewer rows under the same id. A crash in between leaves the new rows under the old name."""
        data = encode_file(file.batch_id, rows)
        write_durably(file.path, data)
        new = replace(file, rows=len(rows), lane=lane, size_bytes=disk_bytes(len(data)))
        move(file, new)
        self._files[file.batch_id] = new
        self.used_bytes += new.size_bytes - file.size_bytes

    def merge(self, old: Sequence[SpoolFile], rows: Sequence[Row], lane: Lane) -> None:
        """One file in the place of several that were never sent."""
        batch_id = uuid4()
        data = encode_file(batch_id, rows, replaces=[file.batch_id for file in old])
        size_bytes = disk_bytes(len(data))
        new = replace(
            old[0],
            batch_id=batch_id,
            rows=len(rows),
            lane=lane,
            state=State.MERGING,
            size_bytes=size_bytes,
        )
        write_durably(new.path, data)
        self.sync()
        for file in old:
            self.remove(file)
        self.sync()
        final = replace(new, state=State.NEW)
        move(new, final)
        self._add(final)
        self._sort()

    def remove(self, file: SpoolFile) -> None:
        """It is stored. Not synced: after a power cut it may be back, and the ledger knows it."""
        file.path.unlink(missing_ok=True)
        self._forget(file)

    def postpone(self, file: SpoolFile) -> None:
        """It failed: let the others go first."""
        known = self._files.pop(file.batch_id, None)
        if known is not None:
            self._files[file.batch_id] = known

    def take_reserve(self) -> None:
        """Hold back the room that a merge needs, so that it works on a disk that is full."""
        path = self._folder() / RESERVE
        if path.exists():
            return
        wanted_bytes = min(self._reserve_most_bytes, shutil.disk_usage(path.parent).total // 8)
        while wanted_bytes >= BLOCK_BYTES:
            try:
                with path.open("wb") as file:
                    if hasattr(os, "posix_fallocate"):
                        os.posix_fallocate(file.fileno(), 0, wanted_bytes)
                    else:  # macOS
                        file.write(bytes(wanted_bytes))
                break
            except OSError:
                path.unlink(missing_ok=True)
                wanted_bytes //= 2
        self.reserve_bytes = max(wanted_bytes, 2 * BLOCK_BYTES)

    def release_reserve(self) -> None:
        """Let a merge have it."""
        (self._folder() / RESERVE).unlink(missing_ok=True)

    def _folder(self) -> Path:
        if self._owned is None:
            raise OSError(errno.ENOENT, "the spool is not open", str(self._spool))
        return self._owned.path

    def _scan(self) -> None:
        now = self._wall(), self._monotonic()
        for path in self._folder().iterdir():
            if (file := parse(path, *now)) is not None and file.batch_id not in self._files:
                self._add(file)
                self._last_ms = max(self._last_ms, file.time_ms)
        self._sort()

    def _sort(self) -> None:
        self._files = dict(sorted(self._files.items(), key=lambda item: item[1].time_ms))

    def _add(self, file: SpoolFile) -> None:
        self._files[file.batch_id] = file
        self.used_bytes += file.size_bytes

    def _forget(self, file: SpoolFile) -> None:
        if (known := self._files.pop(file.batch_id, None)) is not None:
            self.used_bytes -= known.size_bytes

    def _set_aside(self, file: SpoolFile, error: DamagedError) -> None:
        self.damaged += 1
        aside = self._spool / DAMAGED
        logger.error(
            "spool file %s with about %d rows: %s; it is put into %s", file.path.name, file.rows, error, aside
        )
        aside.mkdir(mode=0o700, exist_ok=True)
        file.path.rename(aside / file.path.name)
        self._forget(file)
        for old in sorted(aside.iterdir())[:-DAMAGED_MOST]:
            old.unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Finish what a process that died had begun in its folder: merges, and files half written."""
    for path in folder.glob(f"*{SCRATCH}"):
        path.unlink(missing_ok=True)
    (folder / RESERVE).unlink(missing_ok=True)
    files = [file for path in folder.iterdir() if (file := parse(path, 0.0, 0.0)) is not None]
    for new in files:
        if new.state is not State.MERGING:
            continue
        try:
            obsolete = set(read_contents(new.path.read_bytes()).replaces)
        except DamagedError:
            continue  # `read` sets it aside
        for file in files:
            if file.batch_id in obsolete:
                file.path.unlink(missing_ok=True)
        sync_folder(folder)
        move(new, replace(new, state=State.NEW))
