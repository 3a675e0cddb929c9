"""One batch of rows into its tables, exactly once, over one connection.

The batch's id goes into the ledger in the transaction that copies the rows. When a connection breaks during
COMMIT nobody knows whether it was done; the same batch with the same id is then sent again, and the ledger
tells.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from framegrid_store.connect import connect
from framegrid_store.dimensions import Dimensions, UnknownNamesError
from framegrid_store.encode import SIGNATURE, TRAILER
from framegrid_store.facts import FACTS, Fact, columns_of
from framegrid_store.names import SCHEMA
from framegrid_store.pending import begin_batch
from framegrid_store.rows import DimensionRow, Row

APPLICATION_NAME = "framegrid-writer"
CONNECT_TIMEOUT_S = 5
"""Shorter than for others: rows queue up meanwhile, and there is another attempt soon."""
BLOCK_ROWS = 500
"""Rows encoded at a time: the server takes in one block while we make the next."""


class Copier:
    """Owns a connection and the ids learnt over it. Not thread-safe. Raises psycopg's errors as they come."""

    def __init__(self, database_url: str) -> None:
        self._closing = Lock()
        self._connection = connect(
            database_url,
            application_name=APPLICATION_NAME,
            autocommit=True,
            connect_timeout_s=CONNECT_TIMEOUT_S,
        )
        self._dimensions = Dimensions(self._connection)

    def announce(self, rows: Iterable[DimensionRow]) -> None:
        """Store facts about cameras, zones, lines and models."""
        self._dimensions.announce(rows)

    def store(self, batch_id: UUID, rows: Sequence[Row]) -> bool:
        """Commit all rows, or none and raise. False when a batch of this id was stored before.

        Besides psycopg's errors: ValueError, TypeError, OverflowError, AttributeError: a row does not fit.
        """
        kinds: dict[type[Any], list[Row]] = defaultdict(list)
        for row in rows:
            kinds[type(row)].append(row)
        while True:
            try:
                return self._store(batch_id, kinds, len(rows))
            except UnknownNamesError as unknown:
                # Once per new name. Learning needs transactions of its own, so this one was rolled back.
                self._dimensions.learn(unknown)

    def _store(self, batch_id: UUID, kinds: Mapping[type[Any], Sequence[Row]], rows: int) -> bool:
        with self._connection.cursor() as cursor:
            try:
                # One round trip for both.
                cursor.execute(f"BEGIN; {begin_batch(batch_id, kinds, rows)}".encode())
                cursor.nextset()
                (batch_no,) = cursor.fetchone() or (None,)
                if batch_no is not None:
                    for kind, of_kind in kinds.items():
                        self._copy(cursor, kind, of_kind, batch_no)
                cursor.execute("ROLLBACK" if batch_no is None else "COMMIT")
            except BaseException:
                if not self._connection.broken:
                    self._connection.rollback()
                raise
        return batch_no is not None

    def _copy(self, cursor: psycopg.Cursor, kind: type[Any], rows: Sequence[Row], batch_no: int) -> None:
        fact = FACTS.get(kind)
        if fact is None:
            raise TypeError(f"expected rows of framegrid_store.rows, got {kind.__name__}")
        with cursor.copy(copy_statement(fact)) as copy:
            copy.write(SIGNATURE)
            for first in range(0, len(rows), BLOCK_ROWS):
                columns = columns_of(kind, rows[first : first + BLOCK_ROWS])
                keys = list(zip(*(columns[name] for name in fact.names), strict=True))
                copy.write(fact.encode(columns, self._dimensions.ids(fact.names, keys), batch_no))
            copy.write(TRAILER)

    def cancel(self) -> None:
        """From another thread: ask the server to give up on what it is doing."""
        self._connection.cancel_safe(timeout=2.0)

    def abort(self) -> None:
        """From another thread: cut the connection, so that whatever waits for it fails. For good."""
        with self._closing:
            if not self._connection.closed:
                # A duplicate, or closing the Python object would close the driver's descriptor.
                with socket.socket(fileno=os.dup(self._connection.fileno())) as cut:
                    cut.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; never raises for one that is already broken."""
        with self._closing:
            self._connection.close()


def copy_statement(fact: Fact) -> sql.Composed:
    """COPY … FROM STDIN of a fact's columns, binary."""
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(SCHEMA, fact.table), sql.SQL(", ").join(map(sql.Identifier, fact.columns))
    )
