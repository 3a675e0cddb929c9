"""Time tables on plain PostgreSQL: declarative partitions, made ahead, dropped when their time is over.

    frame_count                    the table, PARTITION BY RANGE (time)
    frame_count_p20261121t0600     a partition, named after its start in UTC
    frame_count_before             the rows from before the table was partitioned, if there were any
    frame_count_default            everything that no partition is there for: late rows, or nobody made one
    in time

A missing partition never refuses a row, so correctness does not depend on maintenance; only dropping gets
slower, row by row instead of by the file. Locks are waited for briefly and tried again in the next round,
because a waiting ALTER TABLE makes every reader and writer behind it wait too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
from psycopg import sql

from framegrid_store.names import SCHEMA, TIME_TABLES

AHEAD = 2
"""Partitions beyond the one of now."""
EPOCH = datetime(2001, 1, 1, tzinfo=timezone.utc)  # a Monday: weeks start on it
_BOUND = re.compile(r"FROM \((?P<start>MINVALUE|'[^']+')\) TO \((?P<end>MAXVALUE|'[^']+')\)")


@dataclass(frozen=True, slots=True)
class Partition:
    """`start` None: from the beginning of time."""

    name: str
    start: datetime | None
    end: datetime


def is_partitioned(connection: psycopg.Connection, table: str) -> bool:
    """Whether the table is partitioned by PostgreSQL itself."""
    row = connection.execute(
        "SELECT relkind = 'p' FROM pg_class WHERE oid = %s::regclass", (f"{SCHEMA}.{table}",)
    ).fetchone()
    return bool(row and row[0])


def partitions(connection: psycopg.Connection, table: str) -> list[Partition]:
    """By start, the default one left out."""
    found = connection.execute(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
        " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass",
        (f"{SCHEMA}.{table}",),
    ).fetchall()
    known = []
    for name, bound in found:
        if match := _BOUND.search(bound):
            start, end = (_time(connection, match[group]) for group in ("start", "end"))
            if end is not None:
                known.append(Partition(name, start, end))
    beginning = datetime.min.replace(tzinfo=timezone.utc)
    return sorted(known, key=lambda one: one.start or beginning)


def make_ahead(connection: psycopg.Connection, table: str, interval: timedelta, now: datetime) -> list[str]:
    """Make the partitions of now and of the next `AHEAD` intervals that are missing; returns their names.

    Rows that waited in the default partition move in. Needs a transaction; may raise LockNotAvailable.
    """
    known = partitions(connection, table)
    made = []
    for start, end in _gaps(known, interval, now):
        made.append(_make(connection, table, start, end))
    return made


def drop(connection: psycopg.Connection, table: str, partition: Partition) -> None:
    """Drop a partition with its rows. Needs a transaction; may raise LockNotAvailable."""
    connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(SCHEMA, partition.name)))


def partition_table(
    connection: psycopg.Connection, table: str, interval: timedelta, now: datetime
) -> str | None:
    """Make a table a partitioned one, its rows included and not copied.

    Views stay on the old table: make them anew in the same transaction. Returns the name of the old one when
    it is empty, to be dropped after that.
    """
    old = replace(connection, table, partitioned=True)
    connection.execute(
        sql.SQL("CREATE TABLE {} PARTITION OF {} DEFAULT").format(
            sql.Identifier(SCHEMA, f"{table}_default"), sql.Identifier(SCHEMA, table)
        )
    )
    taken = _take_over(connection, table, old, _floor(now, interval) + interval)
    make_ahead(connection, table, interval, now)
    return None if taken else old


def replace(connection: psycopg.Connection, table: str, *, partitioned: bool) -> str:
    """Put an empty table with the same columns, indexes and comments in a table's place; rename the old one.

    Returns the old one's new name. Views stay on it.
    """
    old, suffix = f"{table}_before", "_before"
    names = {
        "place": sql.Identifier(SCHEMA, table),
        "old": sql.Identifier(SCHEMA, old),
        "old_name": sql.Identifier(old),
        "by": sql.SQL("PARTITION BY RANGE ({})").format(sql.Identifier(TIME_TABLES[table]))
        if partitioned
        else sql.SQL(""),
        "comment": sql.Literal(
            _value(connection, "SELECT obj_description(%s::regclass, 'pg_class')", f"{SCHEMA}.{table}") or ""
        ),
    }
    connection.execute(sql.SQL("LOCK TABLE {place} IN ACCESS EXCLUSIVE MODE").format(**names))
    indexes, constraints = _indexes(connection, table)
    connection.execute(sql.SQL("ALTER TABLE {place} RENAME TO {old_name}").format(**names))
    for name in [*indexes, *constraints]:
        connection.execute(
            sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                sql.Identifier(SCHEMA, name), sql.Identifier(name + suffix)
            )
        )
    connection.execute(
        sql.SQL("CREATE TABLE {place} (LIKE {old} INCLUDING ALL EXCLUDING INDEXES) {by}").format(**names)
    )
    connection.execute(sql.SQL("COMMENT ON TABLE {place} IS {comment}").format(**names))
    for name, definition in constraints.items():
        connection.execute(
            sql.SQL("ALTER TABLE {place} ADD CONSTRAINT {name} ").format(**names, name=sql.Identifier(name))
            + _raw(definition)
        )
    for definition in indexes.values():
        connection.execute(_raw(definition.replace(" ON ONLY ", " ON ")))
    return old


def _take_over(connection: psycopg.Connection, table: str, old: str, end: datetime) -> bool:
    """The old rows become the first partition; those from after its end go where they belong. False: no
    rows."""
    names = {
        "place": sql.Identifier(SCHEMA, table),
        "old": sql.Identifier(SCHEMA, old),
        "column": sql.Identifier(TIME_TABLES[table]),
        "end": sql.Literal(end),
    }
    if _value(connection, sql.SQL("SELECT NOT EXISTS (SELECT FROM {old})").format(**names)):
        return False
    for statement in (
        "WITH ahead AS (DELETE FROM {old} WHERE {column} >= {end} RETURNING *)"
        " INSERT INTO {place} SELECT * FROM ahead",
        "ALTER TABLE {place} ATTACH PARTITION {old} FOR VALUES FROM (MINVALUE) TO ({end})",
    ):
        connection.execute(sql.SQL(statement).format(**names))
    return True


def _make(connection: psycopg.Connection, table: str, start: datetime, end: datetime) -> str:
    """A partition, filled from the default one before it is attached: ATTACH looks there for its rows."""
    name = f"{table}_p{start:%Y%m%dt%H%M}"
    names = {
        "new": sql.Identifier(SCHEMA, name),
        "place": sql.Identifier(SCHEMA, table),
        "default": sql.Identifier(SCHEMA, f"{table}_default"),
        "column": sql.Identifier(TIME_TABLES[table]),
        "start": sql.Literal(start),
        "end": sql.Literal(end),
    }
    for statement in (
        "CREATE TABLE {new} (LIKE {place} INCLUDING ALL)",
        "LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE",
        "WITH due AS (DELETE FROM {default} WHERE {column} >= {start} AND {column} < {end} RETURNING *)"
        " INSERT INTO {new} SELECT * FROM due",
        "ALTER TABLE {place} ATTACH PARTITION {new} FOR VALUES FROM ({start}) TO ({end})",
    ):
        connection.execute(sql.SQL(statement).format(**names))
    return name


def _gaps(known: list[Partition], interval: timedelta, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Spans from now on that no partition covers, cut at whole intervals."""
    start, last = _floor(now, interval), _floor(now, interval) + (AHEAD + 1) * interval
    while start < last:
        end = _floor(start, interval) + interval
        for one in known:
            if one.end > start and (one.start is None or one.start <= start):
                start = one.end
                break
            if one.start is not None and start < one.start < end:
                end = one.start
        else:
            yield start, end
            start = end


