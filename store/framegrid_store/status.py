"""What an operator wants to know about a store, in one look."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from framegrid_store import retention
from framegrid_store.capabilities import Capabilities, probe
from framegrid_store.connect import connect, describe, sanitised
from framegrid_store.errors import StoreError
from framegrid_store.migrate import current_revision, head_revision, require_current
from framegrid_store.names import SCHEMA, TIME_TABLES


@dataclass(frozen=True, slots=True)
class TableStatus:
    """One time table. `rows` is the planner's estimate, exact only after ANALYZE.

    `keep` None: for ever; `next_drop`: when its oldest chunk goes; `dropped_before`: rows before may be gone.
    `uncompressed_bytes`: what the compressed chunks would be without it; None where nothing is compressed.
    """

    rows: int
    size_bytes: int
    newest: datetime | None
    chunks: int
    chunk_interval: timedelta | None
    chunk_reason: str
    keep: timedelta | None
    next_drop: datetime | None
    dropped_before: datetime | None
    compressed_chunks: int
    compressed_bytes: int | None
    uncompressed_bytes: int | None

    @property
    def compression_ratio(self) -> float | None:
        """How many times smaller compressed chunks are; None where nothing is compressed."""
        if not self.compressed_bytes or self.uncompressed_bytes is None:
            return None
        return self.uncompressed_bytes / self.compressed_bytes


@dataclass(frozen=True, slots=True)
class RollUpStatus:
    """Complete up to `rolled_up_to` (start of the oldest pending minute; None: nothing pends). `lag_s`: how
    long the oldest minute that is over has waited. `ahead`: pending minutes that are not over yet, rows from
    the future."""

    pending_minutes: int
    pending_marks: int
    rolled_up_to: datetime | None
    lag_s: float
    ahead: int


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """The last run of a task of maintenance, and when it runs next at the earliest."""

    task: str
    ran_at: datetime
    next_at: datetime
    took_ms: int
    done: str
    error: str


@dataclass(frozen=True, slots=True)
class SkewedRows:
    """Rows that came late or from the future, as far as the notes reach back; stored and counted all the
    same."""

    reason: str
    rows: int
    oldest: datetime
    newest: datetime
    last_noted_at: datetime


@dataclass(frozen=True, slots=True)
class Status:
    """`revision` None: never upgraded; then, and when it is too old or too new, the rest is empty.

    `lag_s`: now minus the newest coverage row.
    """

    revision: str | None
    revision_wanted: str
    capabilities: Capabilities
    cameras: int = 0
    size_bytes: int = 0
    lag_s: float | None = None
    tables: dict[str, TableStatus] = field(default_factory=dict)
    roll_up: RollUpStatus | None = None
    tasks: list[TaskStatus] = field(default_factory=list)
    skewed: list[SkewedRows] = field(default_factory=list)
    late_after: timedelta | None = None
    future_after: timedelta | None = None


def status(database_url: str) -> Status:
    """Ask the database. Raises `StoreError`, without the password, when it cannot be asked."""
    try:
        with connect(database_url, application_name="framegrid-status") as connection:
            return read_status(connection)
    except psycopg.Error as error:
        raise StoreError(
            f"cannot read {describe(database_url)}: {sanitised(error, database_url)}"
        ) from None  # The chained error might quote the URL.


def read_status(connection: psycopg.Connection) -> Status:
    """As `status`, over a connection of the owner's. Raises psycopg's errors."""
    capabilities, revision = probe(connection), current_revision(connection)
    try:
        require_current(connection)
    except StoreError:
        return Status(revision, head_revision(), capabilities)
    tables = {name: _table(connection, name, capabilities) for name in TIME_TABLES}
    cameras, size_bytes, lag_s, late_after, future_after = connection.execute(
        "SELECT (SELECT count(*) FROM framegrid.camera), pg_database_size(current_database()),"
        " extract(epoch FROM clock_timestamp() - %s::timestamptz)::float8, late_after, future_after"
        " FROM framegrid.intake_limits",
        (tables["coverage"].newest,),
    ).fetchone() or (0, 0, None, None, None)
    return Status(
        revision,
        head_revision(),
        capabilities,
        cameras,
        size_bytes,
        lag_s,
        tables,
        _roll_up(connection),
        _tasks(connection),
        _skewed(connection),
        late_after,
        future_after,
    )


def _table(connection: psycopg.Connection, name: str, capabilities: Capabilities) -> TableStatus:
    rows, size_bytes, chunks = connection.execute(
        _HYPERTABLE if capabilities.hypertables else _PARTITIONED, {"table": f"{SCHEMA}.{name}"}
    ).fetchone() or (0, 0, 0)
    interval, reason, keep, dropped_before = connection.execute(
        "SELECT chunk_interval, chunk_reason, keep, dropped_before FROM framegrid.table_state"
        " WHERE table_name = %s",
        (name,),
    ).fetchone() or (None, "", None, None)
    return TableStatus(
        rows,
        size_bytes,
        _newest(connection, name),
        chunks,
        interval,
        reason,
        keep,
        retention.next_drop(connection, capabilities, name, keep),
        dropped_before,
        *_compression(connection, name, capabilities),
    )


_HYPERTABLE = """
SELECT approximate_row_count(%(table)s::regclass), hypertable_size(%(table)s::regclass),
    (SELECT count(*) FROM show_chunks(%(table)s::regclass))
