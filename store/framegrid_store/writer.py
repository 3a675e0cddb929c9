"""`StoreWriter`: rows in from any thread, rows in SQL soon after, each exactly once.

    put() ──> RowBuffer (bounded) ──> writer thread ──> Delivery ──> Link (COPY + ledger, one transaction)
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
from threading import Thread

from framegrid_store.buffer import CLOSED, RowBuffer
from framegrid_store.connect import parameters, sanitised
from framegrid_store.delivery import Delivery
from framegrid_store.link import Link
from framegrid_store.metrics import StoreMetrics
from framegrid_store.refusals import Refusals
from framegrid_store.rows import DimensionRow, Row
from framegrid_store.spool import Spool, SpoolSettings
from framegrid_store.writer_stats import WriterStats

logger = logging.getLogger(__name__)

CANCEL_S = 2.0
LAST_SPOOLING_S = 6.0
"""After the time to close in is up: for an attempt to connect to end, and for the queue to be spooled."""


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
        self._metrics = metrics
        self._last_words = ""
        self._buffer = RowBuffer(queue_rows)
        self._spool = None if spool is None else Spool(spool)
        self._refusals = Refusals(database_url, None if spool is None else spool.folder)
        self._link = Link(
            database_url, lambda table, row, error: self._refusals.add(row, error, table), self._is_urgent
        )
        self._delivery = Delivery(
            database_url,
            link=self._link,
            buffer=self._buffer,
            queue_rows=queue_rows,
            spool=self._spool,
            refusals=self._refusals,
            on_batch=self._batch_stored,
        )
        self._thread = Thread(target=self._run, name="framegrid-store-writer", daemon=True)
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
        done, spool = self._delivery, None if self._spool is None else self._spool.stats()
        # Copies, made in one step: the writer's thread may be counting.
        lost = Counter(self._refusals.counts) + Counter(self._buffer.dropped)
        if self._spool is not None:
            lost += Counter(self._spool.dropped)
        return WriterStats(
            queued=len(self._buffer),
            queue_rows=self._queue_rows,
            stored=done.stored.total(),
            stored_by_table=dict(done.stored),
            batches=done.batches,
            failures=done.failures,
            replayed=done.replayed,
            merged={} if self._spool is None else dict(self._spool.merged),
            lost=dict(lost),
            quarantined=self._refusals.quarantined,
            connected=self._link.is_up,
            is_running=self._thread.is_alive(),
            last_error=self._last_words or done.last_error,
            lag_s=max(self._buffer.lag_s(), spool.oldest_age_s if spool else 0.0),
            spool=spool,
        )

    def close(self, timeout_s: float = 10.0) -> int:
        """Take no more rows, store what waits, for at most `timeout_s`; what is left goes to the spool.

        Returns the rows that are neither stored nor spooled (counted). May take some seconds longer when the
        database hangs.
        """
        self._delivery.hurry(timeout_s)
        self._buffer.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
            for hurry, wait_s in ((self._link.cancel, CANCEL_S), (self._link.abort, LAST_SPOOLING_S)):
                if self._thread.is_alive():
                    hurry()
                    self._thread.join(wait_s)
        left = self._buffer.abandon(CLOSED)
        if left:
            reason = self._delivery.last_error or "no time left"
            logger.error("%d rows not stored before closing: %s", left, reason)
        return left

    def _is_urgent(self) -> bool:
        return self._delivery.is_filling()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self._last_words = f"writer stopped: {sanitised(error, self._url)}"
            logger.exception("the writer stopped unexpectedly; rows are refused once the queue is full")
            raise
        finally:
            self._link.close()
            if self._spool is not None:
                self._spool.close()

    def _work(self) -> None:
        delivery = self._delivery
        delivery.tend()
        while True:
            wait_s, idle_s = delivery.wait_s(self._batch_wait_s), delivery.idle_s()
            rows = self._buffer.next_batch(self._batch_rows, wait_s, idle_s)
            if rows is None:
                return
            if not rows:
                delivery.use_spare_time()
            elif not delivery.settle(rows):
                return

    def _batch_stored(self, rows: Sequence[Row], took_s: float) -> None:
        if self._metrics is not None:
            self._metrics.batch_seconds.observe(took_s)
        if self._on_stored is not None:
            try:
                self._on_stored(rows, time.time())
            except Exception:
                logger.exception("on_stored failed")
