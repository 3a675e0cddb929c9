"""`StoreWriter`: rows in from any thread, rows in SQL soon after, each exactly once.

    put() ──> RowBuffer (bounded) ──> writer thread ──> batch ──> Copier (COPY + ledger, one transaction)

A database that is away costs nothing while the buffer has room: the batch in hand is sent again, with the
same id, until it is stored. A row that the database cannot take never stops the others: its batch is halved
until the row stands alone, and then it is logged, counted and set aside.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from uuid import UUID, uuid4

import psycopg

from framegrid_store.buffer import RowBuffer
from framegrid_store.connect import describe, parameters, sanitised
from framegrid_store.copier import Copier
from framegrid_store.errors import UPGRADE_ADVICE
from framegrid_store.rows import CameraRow, DimensionRow, LineRow, Row, ZoneRow

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 15.0
LOG_EVERY = 10
"""Of repeated failures the first and every tenth are logged."""
BAD_ROW = "bad_row"
LEFT_AT_CLOSE = "closed"

DATA_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    ValueError,
    TypeError,
    OverflowError,
    AttributeError,
)
"""The row is at fault. Everything else of psycopg passes by itself or by an operator's hand, so it is
retried."""
SCHEMA_ERRORS = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)


@dataclass(frozen=True, slots=True)
class WriterStats:
    """`queued` rows wait or are on their way; `lag_s` is how long the oldest of them has waited."""

    queued: int
    stored: int
    batches: int
    dropped: dict[str, int]
    """By reason: queue_full, queue_full_detections, bad_row, closed."""
    connected: bool
    last_error: str
    """Of the database, without credentials; empty when the last batch went well."""
    lag_s: float


@dataclass(slots=True)
class _Batch:
    rows: Sequence[Row]
    batch_id: UUID = field(default_factory=uuid4)

    def halves(self) -> tuple[_Batch, _Batch]:
        """Two batches with ids of their own: this one's transaction is known to have failed."""
        middle = len(self.rows) // 2
        return _Batch(self.rows[:middle]), _Batch(self.rows[middle:])


