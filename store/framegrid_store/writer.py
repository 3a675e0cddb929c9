"""`StoreWriter`: rows in from any thread, rows in SQL soon after, each exactly once.

    put() ──> RowBuffer (bounded) ──> writer thread ──> batch ──> Link (COPY + ledger, one transaction)
                                          │    ^
                 database away for a while v    │ when the connection has nothing else to do
                                         Spool (disk, bounded)

A batch keeps its id from its first attempt on, in memory and on disk, so the ledger stores it once. A row
that the database cannot take never stops the others: its batch is halved until the row stands alone, and then
it is written to the quarantine file and counted. Without a spool, rows wait in memory alone.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread
from uuid import UUID, uuid4, uuid5

import psycopg

from framegrid_store.buffer import CLOSED, RowBuffer
from framegrid_store.connect import describe, parameters, sanitised
from framegrid_store.errors import UPGRADE_ADVICE
from framegrid_store.facts import table_of
from framegrid_store.link import DATA_ERRORS, Link
from framegrid_store.metrics import StoreMetrics
from framegrid_store.outage import Outage
from framegrid_store.quarantine import Quarantine
from framegrid_store.rows import DimensionRow, Row
from framegrid_store.spool import TEND_EVERY_S, Spool, SpoolSettings
from framegrid_store.spool_file import SpoolFile, State
from framegrid_store.writer_stats import WriterStats

logger = logging.getLogger(__name__)

LOG_EVERY = 10
"""Of repeated failures the first and every tenth are logged."""
BAD_ROW = "bad_row"
SPOOL_WAIT_S = 1.0
"""Rows wait this long for company on their way to disk: a file takes a block and two syncs, however small."""
SPOOL_TRY_S = 1.0
"""Between attempts at a spool that has no room."""
SHORT_PAUSE_S = 0.05
CANCEL_S = 2.0
LAST_SPOOLING_S = 6.0
"""After the time to close in is up: for an attempt to connect to end, and for the queue to be spooled."""
SCHEMA_ERRORS = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)


@dataclass(slots=True)
class _Batch:
    rows: Sequence[Row]
    batch_id: UUID = field(default_factory=uuid4)
    was_sent: bool = False
    """Whether it may be stored already."""

    def halves(self) -> tuple[_Batch, _Batch]:
        """Two batches, whose ids are the same at every attempt: one that was stored is known."""
        middle = len(self.rows) // 2
        first, second = (uuid5(self.batch_id, half) for half in ("first", "second"))
        return _Batch(self.rows[:middle], first), _Batch(self.rows[middle:], second)


class StoreWriter:
    """One thread, one connection. Start it with or without a database; `close` it to flush.

    `on_stored(rows, wall_time_s)` runs in the writer's thread after each commit, also of rows that come from
    the spool, and must be quick. Raises `StoreError` at once when the URL cannot be read; never later.
    """

    def __init__(
        self,
        database_url: str,
        *,
        batch_rows: int = 5000,
        batch_wait_s: float = 1.0,
        queue_rows: int = 200_000,
        on_stored: Callable[[Sequence[Row], float], None] | None = None,
        spool: SpoolSettings | None = None,
        metrics: StoreMetrics | None = None,
    ) -> None:
        parameters(database_url)
        self._url = database_url
        self._batch_rows = batch_rows
        self._batch_wait_s = batch_wait_s
        self._queue_rows = queue_rows
        self._on_stored = on_stored
        self._buffer = RowBuffer(queue_rows)
        self._link = Link(database_url, self._refuse, lambda: self._is_filling(2))
        self._outage = Outage()
        self._spool = None if spool is None else Spool(spool)
        self._quarantine = None if spool is None else Quarantine(spool.folder, database_url)
        self._counts = Counter(batches=0, failures=0, replayed=0, quarantined=0)
        self._stored: Counter[str] = Counter()
        self._lost: Counter[tuple[str, str]] = Counter()
        self._last_error = ""
        self._replay_at_s = 0.0
        self._give_up_at_s: float | None = None
        self._closing = Event()
        self._thread = Thread(target=self._guard, name="framegrid-store-writer", daemon=True)
        self._metrics = metrics
        if metrics is not None:
            metrics.watch(self.stats)

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._link.start()
        self._thread.start()

    def put(self, rows: Sequence[Row]) -> int:
        """Queue rows; never blocks. Returns how many were refused because the queue was full (counted)."""
        return self._buffer.put(rows)

    def announce(self, rows: Iterable[DimensionRow]) -> None:
        """Facts about cameras, zones, lines, models: stored soon, before rows, and again after
        reconnecting."""
        self._link.announce(rows)
        self._buffer.nudge()

    def stats(self) -> WriterStats:
        """Totals since the start, and the state now."""
        spool = None if self._spool is None else self._spool.stats()
        lost = self._lost + self._buffer.dropped
        if self._spool is not None:
            lost += self._spool.dropped
        return WriterStats(
            queued=len(self._buffer),
            queue_rows=self._queue_rows,
            stored=self._stored.total(),
            stored_by_table=dict(self._stored),
            batches=self._counts["batches"],
            failures=self._counts["failures"],
            replayed=self._counts["replayed"],
            merged={} if self._spool is None else dict(self._spool.merged),
            lost=dict(lost),
            quarantined=self._counts["quarantined"],
            connected=self._link.is_up,
            is_running=self._thread.is_alive(),
            last_error=self._last_error,
            lag_s=max(self._buffer.lag_s(), spool.oldest_age_s if spool else 0.0),
            spool=spool,
        )

    def close(self, timeout_s: float = 10.0) -> int:
        """Take no more rows, store what waits, for at most `timeout_s`; what is left goes to the spool.

        Returns the rows that are neither stored nor spooled (counted). May take some seconds longer when the
        database hangs.
        """
        self._give_up_at_s = time.monotonic() + timeout_s
        self._buffer.close()
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
            for hurry, wait_s in ((self._link.cancel, CANCEL_S), (self._link.abort, LAST_SPOOLING_S)):
                if self._thread.is_alive():
                    hurry()
                    self._thread.join(wait_s)
        left = self._buffer.abandon(CLOSED)
        if left:
            logger.error("%d rows not stored before closing: %s", left, self._last_error or "no time left")
        return left

    def _guard(self) -> None:
        try:
            self._run()
        except Exception as error:
            self._last_error = f"writer stopped: {sanitised(error, self._url)}"
            logger.exception("the writer stopped unexpectedly; rows are refused once the queue is full")
            raise
        finally:
            self._link.close()
            if self._spool is not None:
                self._spool.close()

    def _run(self) -> None:
        self._tend()
        while True:
            rows = self._buffer.next_batch(self._batch_rows, self._wait_s(), self._idle_s())
            if rows is None:
                return
            if not rows:
                self._use_spare_time()
            elif not self._settle(_Batch(rows)):
                return

    def _wait_s(self) -> float:
        """How long rows wait for company."""
        return max(self._batch_wait_s, SPOOL_WAIT_S) if self._is_spooling() else self._batch_wait_s

    def _idle_s(self) -> float | None:
        """How long to wait for rows when there is something else to do; None when there is nothing."""
        waits = []
        if self._spool is not None:
            waits.append(TEND_EVERY_S)
            if len(self._spool):
                waits.append(max(self._outage.wait_s(), self._replay_at_s - time.monotonic()))
        if self._link.has_news:
            waits.append(self._outage.wait_s())
        return max(0.0, min(waits)) if waits else None

    # Live rows

    def _settle(self, whole: _Batch) -> bool:
        """Store or spool every row of a batch, or set it aside. False: no time left, and no room on disk."""
        pending = [whole]
        while pending:
            batch = pending.pop()
            try:
                if not self._deliver(batch):
                    return False
            except DATA_ERRORS as error:
                if len(batch.rows) > 1:
                    pending += reversed(batch.halves())
                else:
                    self._set_aside(batch.rows[0], error)
                    self._buffer.done(1)
        return True

    def _deliver(self, batch: _Batch) -> bool:
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
                    batch = _Batch(left)
            if self._is_over():
                return False
            self._pause()

    def _try_to_store(self, batch: _Batch) -> bool:
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

    def _store(self, batch: _Batch) -> None:
        began_s = time.perf_counter()
        self._link.store(batch.batch_id, batch.rows)
        if self._metrics is not None:
            self._metrics.batch_seconds.observe(time.perf_counter() - began_s)
        self._counts["batches"] += 1
        for kind, number in Counter(map(type, batch.rows)).items():
            self._stored[table_of(kind)] += number
        if self._on_stored is not None:
            try:
                self._on_stored(batch.rows, time.time())
            except Exception:
                logger.exception("on_stored failed")

    def _is_time_to_try(self) -> bool:
        if self._outage.wait_s() > 0 or self._is_over() or self._is_hurried():
            return False
        # An attempt may hang for seconds: first make room in memory for what comes meanwhile.
        return (
            self._spool is None or bool(self._spool.error) or not (self._outage.is_on and self._is_filling(4))
        )

    def _is_filling(self, share: int) -> bool:
        """Whether the queue has more than its half, third, fourth, …"""
        return len(self._buffer) > self._queue_rows // share

    def _is_hurried(self) -> bool:
        """Whether there is no time to wait for the end of an outage."""
        return self._spool is not None and self._closing.is_set() and (self._outage.is_on or self._is_over())

    def _is_spooling(self) -> bool:
        """Whether rows go to disk: the outage lasts, or memory fills, or there is no time."""
        if self._spool is None or self._is_hurried() or not self._outage.is_on:
            return self._is_hurried()
        return self._is_filling(4) or self._outage.lasted_s() >= self._spool.settings.after_s

    def _spool_rows(self, batch: _Batch) -> Sequence[Row]:
        """Returns the rows that are not on disk."""
        assert self._spool is not None
        try:
            self._spool.tend()
            left = self._spool.add(batch.batch_id, batch.rows, was_sent=batch.was_sent)
        except OSError as error:
            self._spool_failed(error)
            return batch.rows
        return left

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

    # What the connection does when no live rows are ready

    def _use_spare_time(self) -> None:
        """Tell news; replay one batch of the spool."""
        self._tend()
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

    def _replay(self, file: SpoolFile) -> None:
        """Store one file. Halves of a batch with a bad row have ids of their own, the same at every try."""
        assert self._spool is not None
        shelf = self._spool.shelf
        rows = shelf.read(file)
        if rows is None:
            return
        file = shelf.mark(file, State.SENT)
        pending = [_Batch(rows, file.batch_id)]
        while pending:
            batch = pending.pop()
            try:
                self._store(batch)
                self._counts["replayed"] += len(batch.rows)
            except DATA_ERRORS as error:
                if len(batch.rows) > 1:
                    file = shelf.mark(file, State.SPLIT)
                    pending += reversed(batch.halves())
                else:
                    self._set_aside(batch.rows[0], error)
        shelf.remove(file)
        self._replay_at_s = time.monotonic() + len(rows) / self._spool.settings.replay_rows_per_s

    def _tend(self) -> None:
        if self._spool is not None:
            try:
                self._spool.tend()
            except OSError as error:
                self._spool_failed(error)

    # What went wrong

    def _failed(self, error: BaseException) -> None:
        self._link.drop()
        advice = f"; {UPGRADE_ADVICE}" if isinstance(error, SCHEMA_ERRORS) else ""
        self._last_error = sanitised(error, self._url) + advice
        self._outage.failed()
        self._counts["failures"] += 1
        if self._outage.failures % LOG_EVERY == 1:
            logger.warning(
                "cannot store in %s (attempt %d, %d rows wait): %s",
                describe(self._url),
                self._outage.failures,
                len(self._buffer),
                self._last_error,
            )

    def _recovered(self) -> None:
        if self._outage.is_on:
            waiting = len(self._buffer) + (self._spool.stats().rows if self._spool else 0)
            logger.info("database is back after %d attempts; %d rows wait", self._outage.failures, waiting)
            self._outage.over()
        self._last_error = ""

    def _spool_failed(self, error: OSError) -> None:
        assert self._spool is not None
        if not self._spool.error:
            logger.error("cannot use the spool, rows wait in memory: %s", error)
        self._spool.error = str(error)

    def _refuse(self, table: str, row: DimensionRow, error: BaseException) -> None:
        self._set_aside(row, error, table)

    def _set_aside(self, row: Row | DimensionRow, error: BaseException, table: str = "") -> None:
        """Count a row that cannot be stored, and write it down."""
        table = table or table_of(type(row))
        self._lost[table, BAD_ROW] += 1
        number = sum(n for (_, reason), n in self._lost.items() if reason == BAD_ROW)
        if number % LOG_EVERY == 1:
            reason, text = sanitised(error, self._url), sanitised(repr(row), self._url)
            logger.error("row set aside (%d so far): %s; %s", number, reason, text)
        if self._quarantine is not None:
            try:
                self._quarantine.add(table, row, error)
                self._counts["quarantined"] += 1
            except OSError as failure:
                logger.error("cannot write to the quarantine file: %s", failure)
