"""Batches on disk while the database is away: bounded by bytes and age, replayed oldest first.

Used by the writer's thread alone (`stats` by any). A file is written, synced, renamed and its folder synced
before its rows count as spooled. When there is no room the steps of spool_room.py are taken, and counted.
"""

from __future__ import annotations

import errno
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from framegrid_store.rows import Row
from framegrid_store.settings import LONGEST_SPOOL
from framegrid_store.spool_file import Lane, SpoolFile, State, disk_bytes
from framegrid_store.spool_format import encode_file
from framegrid_store.spool_room import EXPIRE, Step, by_lane, gone, steps_for
from framegrid_store.spool_shelf import Shelf

logger = logging.getLogger(__name__)

FULL = "spool_full"
EXPIRED = "spool_expired"
NO_ROOM_ERRORS = (errno.ENOSPC, errno.EDQUOT)
LEAST_BYTES = 256 * 1024
MERGE_ROWS = 50_000  # at most in one merge: 30 MB of memory, a tenth of a second
# A merge may need as much room as the files that it takes in, before they go.
RESERVE_SHARE = 8
RESERVE_MOST_BYTES = 16 * 1024 * 1024
TEND_EVERY_S = 10.0
LOG_EVERY = 100


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """`folder` may be shared by several writers; the bounds are each writer's own.

    Raises ValueError for bounds that cannot work. An outage is one after `after_s`: until then rows wait in
    memory.
    """

    folder: Path
    size_bytes: int = 1024**3
    age_s: float = 3 * 86_400.0
    after_s: float = 2.0
    replay_rows_per_s: float = 100_000.0

    def __post_init__(self) -> None:
        if self.size_bytes < LEAST_BYTES:
            raise ValueError(f"expected a spool of at least {LEAST_BYTES} bytes, got {self.size_bytes}")
        if not 0 < self.age_s <= LONGEST_SPOOL.total_seconds():
            most = f"{LONGEST_SPOOL.total_seconds():.0f} s (the ledger forgets later ones)"
            raise ValueError(f"expected batches to stay at most {most}, got {self.age_s}")


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """What is on disk now. `damaged`: files set aside since the start."""

    folder: str
    files: int
    rows: int
    size_bytes: int
    limit_bytes: int
    oldest_age_s: float
    age_limit_s: float
    damaged: int
    error: str
    """Why the disk could not be used; empty when all is well."""


