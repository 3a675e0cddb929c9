"""Maintenance: roll-ups, chunks, retention and compression, by one process at a time, again and again.

    python -m framegrid_store maintain [--settings store.yaml]        until SIGTERM
    Maintainer(database_url, settings).start()                        the same in a thread

Every process may run it: a transaction takes an advisory lock, and who does not get it has nothing to do.
Readers see exact numbers without it; what stops is only that old rows go and that queries on long times stay
quick.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from threading import Event, Thread

import psycopg

from framegrid_store import packing, reconcile, retention
from framegrid_store.capabilities import Capabilities, probe
from framegrid_store.connect import connect, describe, sanitised
from framegrid_store.errors import StoreError
from framegrid_store.migrate import require_current
from framegrid_store.rollup import RolledUp, recut_days, roll_up
from framegrid_store.settings import StoreSettings

logger = logging.getLogger(__name__)

LOCK_KEY = 0x6672616D6D61696E
"""ASCII "frammain": the same in all programs that maintain."""
APPLICATION_NAME = "framegrid-maintain"
LOCK_TIMEOUT = "1s"
"""For a lock that keeps readers and writers out: while one is waited for, they wait behind it."""
ROUND_S = 60.0
"""A round of roll-ups or of packing ends after so long even when more is left, so that all get their turn."""


@dataclass(slots=True)
class Maintained:
    """What one round did. `busy`: another process holds the lock. `errors`: by task, without credentials."""

    rolled_up: RolledUp = field(default_factory=RolledUp)
    recut: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    deleted: dict[str, int] = field(default_factory=dict)
    compressed: list[str] = field(default_factory=list)
    packed: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    busy: bool = False


class _BusyError(Exception):
    """Another process holds the lock."""


def maintain_once(
    connection: psycopg.Connection, settings: StoreSettings, now: datetime, *, only_roll_up: bool = False
) -> Maintained:
    """One round of all tasks, or of roll-ups alone. `connection` must be in autocommit mode.

    A task that fails is noted and leaves the others alone; raises `OperationalError` when the connection is
    gone.
    """
    done = Maintained()
    capabilities = probe(connection)
    tasks: dict[str, tuple[Callable[[], str], float]] = {
        "rollup": (lambda: _roll_up(connection, settings, now, done), settings.roll_up_every_s)
    }
    if not only_roll_up:
        every_s = settings.retention_every_s
        tasks |= {
            "chunks": (lambda: _cut(connection, capabilities, settings, now, done), every_s),
            "retention": (lambda: _retain(connection, capabilities, now, done), every_s),
            "compression": (lambda: _compress(connection, capabilities, settings, now, done), every_s),
        }
    try:
        for task, (run, every_s) in tasks.items():
            _run(connection, task, run, now + timedelta(seconds=every_s), done)
    except _BusyError:
        done.busy = True
    return done


def maintain_now(database_url: str, settings: StoreSettings) -> Maintained:
    """One round of all tasks on the database of a URL. Raises `StoreError`, without the password."""
    try:
        with connect(database_url, application_name=APPLICATION_NAME, autocommit=True) as connection:
            require_current(connection)
            return maintain_once(connection, settings, datetime.now(timezone.utc))
    except psycopg.Error as error:
        raise StoreError(
            f"cannot maintain {describe(database_url)}: {sanitised(error, database_url)}"
        ) from None  # The chained error might quote the URL.


class Maintainer:
    """A thread that maintains until it is closed, through outages of the database.

    Raises `StoreError` at once when the URL cannot be read; never later.
    """

    def __init__(
        self,
        database_url: str,
        settings: StoreSettings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        describe(database_url)
        self._url = database_url
        self._settings = settings
        self._clock = clock
        self._closing = Event()
        self._thread = Thread(target=self.run, name="framegrid-store-maintainer", daemon=True)
        self.last: Maintained | None = None
        self.last_error = ""

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop after the step in hand."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def run(self) -> None:
        """The loop itself, for a process of its own."""
        while not self._closing.is_set():
            try:
                with connect(self._url, application_name=APPLICATION_NAME, autocommit=True) as connection:
                    require_current(connection)
                    self._loop(connection)
            except (psycopg.Error, StoreError) as error:
                told = sanitised(error, self._url)
                if told != self.last_error:
                    logger.warning("cannot maintain %s: %s", describe(self._url), told)
                self.last_error = told
                self._closing.wait(self._settings.roll_up_every_s)

    def _loop(self, connection: psycopg.Connection) -> None:
        others_at_s = time.monotonic()
        while not self._closing.is_set():
            is_turn = time.monotonic() >= others_at_s
            self.last = maintain_once(connection, self._settings, self._clock(), only_roll_up=not is_turn)
            self.last_error = next(iter(self.last.errors.values()), "")
            if is_turn:
                others_at_s = time.monotonic() + self._settings.retention_every_s
            self._closing.wait(self._settings.roll_up_every_s)


def _run(
    connection: psycopg.Connection, task: str, run: Callable[[], str], next_at: datetime, done: Maintained
) -> None:
    started_s, told, error = time.monotonic(), "", ""
    try:
        told = run()
    except psycopg.Error as failure:
        if connection.broken:
            raise
        error = done.errors[task] = sanitised(failure)
        logger.warning("maintenance task %s: %s", task, error)
    took_ms = round((time.monotonic() - started_s) * 1000)
    connection.execute(
        "INSERT INTO framegrid.maintenance_task AS t (task, ran_at, next_at, took_ms, done, error)"
        " VALUES (%s, clock_timestamp(), %s, %s, %s, %s) ON CONFLICT (task) DO UPDATE SET"
        " ran_at = excluded.ran_at, next_at = excluded.next_at, took_ms = excluded.took_ms,"
        " done = CASE WHEN excluded.done = '' THEN t.done ELSE excluded.done END, error = excluded.error",
        (task, next_at, took_ms, told, error),
    )


@contextmanager
def _alone(connection: psycopg.Connection) -> Iterator[None]:
    """A transaction that holds the maintenance lock; raises `_BusyError` when another process does."""
    with connection.transaction():
        row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK_KEY,)).fetchone()
        if not (row and row[0]):
            raise _BusyError
        yield


def _roll_up(connection: psycopg.Connection, settings: StoreSettings, now: datetime, done: Maintained) -> str:
    with _alone(connection):
        done.recut = recut_days(connection)
    due_before = now - timedelta(minutes=1, seconds=settings.settle_s)
    until_s = time.monotonic() + ROUND_S
    while time.monotonic() < until_s:
        with _alone(connection):
            added = roll_up(connection, due_before)
        done.rolled_up += added
        if added.minutes == 0:
            break
    recut = f"days cut anew for {', '.join(done.recut)}" if done.recut else ""
    rolled = (
        f"{done.rolled_up.rows:,} rows of {done.rolled_up.minutes:,} minutes"
        if done.rolled_up.minutes
        else ""
    )
    return "; ".join(filter(None, (rolled, recut)))


def _cut(
    connection: psycopg.Connection,
    capabilities: Capabilities,
    settings: StoreSettings,
    now: datetime,
    done: Maintained,
) -> str:
    with _alone(connection):
        connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        reconcile.apply_settings(connection, settings)
        done.cut = reconcile.cut_ahead(connection, capabilities, now)
    return ", ".join(done.cut)


def _retain(
    connection: psycopg.Connection, capabilities: Capabilities, now: datetime, done: Maintained
) -> str:
    held = set()
    for piece in retention.due(connection, capabilities, now):
        if piece.table in held:
            continue
        with _alone(connection):
            connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            if retention.drop_piece(connection, piece, capabilities):
                done.dropped.append(piece.name)
            else:
                held.add(piece.table)
    done.deleted = retention.delete_rows(connection, capabilities, now)
    rows = [f"{rows:,} rows of {table}" for table, rows in done.deleted.items()]
    kept = [f"{table} waits for roll-ups" for table in sorted(held)]
    return ", ".join([*done.dropped, *rows, *kept])


def _compress(
    connection: psycopg.Connection,
    capabilities: Capabilities,
    settings: StoreSettings,
    now: datetime,
    done: Maintained,
) -> str:
    with _alone(connection):
        done.compressed = reconcile.compress_by_policy(connection, capabilities, settings)
    until_s = time.monotonic() + ROUND_S
    for piece in packing.due(connection, capabilities, settings, now):
        packing.pack(connection, piece)
        done.packed.append(piece.name)
        if time.monotonic() > until_s:
            break
    return ", ".join([*done.compressed, *(f"{name} packed" for name in done.packed)])
