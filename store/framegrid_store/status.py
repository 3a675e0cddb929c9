"""What an operator wants to know about a store, in one look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from framegrid_store.capabilities import Capabilities, probe
from framegrid_store.connect import connect, describe, sanitised
from framegrid_store.errors import StoreError
from framegrid_store.migrate import current_revision, head_revision
from framegrid_store.names import SCHEMA, TIME_TABLES


@dataclass(frozen=True, slots=True)
class TableStatus:
    """Size of one time table. `rows` is the planner's estimate, exact only after ANALYZE."""

    rows: int
    size_bytes: int
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """`revision` None: never upgraded, and then `tables` is empty. `lag_s`: now minus the newest coverage
    row."""

    revision: str | None
    revision_wanted: str
    capabilities: Capabilities
    cameras: int
    lag_s: float | None
    tables: dict[str, TableStatus]


def status(database_url: str) -> Status:
    """Ask the database. Raises `StoreError`, without the password, when it cannot be asked."""
    try:
        with connect(database_url, application_name="framegrid-status") as connection:
            return _status(connection)
    except psycopg.Error as error:
        raise StoreError(
            f"cannot read {describe(database_url)}: {sanitised(error, database_url)}"
        ) from None  # The chained error might quote the URL.


def _status(connection: psycopg.Connection) -> Status:
    capabilities, revision = probe(connection), current_revision(connection)
    tables: dict[str, TableStatus] = {}
    cameras, lag_s = 0, None
    if revision is not None:
        tables = {name: _table(connection, name, capabilities) for name in TIME_TABLES}
        row = connection.execute("SELECT count(*) FROM framegrid.camera").fetchone()
        cameras = int(row[0]) if row else 0
        row = connection.execute(
            "SELECT extract(epoch FROM clock_timestamp() - %s::timestamptz)::float8",
            (tables["coverage"].newest,),
        ).fetchone()
        lag_s = row[0] if row else None
    return Status(revision, head_revision(), capabilities, cameras, lag_s, tables)


def _table(connection: psycopg.Connection, name: str, capabilities: Capabilities) -> TableStatus:
    place = f"{SCHEMA}.{name}"
    # Newest per camera through the index: a plain max(time) would read the whole table.
    newest = sql.SQL(
        "SELECT max(n.newest) FROM framegrid.camera c CROSS JOIN LATERAL"
        " (SELECT max({time}) AS newest FROM {table} t WHERE t.camera_id = c.camera_id) n"
    ).format(time=sql.Identifier(TIME_TABLES[name]), table=sql.Identifier(SCHEMA, name))
    size = (
        "SELECT approximate_row_count(%(t)s::regclass), hypertable_size(%(t)s::regclass)"
        if capabilities.hypertables
        else "SELECT greatest(reltuples, 0)::bigint, pg_total_relation_size(oid)"
        " FROM pg_class WHERE oid = %(t)s::regclass"
    )
    row = connection.execute(size, {"t": place}).fetchone() or (0, 0)
    at = connection.execute(newest).fetchone()
    return TableStatus(int(row[0]), int(row[1]), at[0] if at else None)
