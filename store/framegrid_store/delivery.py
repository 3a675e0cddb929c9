"""What becomes of a batch: stored, or on disk until it can be, or halved until its bad row stands alone.

All of it runs in the writer's thread, over one connection, live rows first. `StoreWriter` is the door to it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from uuid import UUID, uuid4, uuid5

import psycopg

from framegrid_store.buffer import RowBuffer
from framegrid_store.connect import describe, sanitised
from framegrid_store.errors import UPGRADE_ADVICE
from framegrid_store.facts import table_of
from framegrid_store.link import DATA_ERRORS, Link
from framegrid_store.outage import Outage
from framegrid_store.refusals import Refusals
from framegrid_store.rows import Row
from framegrid_store.spool import TEND_EVERY_S, Spool
from framegrid_store.spool_file import SpoolFile, State

logger = logging.getLogger(__name__)

LOG_EVERY = 10
"""Of repeated failures the first and every tenth are logged."""
SPOOL_WAIT_S = 1.0
"""Rows wait this long for company on their way to disk: a file takes a block and two syncs, however small."""
SPOOL_TRY_S = 1.0
"""Between attempts at a spool that has no room."""
SHORT_PAUSE_S = 0.05
SCHEMA_ERRORS = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)


@dataclass(slots=True)
class Batch:
    """Rows under one id."""

    rows: Sequence[Row]
    batch_id: UUID = field(default_factory=uuid4)
    was_sent: bool = False
    """Whether it may be stored already."""

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches, whose ids are the same at every attempt: one that was stored is known."""
        middle = len(self.rows) // 2
        first, second = (uuid5(self.batch_id, half) for half in ("first", "second"))
        return Batch(self.rows[:middle], first), Batch(self.rows[middle:], second)


