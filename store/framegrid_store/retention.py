"""Drops what is older than its retention: whole chunks or partitions, and rows where there are none.

A chunk of counts is dropped only when nothing in it is pending, looked at under a lock that keeps writers
out: so no row goes before it is in the roll-ups. What was dropped is written to
`table_state.dropped_before`.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from framegrid_store.capabilities import Capabilities
from framegrid_store.names import ROLLED_UP_TABLES, SCHEMA, TIME_TABLES
from framegrid_store.pieces import Piece, pieces

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 50_000
"""Rows deleted in one transaction, where there is no chunk to drop."""
_BY_ROW = {"ingest_batch": "stored_at", "skewed_rows": "noted_at"}


def due(connection: psycopg.Connection, capabilities: Capabilities, now: datetime) -> list[Piece]:
    """Chunks and partitions whose time is over, oldest first within a table."""
    return [
        piece
        for table, keep in _kept(connection).items()
        if table in TIME_TABLES
        for piece in pieces(connection, capabilities, table)
        if piece.end <= now - keep
    ]


def drop_piece(connection: psycopg.Connection, piece: Piece, capabilities: Capabilities) -> bool:
    """Drop one. False, and nothing done, when rows in it are pending. Needs a transaction of its own.

    May raise LockNotAvailable, by the transaction's lock_timeout.
    """
    connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(piece.place))
    # A statement of its own: its snapshot comes after the lock.
    if piece.table in ROLLED_UP_TABLES and _is_pending(connection, piece.end):
        return False
    if capabilities.hypertables:
        # This one alone: an older chunk that a late row has made meanwhile is not locked, and not looked at.
        connection.execute(
            "SELECT drop_chunks(%s::regclass, older_than => %s::timestamptz, newer_than => %s::timestamptz)",
            (f"{SCHEMA}.{piece.table}", piece.end, piece.start),
        )
    else:
        connection.execute(sql.SQL("DROP TABLE {}").format(piece.place))
    _note(connection, piece.table, piece.end)
    return True


def delete_rows(connection: psycopg.Connection, capabilities: Capabilities, now: datetime) -> dict[str, int]:
    """Delete what no chunk holds: the ledger, the notes, and rows in default partitions. Needs autocommit.

    Returns rows by table.
    """
    deleted = {}
    for table, keep in _kept(connection).items():
        if table in _BY_ROW:
            deleted[table] = _delete(connection, table, _BY_ROW[table], now - keep, "")
        elif not capabilities.hypertables:
            # One statement, one snapshot: a row that comes meanwhile is not seen, and so not deleted.
            unless_pending = (
                " AND NOT EXISTS (SELECT FROM framegrid.rollup_pending WHERE minute < %(before)s)"
                if table in ROLLED_UP_TABLES
                else ""
            )
            rows = _delete(connection, f"{table}_default", TIME_TABLES[table], now - keep, unless_pending)
            if rows:
                _note(connection, table, now - keep)
            deleted[table] = rows
    return {table: rows for table, rows in deleted.items() if rows}


def next_drop(
    connection: psycopg.Connection, capabilities: Capabilities, table: str, keep: timedelta | None
) -> datetime | None:
    """When the oldest chunk or partition of a table is dropped; None: nothing to drop, or kept for ever."""
    if keep is None:
        return None
    oldest = next(pieces(connection, capabilities, table), None)
    return None if oldest is None else oldest.end + keep


def _kept(connection: psycopg.Connection) -> dict[str, timedelta]:
    found = connection.execute("SELECT table_name, keep FROM framegrid.table_state WHERE keep IS NOT NULL")
    return dict(found.fetchall())


def _is_pending(connection: psycopg.Connection, before: datetime) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM framegrid.rollup_pending WHERE minute < %s)", (before,)
    ).fetchone()
    return bool(row and row[0])


def _note(connection: psycopg.Connection, table: str, before: datetime) -> None:
    connection.execute(
        "UPDATE framegrid.table_state SET dropped_before = greatest(dropped_before, %s)"
        " WHERE table_name = %s",
        (before, table),
    )


def _delete(connection: psycopg.Connection, table: str, column: str, before: datetime, unless: str) -> int:
    statement = sql.SQL(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY("
        "SELECT ctid FROM {table} WHERE {column} < %(before)s LIMIT %(rows)s))"
    ).format(table=sql.Identifier(SCHEMA, table), column=sql.Identifier(column)) + _raw(unless)
    total = 0
    while rows := connection.execute(statement, {"before": before, "rows": ROWS_AT_ONCE}).rowcount:
        total += rows
    return total


def _raw(text: Any) -> sql.Composed:
    # A constant of this module.
    return sql.Composed([sql.SQL(text)])
