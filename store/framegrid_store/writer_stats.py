"""What a writer says about itself: totals since its start, and its state now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from framegrid_store.spool import SpoolStats

FULL_SHARE = 0.8
"""Of the spool's bytes or age, of the queue's rows: time to look, while there is time."""


@dataclass(frozen=True, slots=True)
class WriterStats:
    """`spool` is None when no folder was given: then rows wait in memory alone."""

    queued: int
    """Rows that wait in memory, or are on their way."""
    queue_rows: int
    """How many may."""
    stored: int
    stored_by_table: Mapping[str, int]
    """Rows that went by way of the spool included."""
    batches: int
    failures: int
    """Attempts to connect or to store that failed and were or will be repeated."""
    replayed: int
    """Rows of the spool that are stored now."""
    merged: Mapping[str, int]
    """By table: rows that went into others because the spool was full."""
    lost: Mapping[tuple[str, str], int]
    """By table and reason: queue_full, spool_full, spool_expired, bad_row, closed."""
    quarantined: int
    """Of the bad rows: written down in the quarantine file."""
    connected: bool
    is_running: bool
    """False before the start, after `close`, and should the writer's thread ever end by itself."""
    last_error: str
    """Of the database, without credentials; empty when the last attempt went well."""
    lag_s: float
    """How long the oldest row that is not stored yet has waited, in memory or on disk."""
    spool: SpoolStats | None

    @property
    def dropped(self) -> dict[str, int]:
        """Rows lost, by reason."""
        reasons: Counter[str] = Counter()
        for (_, reason), number in self.lost.items():
            reasons[reason] += number
        return dict(sorted(reasons.items()))

    @property
    def problem(self) -> str:
        """Empty while no row is in danger. A database that is away is no problem as long as there is room."""
        if not self.is_running:
            return "the writer does not run"
        if self.queued > FULL_SHARE * self.queue_rows:
            return f"the queue holds {self.queued} of {self.queue_rows} rows"
        return _problem_of(self.spool) if self.spool else ""


def _problem_of(spool: SpoolStats) -> str:
    if spool.error:
        return f"the spool cannot be used: {spool.error}"
    if spool.size_bytes > FULL_SHARE * spool.limit_bytes:
        return f"the spool holds {spool.size_bytes} of {spool.limit_bytes} bytes"
    if spool.oldest_age_s > FULL_SHARE * spool.age_limit_s:
        hours = f"{spool.oldest_age_s / 3600:.1f} of {spool.age_limit_s / 3600:.1f}"
        return f"the oldest batch in the spool has waited {hours} hours"
    return ""