class StoreWriter:
    """One thread, one connection. Start it with or without a database; `close` it to flush.

    `on_stored(rows, wall_time_s)` runs in the writer's thread after each commit and must be quick.
    Raises `StoreError` at once when the URL cannot be read; never later.
    """

    def __init__(
        self,
        database_url: str,
        *,
        batch_rows: int = 5000,
        batch_wait_s: float = 1.0,
        queue_rows: int = 200_000,
        on_stored: Callable[[Sequence[Row], float], None] | None = None,
    ) -> None:
        parameters(database_url)
        self._url = database_url
        self._batch_rows = batch_rows
        self._batch_wait_s = batch_wait_s
        self._on_stored = on_stored
        self._buffer = RowBuffer(queue_rows)
        self._announced: dict[tuple[str, ...], DimensionRow] = {}
        self._to_announce: dict[tuple[str, ...], DimensionRow] = {}
        self._announcing = Lock()
        self._copier: Copier | None = None
        self._counts = Counter(stored=0, batches=0)
        self._dropped: Counter[str] = Counter()
        self._failures = 0
        self._last_error = ""
        self._give_up_at_s: float | None = None
        self._closing = Event()
        self._thread = Thread(target=self._guard, name="framegrid-store-writer", daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def put(self, rows: Sequence[Row]) -> int:
        """Queue rows; never blocks. Returns how many were refused because the queue was full (counted)."""
        return self._buffer.put(rows)

    def announce(self, rows: Iterable[DimensionRow]) -> None:
        """Facts about cameras, zones, lines, models: stored soon, before rows, and again after
        reconnecting."""
        with self._announcing:
            for row in rows:
                self._announced[_key(row)] = self._to_announce[_key(row)] = row
        self._buffer.nudge()

    def stats(self) -> WriterStats:
        """Totals since the start, and the state now."""
        return WriterStats(
            queued=len(self._buffer),
            stored=self._counts["stored"],
            batches=self._counts["batches"],
            dropped={k: n for k, n in sorted((self._dropped + self._buffer.dropped).items()) if n},
            connected=self._copier is not None,
            last_error=self._last_error,
            lag_s=self._buffer.lag_s(),
        )

    def close(self, timeout_s: float = 10.0) -> int:
        """Take no more rows, store what waits, for at most `timeout_s`. Returns the rows that were not
        stored."""
        self._give_up_at_s = time.monotonic() + timeout_s
        self._buffer.close()
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
            if self._thread.is_alive() and (copier := self._copier) is not None:
                copier.cancel()
                self._thread.join(2.0)
        left = len(self._buffer)
        if left:
            self._dropped[LEFT_AT_CLOSE] += left
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
            self._disconnect()

    def _run(self) -> None:
        while (rows := self._buffer.next_batch(self._batch_rows, self._batch_wait_s)) is not None:
            pending = [_Batch(rows)]
            while pending:
                batch = pending.pop()
                try:
                    self._store(batch)
                except DATA_ERRORS as error:
                    if len(batch.rows) > 1:
                        pending += reversed(batch.halves())
                    else:
                        self._set_aside(batch.rows[0], error)
                except psycopg.Error as error:
                    pending.append(batch)
                    if not self._back_off(error):
                        return

    def _store(self, batch: _Batch) -> None:
        copier = self._copier
        if copier is None:
            copier = self._copier = Copier(self._url)
            with self._announcing:
                self._to_announce = dict(self._announced)
        self._announce(copier)
        if batch.rows:
            copier.store(batch.batch_id, batch.rows)
            self._counts["batches"] += 1
            self._counts["stored"] += len(batch.rows)
            self._buffer.done(len(batch.rows))
            self._tell(batch.rows)
        if self._failures:
            logger.info("database is back after %d attempts; %d rows wait", self._failures, len(self._buffer))
        self._failures, self._last_error = 0, ""

    def _announce(self, copier: Copier) -> None:
        while self._to_announce:
            with self._announcing:
                key, row = next(iter(self._to_announce.items()))
            try:
                copier.announce([row])
            except DATA_ERRORS as error:
                self._dropped[BAD_ROW] += 1
                logger.error(
                    "announcement of %s refused: %s", " ".join(key)[:128], sanitised(error, self._url)
                )
            with self._announcing:
                if self._to_announce.get(key) is row:
                    del self._to_announce[key]

    def _tell(self, rows: Sequence[Row]) -> None:
        if self._on_stored is None:
            return
        try:
            self._on_stored(rows, time.time())
        except Exception:
            logger.exception("on_stored failed")

    def _set_aside(self, row: Row, error: BaseException) -> None:
        self._dropped[BAD_ROW] += 1
        self._buffer.done(1)
        if self._dropped[BAD_ROW] % LOG_EVERY == 1:
            logger.error(
                "row set aside (%d so far): %s; %s",
                self._dropped[BAD_ROW],
                sanitised(error, self._url),
                sanitised(repr(row), self._url),
            )

    def _back_off(self, error: psycopg.Error) -> bool:
        """Record, disconnect, wait. False when closing and the time is up."""
        self._disconnect()
        advice = f"; {UPGRADE_ADVICE}" if isinstance(error, SCHEMA_ERRORS) else ""
        self._last_error = sanitised(error, self._url) + advice
        self._failures += 1
        if self._failures % LOG_EVERY == 1:
            logger.warning(
                "cannot store in %s (attempt %d, %d rows wait): %s",
                describe(self._url),
                self._failures,
                len(self._buffer),
                self._last_error,
            )
        longest_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self._failures - 1, 16))
        wait_s = longest_s * random.uniform(0.5, 1.0)
        if self._give_up_at_s is None:
            self._closing.wait(wait_s)
            return True
        left_s = self._give_up_at_s - time.monotonic()
        time.sleep(max(0.0, min(wait_s, left_s)))
        return left_s > 0

    def _disconnect(self) -> None:
        copier, self._copier = self._copier, None
        if copier is not None:
            copier.close()


def _key(row: DimensionRow) -> tuple[str, ...]:
    """What a later announcement replaces."""
    if isinstance(row, ZoneRow):
        return ("zone", row.camera, row.zone)
    if isinstance(row, LineRow):
        return ("line", row.camera, row.line)
    return ("camera", row.camera) if isinstance(row, CameraRow) else ("model", row.model)