class Spool:
    """`open` before use. Methods may raise OSError when the disk fails, and are then safe to call again."""

    def __init__(
        self,
        settings: SpoolSettings,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        reserve_bytes = min(RESERVE_MOST_BYTES, settings.size_bytes // RESERVE_SHARE)
        self.shelf = Shelf(settings.folder, reserve_bytes, wall, monotonic)
        self.dropped: Counter[tuple[str, str]] = Counter()
        """Rows given up, by table and reason."""
        self.merged: Counter[str] = Counter()
        """Rows that went into others, by table: from a minute on nothing of them is lost."""
        self.error = ""
        self._monotonic = monotonic
        self._room_bytes = settings.size_bytes
        self._tended_s = -TEND_EVERY_S
        self._losses = 0

    def __len__(self) -> int:
        return len(self.shelf)

    def open(self) -> None:
        """Take a folder, and the leftovers."""
        self.shelf.open()
        self.error = ""

    def close(self) -> None:
        """Leave what is there to the next one."""
        self.shelf.close()

    def tend(self) -> None:
        """Now and then: adopt what dead writers left, let go of what is too old, look again at the room."""
        if self._monotonic() < self._tended_s + TEND_EVERY_S:
            return
        self._tended_s = self._monotonic()
        self._room_bytes = self.settings.size_bytes
        self.open()
        for file in self.shelf.files():
            if self.shelf.age_s(file) > self.settings.age_s and file.lane is not Lane.EVENT:
                self._reduce(file, Step(file.lane, Lane.EVENT, EXPIRE), EXPIRED)

    def add(self, batch_id: UUID, rows: Sequence[Row], *, was_sent: bool) -> list[Row]:
        """Put rows on disk. Returns those that there is no room for, after all that may go for them went.

        Raises TypeError, ValueError or OverflowError when a row cannot be encoded; then none was put.
        """
        lanes = {Lane.MIXED: rows} if was_sent else by_lane(rows)
        state = State.SENT if was_sent else State.NEW
        ids = [batch_id, *(uuid4() for _ in range(len(lanes) - 1))]
        encoded = [encode_file(id_, rows) for id_, rows in zip(ids, lanes.values(), strict=True)]
        left: list[Row] = []
        for place, (lane, of_lane) in enumerate(lanes.items()):
            try:
                is_in = self._place(lane, state, ids[place], len(of_lane), encoded[place])
            except OSError as error:
                if place == 0:
                    raise
                # Others are on disk already: these alone are to be tried again.
                self.error = str(error)
                left += of_lane
                continue
            if not is_in and lane is Lane.DETECTION:
                self._count(Step(lane, None, gone), of_lane, [], FULL)
            elif not is_in:
                left += of_lane
        self.shelf.sync()
        return left

    def next(self) -> SpoolFile | None:
        """The oldest, without those that were just put off."""
        return next(iter(self.shelf), None)

    def stats(self) -> SpoolStats:
        """For any thread."""
        files = self.shelf.files()
        return SpoolStats(
            folder=str(self.settings.folder),
            files=len(files),
            rows=sum(file.rows for file in files),
            size_bytes=sum(file.size_bytes for file in files),
            limit_bytes=self.settings.size_bytes,
            oldest_age_s=max((self.shelf.age_s(file) for file in files), default=0.0),
            age_limit_s=self.settings.age_s,
            damaged=self.shelf.damaged,
            error=self.error,
        )

    def _place(self, lane: Lane, state: State, batch_id: UUID, rows: int, data: bytes) -> bool:
        """Write a file, making room for it as long as something may go. False: there is none."""
        size_bytes = disk_bytes(len(data))
        while True:
            if self.shelf.used_bytes + size_bytes <= self._room_bytes:
                try:
                    self.shelf.write(lane, state, batch_id, rows, data)
                except OSError as error:
                    if error.errno not in NO_ROOM_ERRORS:
                        raise
                    # The disk holds no more than this, whatever the settings say; `tend` looks again.
                    self._room_bytes = self.shelf.used_bytes
                else:
                    return True
            elif not self._make_room(steps_for(lane)):
                return False

    def _make_room(self, steps: Sequence[Step]) -> bool:
        """Take the first step that there is a file for. False when there is none."""
        for step in steps:
            file = next((f for f in self.shelf if f.lane is step.lane and f.state is not State.SPLIT), None)
            if file is None:
                continue
            group = self._group(step)
            if not group and step.becomes is step.lane:
                continue
            try:
                self.shelf.release_reserve()
                if group:
                    self._merge(group, step)
                else:
                    self._reduce(file, step, FULL)
            except OSError as error:
                if error.errno not in NO_ROOM_ERRORS:
                    raise
            else:
                return True
            finally:
                self.shelf.take_reserve()
        return False

    def _reduce(self, file: SpoolFile, step: Step, reason: str) -> None:
        """Take a step on one file, which keeps its id."""
        rows = self.shelf.read(file)
        if rows is None:
            return
        after = step.change(rows)
        if step.becomes is None or not after:
            self.shelf.remove(file)
        else:
            self.shelf.rewrite(file, after, step.becomes)
        self._count(step, rows, after, reason)

    def _merge(self, group: Sequence[SpoolFile], step: Step) -> None:
        """Several files become one new batch."""
        read = [(file, rows) for file in group if (rows := self.shelf.read(file)) is not None]
        before = [row for _, rows in read for row in rows]
        after = step.change(before)
        if read and step.becomes is not None:
            self.shelf.merge([file for file, _ in read], after, step.becomes)
        self._count(step, before, after, FULL)

    def _group(self, step: Step) -> list[SpoolFile]:
        """The oldest files that may become one: as many as fit in memory, and in the reserve that the new
        file may need before they go. Empty when there are not two."""
        if step.becomes is not Lane.MINUTE:
            return []
        group: list[SpoolFile] = []
        rows = size_bytes = 0
        for file in self.shelf:
            if file.lane is not step.lane or file.state is not State.NEW:
                continue
            if size_bytes + file.size_bytes > self.shelf.reserve_bytes or rows + file.rows > MERGE_ROWS:
                continue  # a smaller one may follow
            group.append(file)
            rows, size_bytes = rows + file.rows, size_bytes + file.size_bytes
        return group if len(group) > 1 else []

    def _count(self, step: Step, before: Sequence[Row], after: Sequence[Row], reason: str) -> None:
        by_merging, dropped = step.count(before, after)
        self.merged.update(by_merging)
        for table, n in dropped.items():
            self.dropped[table, reason] += n
        if dropped:
            self._losses += 1
            if self._losses % LOG_EVERY == 1:
                logger.error("%s: rows dropped so far: %s", reason, dict(self.dropped))