def _floor(at: datetime, interval: timedelta) -> datetime:
    return EPOCH + (at - EPOCH) // interval * interval


def _time(connection: psycopg.Connection, bound: str) -> datetime | None:
    if not bound.startswith("'"):
        return None
    found = _value(connection, "SELECT %s::timestamptz", bound.strip("'"))
    return found if isinstance(found, datetime) else None


def _indexes(connection: psycopg.Connection, table: str) -> tuple[dict[str, str], dict[str, str]]:
    """Definitions by name: of plain indexes, and of the constraints that have one."""
    found = connection.execute(
        "SELECT c.relname, pg_get_indexdef(i.indexrelid), pg_get_constraintdef(k.oid) FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indexrelid"
        " LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u')"
        " WHERE i.indrelid = %s::regclass ORDER BY 1",
        (f"{SCHEMA}.{table}",),
    ).fetchall()
    plain = {name: definition for name, definition, constraint in found if constraint is None}
    return plain, {name: constraint for name, _, constraint in found if constraint is not None}


def _value(connection: psycopg.Connection, query: Any, *values: Any) -> Any:
    row = connection.execute(query, values or None).fetchone()
    return row[0] if row else None


def _raw(text: str) -> sql.Composed:
    # What the catalogue itself says about our own tables.
    return sql.Composed([sql.SQL(text)])  # type: ignore[arg-type]
