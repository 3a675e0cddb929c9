"""One spooled batch: what its name says, and how it gets onto the disk and off it.

    00001763700000123-9f…e1-5000.additive.new
    unix ms           batch  rows lane    state

Sorted by name is sorted by age. The lane says what is in the file, and so what it is worth; the state says
whether the batch may be in the database already.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from uuid import UUID

from framegrid_store.spool_folder import sync_folder

BLOCK_BYTES = 4096
"""What the smallest file takes of a disk."""
SCRATCH = ".tmp"


class Lane(str, Enum):
    """From worth least to worth most, by and large; see spool_room.py."""

    DETECTION = "detection"
    ADDITIVE = "additive"
    """Counts and coverage, as they came."""
    MINUTE = "minute"
    """Counts and coverage, merged."""
    MIXED = "mixed"
    """Any rows: a batch that was sent keeps together, because its id does."""
    THIN = "thin"
    """The same without detections, counts and coverage merged."""
    KEPT = "kept"
    """Tracks, crossings, events."""
    BRIEF = "brief"
    """Crossings, events."""
    EVENT = "event"


class State(str, Enum):
    NEW = "new"
    """Never sent: may be merged with others under a new id."""
    SENT = "sent"
    """May be stored: keeps its id, and the ledger decides."""
    SPLIT = "split"
    """Parts of it may be stored under ids of their own: keeps its rows and their order too."""
    MERGING = "merging"
    """Takes the place of others that may still be there; see `Spool`."""


_NAME = re.compile(
    rf"(\d{{17}})-([0-9a-f]{{32}})-(\d+)\.({'|'.join(lane.value for lane in Lane)})"
    rf"\.({'|'.join(state.value for state in State)})"
)


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """`born_s` is on the monotonic clock: an age does not jump when the clock is set."""

    folder: Path
    time_ms: int
    batch_id: UUID
    rows: int
    lane: Lane
    state: State
    size_bytes: int
    born_s: float

    @property
    def path(self) -> Path:
        name = f"{self.time_ms:017d}-{self.batch_id.hex}-{self.rows}.{self.lane.value}.{self.state.value}"
        return self.folder / name


def parse(path: Path, wall_s: float, monotonic_s: float) -> SpoolFile | None:
    """The file at a path, or None when its name is not one of ours. Raises FileNotFoundError."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        return None
    time_ms, batch, rows, lane, state = found.groups()
    # A clock that was set back makes a file young, never of a negative age.
    age_s = max(0.0, wall_s - int(time_ms) / 1000)
    return SpoolFile(
        path.parent,
        int(time_ms),
        UUID(batch),
        int(rows),
        Lane(lane),
        State(state),
        disk_bytes(path.stat().st_size),
        monotonic_s - age_s,
    )


def disk_bytes(size_bytes: int) -> int:
    """A size as the disk counts it: whole blocks."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def write_durably(path: Path, data: bytes) -> None:
    """Whole and on the disk under its name, or not there. The folder is to be synced by the caller."""
    scratch = path.with_name(path.name + SCRATCH)
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        scratch.rename(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def move(old: SpoolFile, new: SpoolFile) -> None:
    """Give a file another lane, state or number of rows in its name, durably."""
    old.path.rename(new.path)
    sync_folder(new.folder)
