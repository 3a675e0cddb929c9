"""The writer's one connection: made when it is needed, dropped at the first failure, never hung on.

Facts about cameras, zones, lines and models are told before rows that name them, and again after
reconnecting: another connection may lead to another database.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from uuid import UUID

import psycopg

from framegrid_store.copier import Copier
from framegrid_store.rows import CameraRow, DimensionRow, LineRow, Row, ZoneRow
from framegrid_store.stall import StallGuard

STALL_S = 20.0
"""No batch takes this long on a database that is well."""
URGENT_STALL_S = 5.0
"""The same while the queue fills up."""

DATA_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    ValueError,
    TypeError,
    OverflowError,
    AttributeError,
)
"""The row is at fault. Everything else passes by itself or by an operator's hand, so it is retried."""

Key = tuple[str, ...]


class Link:
    """Used by the writer's thread, but for `announce`, `is_up`, `cancel`, `abort`. Raises psycopg's errors.

    `on_refused(table, row, error)` hears of facts that cannot be stored; `is_urgent()` says whether there is
    little time to wait for an answer.
    """

    def __init__(
        self,
        database_url: str,
        on_refused: Callable[[str, DimensionRow, BaseException], None],
        is_urgent: Callable[[], bool],
    ) -> None:
        self._url = database_url
        self._on_refused = on_refused
        self._announced: dict[Key, DimensionRow] = {}
        self._news: dict[Key, DimensionRow] = {}
        self._lock = Lock()
        self._copier: Copier | None = None
        self._guard = StallGuard(lambda: min(STALL_S, URGENT_STALL_S) if is_urgent() else STALL_S)

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self._copier is not None

    @property
    def has_news(self) -> bool:
        """Whether there are facts to tell."""
        return bool(self._news)

    def start(self) -> None:
        """Begin to watch for hanging calls."""
        self._guard.start()

    def announce(self, rows: Iterable[DimensionRow]) -> None:
        """Tell these at the next opportunity; what is known of the same thing is replaced."""
        with self._lock:
            for row in rows:
                self._announced[_key(row)] = self._news[_key(row)] = row

    def make_ready(self) -> None:
        """Connect if need be, and tell the news."""
        copier = self._copier
        if copier is None:
            copier = self._copier = Copier(self._url)
            with self._lock:
                self._news = dict(self._announced)
        while self._news:
            with self._lock:
                key, row = next(iter(self._news.items()))
            try:
                with self._guard.watch(self.abort):
                    copier.announce([row])
            except DATA_ERRORS as error:
                self._on_refused(_TABLES.get(key[0], key[0]), row, error)
            with self._lock:
                if self._news.get(key) is row:
                    del self._news[key]

    def store(self, batch_id: UUID, rows: Sequence[Row]) -> bool:
        """As `Copier.store`, after `make_ready`."""
        if self._copier is None:
            raise psycopg.OperationalError("not connected")
        with self._guard.watch(self.abort):
            return self._copier.store(batch_id, rows)

    def cancel(self) -> None:
        """Ask the server to give up on what it is doing."""
        if (copier := self._copier) is not None:
            with contextlib.suppress(psycopg.Error):
                copier.cancel()

    def abort(self) -> None:
        """Cut the connection, whatever it is doing."""
        if (copier := self._copier) is not None:
            copier.abort()

    def drop(self) -> None:
        """Close the connection; the next `make_ready` makes another."""
        copier, self._copier = self._copier, None
        if copier is not None:
            copier.close()

    def close(self) -> None:
        """The same, for good."""
        self._guard.stop()
        self.drop()


_TABLES = {"model": "model_version"}


def _key(row: DimensionRow) -> Key:
    """What a later announcement replaces."""
    if isinstance(row, ZoneRow):
        return ("zone", row.camera, row.zone)
    if isinstance(row, LineRow):
        return ("line", row.camera, row.line)
    return ("camera", row.camera) if isinstance(row, CameraRow) else ("model", row.model)