class Delivery:
    """`on_batch(rows, seconds)` runs after each commit; `queue_rows` is what the buffer holds at most."""

    def __init__(
        self,
        database_url: str,
        *,
        link: Link,
        buffer: RowBuffer,
        queue_rows: int,
        spool: Spool | None,
        refusals: Refusals,
        on_batch: Callable[[Sequence[Row], float], None],
    ) -> None:
        self._url = database_url
        self._link = link
        self._buffer = buffer
        self._queue_rows = queue_rows
        self._spool = spool
        self._refusals = refusals
        self._on_batch = on_batch
        self._outage = Outage()
        self._replay_at_s = 0.0
        self._give_up_at_s: float | None = None
        self._closing = Event()
        self.stored: Counter[str] = Counter()
        """Rows, by table."""
        self.batches = self.failures = self.replayed = 0
        self.last_error = ""

    def hurry(self, timeout_s: float) -> None:
        """From another thread: what is not stored within this time goes to the spool."""
        self._give_up_at_s = time.monotonic() + timeout_s
        self._closing.set()

    def is_filling(self, share: int = 2) -> bool:
        """Whether the queue has more than its half, third, fourth, …"""
        return len(self._buffer) > self._queue_rows // share

    def wait_s(self, batch_wait_s: float) -> float:
        """How long rows should wait for company."""
        return max(batch_wait_s, SPOOL_WAIT_S) if self._is_spooling() else batch_wait_s

    def idle_s(self) -> float | None:
        """How long to wait for rows when there is something else to do; None when there is nothing."""
        waits = []
        if self._spool is not None:
            waits.append(TEND_EVERY_S)
            if len(self._spool):
                waits.append(max(self._outage.wait_s(), self._replay_at_s - time.monotonic()))
        if self._link.has_news:
            waits.append(self._outage.wait_s())
        return max(0.0, min(waits)) if waits else None

    def settle(self, rows: Sequence[Row]) -> bool:
        """Store or spool every row, or set it aside. False: no time left, and no room on disk."""
        pending = [Batch(rows)]
        while pending:
            batch = pending.pop()
            try:
                if not self._deliver(batch):
                    return False
            except DATA_ERRORS as error:
                if len(batch.rows) > 1:
                    pending += reversed(batch.halves())
                else:
                    self._refusals.add(batch.rows[0], error)
                    self._buffer.done(1)
        return True

    def use_spare_time(self) -> None:
        """No live rows are ready: tell news, replay one batch of the spool."""
        self.tend()
        if self._outage.wait_s() > 0 or self._closing.is_set():
            return
        file = self._spool.next() if self._spool is not None else None
        is_due = file is not None and time.monotonic() >= self._replay_at_s
        if not is_due and not self._link.has_news and not self._outage.is_on:
            return
        try:
            self._link.make_ready()
            if file is not None and is_due:
                self._replay(file)
        except OSError as error:
            self._spool_failed(error)
            self._replay_at_s = time.monotonic() + SPOOL_TRY_S
        except Exception as error:  # noqa: BLE001 - whatever it is, the file stays
            self._failed(error)
            if file is not None and self._spool is not None:
                self._spool.shelf.postpone(file)
        else:
            if file is None or is_due:
                self._recovered()

    def tend(self) -> None:
        """Look after the spool."""
        if self._spool is not None:
            try:
                self._spool.tend()
            except OSError as error:
                self._spool_failed(error)

    def _deliver(self, batch: Batch) -> bool:
        """Store or spool a batch, however long it takes. False: closing, and neither is possible."""
        while True:
            if self._is_time_to_try() and self._try_to_store(batch):
                return True
            if self._is_spooling():
                left = self._spool_rows(batch)
                self._buffer.done(len(batch.rows) - len(left))
                if not left:
                    return True
                if len(left) < len(batch.rows):
                    batch = Batch(left)
            if self._is_over():
                return False
            self._pause()

    def _try_to_store(self, batch: Batch) -> bool:
        """Raises DATA_ERRORS; any other error makes the database one that is away."""
        try:
            self._link.make_ready()
            batch.was_sent = True
            self._store(batch)
        except DATA_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the rows are kept
            self._failed(error)
            return False
        self._buffer.done(len(batch.rows))
        self._recovered()
        return True

    def _store(self, batch: Batch) -> None:
        began_s = time.perf_counter()
        self._link.store(batch.batch_id, batch.rows)
        took_s = time.perf_counter() - began_s
        self.batches += 1
        for kind, number in Counter(map(type, batch.rows)).items():
            self.stored[table_of(kind)] += number
        self._on_batch(batch.rows, took_s)

    def _replay(self, file: SpoolFile) -> None:
        """Store one file. Its parts have ids of their own when a row is bad, the same at every attempt."""
        assert self._spool is not None
        shelf = self._spool.shelf
        rows = shelf.read(file)
        if rows is None:
            return
        file = shelf.mark(file, State.SENT)
        pending = [Batch(rows, file.batch_id)]
        while pending:
            batch = pending.pop()
            try:
                self._store(batch)
                self.replayed += len(batch.rows)
            except DATA_ERRORS as error:
                if len(batch.rows) > 1:
                    file = shelf.mark(file, State.SPLIT)
                    pending += reversed(batch.halves())
                else:
                    self._refusals.add(batch.rows[0], error)
        shelf.remove(file)
        self._replay_at_s = time.monotonic() + len(rows) / self._spool.settings.replay_rows_per_s

    def _spool_rows(self, batch: Batch) -> Sequence[Row]:
        """Returns the rows that are not on disk."""
        assert self._spool is not None
        try:
            self._spool.tend()
            return self._spool.add(batch.batch_id, batch.rows, was_sent=batch.was_sent)
        except OSError as error:
            self._spool_failed(error)
            return batch.rows

    def _is_time_to_try(self) -> bool:
        if self._outage.wait_s() > 0 or self._is_over() or self._is_hurried():
            return False
        # An attempt may hang for seconds: first make room in memory for what comes meanwhile.
        return (
            self._spool is None or bool(self._spool.error) or not (self._outage.is_on and self.is_filling(4))
        )

    def _is_hurried(self) -> bool:
        """Whether there is no time to wait for the end of an outage."""
        return self._spool is not None and self._closing.is_set() and (self._outage.is_on or self._is_over())

    def _is_spooling(self) -> bool:
        """Whether rows go to disk: the outage lasts, or memory fills, or there is no time."""
        if self._spool is None or self._is_hurried() or not self._outage.is_on:
            return self._is_hurried()
        return self.is_filling(4) or self._outage.lasted_s() >= self._spool.settings.after_s

    def _pause(self) -> None:
        """Until the next attempt to store, or to spool, or the time to give up."""
        wait_s = self._outage.wait_s()
        if self._spool is not None:
            until_spooling_s = self._spool.settings.after_s - self._outage.lasted_s()
            wait_s = min(wait_s, until_spooling_s if until_spooling_s > 0 else SPOOL_TRY_S)
        if self._give_up_at_s is None:
            self._closing.wait(wait_s)
        else:
            time.sleep(max(SHORT_PAUSE_S, min(wait_s, self._give_up_at_s - time.monotonic())))

    def _is_over(self) -> bool:
        return self._give_up_at_s is not None and time.monotonic() >= self._give_up_at_s

    def _failed(self, error: BaseException) -> None:
        self._link.drop()
        advice = f"; {UPGRADE_ADVICE}" if isinstance(error, SCHEMA_ERRORS) else ""
        self.last_error = sanitised(error, self._url) + advice
        self._outage.failed()
        self.failures += 1
        if self._outage.failures % LOG_EVERY == 1:
            logger.warning(
                "cannot store in %s (attempt %d, %d rows wait): %s",
                describe(self._url),
                self._outage.failures,
                len(self._buffer),
                self.last_error,
            )

    def _recovered(self) -> None:
        if self._outage.is_on:
            waiting = len(self._buffer) + (0 if self._spool is None else self._spool.stats().rows)
            logger.info("database is back after %d attempts; %d rows wait", self._outage.failures, waiting)
            self._outage.over()
        self.last_error = ""

    def _spool_failed(self, error: OSError) -> None:
        assert self._spool is not None
        if not self._spool.error:
            logger.error("cannot use the spool, rows wait in memory: %s", error)
        self._spool.error = str(error)
