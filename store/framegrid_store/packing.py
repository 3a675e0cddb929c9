"""Packs minutes whose time is over: a camera's rows side by side in full pages, read from the index alone.

Maintenance adds a row to every camera each minute, so the pages of an index (camera, time) split in their
middle: half full, and neighbours in time far apart on disk. A chunk that nobody adds to any more is made anew
once; and vacuumed, since an index is read without its table only where a vacuum has seen that all rows are
visible, and autovacuum leaves out the last fifth of a chunk that no longer grows.

TimescaleDB's columnstore does better, so where that is on there is nothing to do.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Timer

import psycopg
from psycopg import sql

from framegrid_store.capabilities import Capabilities
from framegrid_store.names import ROLLED_UP_TABLES
from framegrid_store.pieces import Piece, pieces
from framegrid_store.settings import StoreSettings

MARK = "Packed when its time was over"
"""Comment on a chunk or partition that is done."""
LIMIT_S = 300.0
"""For one of them; then it is cancelled and tried again: PostgreSQL waits for every older transaction."""


def due(
    connection: psycopg.Connection, capabilities: Capabilities, settings: StoreSettings, now: datetime
) -> list[Piece]:
    """Chunks and partitions of minutes that are over, the late horizon too, and were not packed; newest
    first."""
    if capabilities.columnstore and settings.columnstore:
        return []
    before = now - timedelta(hours=settings.late_horizon_hours)
    packed = _packed(connection)
    over = [
        piece
        for table in ROLLED_UP_TABLES
        for piece in pieces(connection, capabilities, f"{table}_minute")
        if piece.end <= before and (piece.schema, piece.name) not in packed
    ]
    return sorted(over, key=lambda piece: piece.end, reverse=True)


def pack(connection: psycopg.Connection, piece: Piece) -> None:
    """Make one's indexes anew while others read and write it. Needs autocommit.

    Some seconds for a million rows. Two at once are correct, and do it twice. Raises psycopg's QueryCanceled
    after LIMIT_S.
    """
    limit = Timer(LIMIT_S, connection.cancel)
    limit.start()
    try:
        for name in _left_by_a_crash(connection, piece):
            index = sql.Identifier(piece.schema, name)
            connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index))
        for statement in (
            "VACUUM (ANALYZE) {place}",
            "REINDEX TABLE CONCURRENTLY {place}",
            "COMMENT ON TABLE {place} IS {mark}",
        ):
            connection.execute(sql.SQL(statement).format(place=piece.place, mark=sql.Literal(MARK)))
    finally:
        limit.cancel()


def _packed(connection: psycopg.Connection) -> set[tuple[str, str]]:
    """Schema and name of every chunk and partition that is done."""
    found = connection.execute(
        "SELECT c.relnamespace::regnamespace::text, c.relname FROM pg_description d"
        " JOIN pg_class c ON c.oid = d.objoid"
        " WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0 AND d.description = %s",
        (MARK,),
    )
    return set(found.fetchall())


def _left_by_a_crash(connection: psycopg.Connection, piece: Piece) -> list[str]:
    """Indexes that PostgreSQL began to make, or to take away, and never ended."""
    found = connection.execute(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = %s::regclass AND NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'",
        (piece.place.as_string(connection),),
    ).fetchall()
    return [name for (name,) in found]