"""
_PARTITIONED = """
SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint, coalesce(sum(pg_total_relation_size(c.oid)),
0)::bigint,
    count(*) FILTER (WHERE c.relispartition)
FROM pg_partition_tree(%(table)s::regclass) t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf
"""


def _newest(connection: psycopg.Connection, name: str) -> datetime | None:
    # Newest per camera through the index: a plain max(time) would read the whole table.
    row = connection.execute(
        sql.SQL(
            "SELECT max(n.newest) FROM framegrid.camera c CROSS JOIN LATERAL"
            " (SELECT max({time}) AS newest FROM {table} t WHERE t.camera_id = c.camera_id) n"
        ).format(time=sql.Identifier(TIME_TABLES[name]), table=sql.Identifier(SCHEMA, name))
    ).fetchone()
    return row[0] if row else None


def _compression(
    connection: psycopg.Connection, name: str, capabilities: Capabilities
) -> tuple[int, int | None, int | None]:
    """Compressed chunks, their bytes, and what they were before."""
    if not capabilities.columnstore:
        return 0, None, None
    row = connection.execute(COMPRESSION, (f"{SCHEMA}.{name}",)).fetchone()
    return row if row and row[0] else (0, None, None)


COMPRESSION = """
SELECT number_compressed_chunks::bigint, after_compression_total_bytes::bigint,
before_compression_total_bytes::bigint FROM hypertable_columnstore_stats(%s::regclass)
"""
"""TimescaleDB Community 2.18 and later."""


def _roll_up(connection: psycopg.Connection) -> RollUpStatus:
    with connection.cursor(row_factory=class_row(RollUpStatus)) as cursor:
        found = cursor.execute(
            "SELECT count(DISTINCT minute) AS pending_minutes, count(*) AS pending_marks,"
            " min(minute) AS rolled_up_to,"
            " coalesce(greatest(extract(epoch FROM now() - min(minute) - interval '1 minute'), 0), 0)::float8"
            " AS lag_s, count(DISTINCT minute) FILTER (WHERE minute > now()) AS ahead"
            " FROM framegrid.rollup_pending"
        ).fetchone()
    return found or RollUpStatus(0, 0, None, 0.0, 0)


def _tasks(connection: psycopg.Connection) -> list[TaskStatus]:
    with connection.cursor(row_factory=class_row(TaskStatus)) as cursor:
        return cursor.execute(
            "SELECT task, ran_at, next_at, took_ms, done, error FROM framegrid.maintenance_task"
            " ORDER BY next_at"
        ).fetchall()


def _skewed(connection: psycopg.Connection) -> list[SkewedRows]:
    with connection.cursor(row_factory=class_row(SkewedRows)) as cursor:
        return cursor.execute(
            "SELECT reason, sum(rows)::bigint AS rows, min(oldest) AS oldest, max(newest) AS newest,"
            " max(noted_at) AS last_noted_at FROM framegrid.skewed_rows GROUP BY reason ORDER BY reason"
        ).fetchall()
