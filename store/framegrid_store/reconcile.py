"""Brings what depends on the edition and on the settings into place after the migrations; idempotent.

TimescaleDB, any edition: the time tables are hypertables, also when the extension came after the rows. Plain
PostgreSQL: they are partitioned. Community: old chunks go to the columnstore by a policy of TimescaleDB.
Roll-ups and retention are not policies: see `rollup` and `retention`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg import sql

from framegrid_store import partitions
from framegrid_store.capabilities import Capabilities
from framegrid_store.chunks import Load, chunk_of
from framegrid_store.connect import sanitised
from framegrid_store.names import SCHEMA, TIME_TABLES
from framegrid_store.settings import StoreSettings

logger = logging.getLogger(__name__)

_MAY_CREATE_EXTENSION = """
SELECT 1 FROM pg_available_extensions
WHERE name = 'timescaledb' AND installed_version IS NULL
  AND current_setting('shared_preload_libraries') LIKE '%timescaledb%'
"""
KINDS_KEPT = {
    "frame_count": "raw",
    "coverage": "raw",
    "track": "tracks",
    "line_crossing": "crossings",
    "event": "events",
    "detection": "detections",
    "frame_count_minute": "minutes",
    "coverage_minute": "minutes",
    "frame_count_hour": "hours",
    "coverage_hour": "hours",
    "frame_count_day": "days",
    "coverage_day": "days",
    "ingest_batch": "ledger",
    "skewed_rows": "skewed",
}
"""Tables and the key of `retention_days` that says how long their rows stay."""


@dataclass(frozen=True, slots=True)
class TablesCut:
    """Tables that were not cut before, by how they are now; `emptied` are to be dropped when no view uses
    them."""

    hypertables: tuple[str, ...] = ()
    partitioned: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()


def create_extension(connection: psycopg.Connection) -> None:
    """CREATE EXTENSION timescaledb where the server has it loaded; says so and goes on where the role may
    not."""
    # Only superusers and pg_read_all_settings see shared_preload_libraries; nobody else could use the answer.
    try:
        with connection.transaction():
            if connection.execute(_MAY_CREATE_EXTENSION).fetchone():
                connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
                logger.info("created extension timescaledb")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported) as error:
        logger.info("TimescaleDB stays off: %s", sanitised(error))


def apply_settings(connection: psycopg.Connection, settings: StoreSettings) -> None:
    """Write retention, chunk intervals with their reasons and the limits of row times into the database."""
    load = measure_load(connection, settings)
    for table, kind in KINDS_KEPT.items():
        keep = keep_of(settings, kind)
        chunk = chunk_of(table, load, keep) if table in TIME_TABLES else None
        connection.execute(
            "INSERT INTO framegrid.table_state AS s (table_name, keep, chunk_interval, chunk_reason)"
            " VALUES (%(table)s, %(keep)s, %(interval)s, %(reason)s) ON CONFLICT (table_name) DO UPDATE SET"
            " keep = excluded.keep, chunk_interval = excluded.chunk_interval, applied_at = now(),"
            " chunk_reason = excluded.chunk_reason WHERE (s.keep, s.chunk_interval, s.chunk_reason)"
            " IS DISTINCT FROM (excluded.keep, excluded.chunk_interval, excluded.chunk_reason)",
            {
                "table": table,
                "keep": keep,
                "interval": chunk.interval if chunk else None,
                "reason": chunk.reason if chunk else "",
            },
        )
    limits = (timedelta(hours=settings.late_horizon_hours), timedelta(seconds=settings.future_limit_s))
    connection.execute(
        "UPDATE framegrid.intake_limits SET late_after = %s, future_after = %s"
        " WHERE (late_after, future_after) IS DISTINCT FROM (%s, %s)",
        (*limits, *limits),
    )


def measure_load(connection: psycopg.Connection, settings: StoreSettings) -> Load:
    """The load that chunks are made for: as planned, or as it is when that is more; and the server's
    memory."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM framegrid.camera), greatest("
        "pg_size_bytes(current_setting('shared_buffers')),"
        " pg_size_bytes(current_setting('effective_cache_size')))"
    ).fetchone()
    cameras, memory_bytes = row or (0, 0)
    return Load(max(settings.cameras, cameras), settings.rows_per_s_per_camera, memory_bytes)


def keep_of(settings: StoreSettings, kind: str) -> timedelta | None:
    """How long rows of a kind (a key of retention_days) stay; None: for ever."""
    days: float | None = getattr(settings.retention_days, kind)
    return None if days is None else timedelta(days=days)


def cut_tables(connection: psycopg.Connection, capabilities: Capabilities, now: datetime) -> TablesCut:
    """Make every time table a hypertable or a partitioned table, rows included; needs `apply_settings`
    before."""
    intervals = _intervals(connection)
    if not capabilities.hypertables:
        plain = [table for table in TIME_TABLES if not partitions.is_partitioned(connection, table)]
        left = [partitions.partition_table(connection, table, intervals[table], now) for table in plain]
        return TablesCut(partitioned=tuple(plain), emptied=tuple(filter(None, left)))
    known = connection.execute(
        "SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_schema = %s",
        (SCHEMA,),
    ).fetchall()
    made = [table for table in TIME_TABLES if (table,) not in known]
    emptied = [_create_hypertable(connection, table, intervals[table]) for table in made]
    return TablesCut(hypertables=tuple(made), emptied=tuple(filter(None, emptied)))


def cut_ahead(connection: psycopg.Connection, capabilities: Capabilities, now: datetime) -> list[str]:
    """Chunks of the interval in force from now on; plain: the partitions of the next time. Returns what was
    made."""
    intervals = _intervals(connection)
    if not capabilities.hypertables:
        return [
            name
            for table in TIME_TABLES
            for name in partitions.make_ahead(connection, table, intervals[table], now)
        ]
    found = connection.execute(
        "SELECT hypertable_name, time_interval FROM timescaledb_information.dimensions"
        " WHERE hypertable_schema = %s AND dimension_number = 1",
        (SCHEMA,),
    ).fetchall()
    changed = [table for table, interval in found if intervals.get(table, interval) != interval]
    for table in changed:
        connection.execute(
            "SELECT set_chunk_time_interval(%s::regclass, %s::interval)",
            (f"{SCHEMA}.{table}", intervals[table]),
        )
    return [f"{table} in chunks of {intervals[table]}" for table in changed]


def drop_emptied(connection: psycopg.Connection, tables: Iterable[str]) -> None:
    """Drop tables whose rows are elsewhere; one that somebody's own view stands on is left, empty or not."""
    for table in tables:
        try:
            with connection.transaction():
                connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(SCHEMA, table)))
        except psycopg.errors.DependentObjectsStillExist as error:
            logger.warning("framegrid.%s is not used any more, but by: %s", table, error.diag.message_detail)


def compress_by_policy(
    connection: psycopg.Connection, capabilities: Capabilities, settings: StoreSettings
) -> list[str]:
    """Community: columnstore and its policy on every time table, as the settings say. Returns what was
    changed."""
    if not capabilities.columnstore:
        return []
    found = connection.execute(POLICIES, (SCHEMA,)).fetchall()
    after = timedelta(hours=settings.compress_after_hours)
    in_force: dict[str, timedelta] = dict(found)
    changed = []
    for table in TIME_TABLES:
        wanted = after if settings.columnstore and table not in _NEVER_COMPRESSED else None
        if in_force.get(table) == wanted:
            continue
        for statement in policy_statements(table, wanted, is_new=table not in in_force):
            connection.execute(statement)
        changed.append(f"{table} compressed after {wanted}" if wanted else f"{table} no longer compressed")
    return changed


POLICIES = """
SELECT hypertable_name, (config ->> 'compress_after')::interval FROM timescaledb_information.jobs
WHERE proc_name = 'policy_compression' AND hypertable_schema = %s
"""
_NEVER_COMPRESSED = ("frame_count_day", "coverage_day")
"""Small, and today's rows are updated every minute."""


def policy_statements(table: str, after: timedelta | None, *, is_new: bool) -> list[sql.Composed]:
    """TimescaleDB Community 2.20 and later: columnstore with this policy, or without one."""
    names = {
        "table": sql.Identifier(SCHEMA, table),
        "literal": sql.Literal(f"{SCHEMA}.{table}"),
        "order": sql.Literal(f"{TIME_TABLES[table]} DESC"),
        "after": sql.Literal(after),
    }
    enable = sql.SQL(
        "ALTER TABLE {table} SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'camera_id',"
        " timescaledb.orderby = {order})"
    )
    remove = sql.SQL("CALL remove_columnstore_policy({literal}, if_exists => true)")
    add = sql.SQL("CALL add_columnstore_policy({literal}, after => {after}::interval, if_not_exists => true)")
    wanted = [enable] if is_new and after else [remove]
    return [statement.format(**names) for statement in (*wanted, *([add] if after else []))]


def _create_hypertable(connection: psycopg.Connection, table: str, interval: timedelta) -> str | None:
    old = (
        partitions.replace(connection, table, partitioned=False)
        if partitions.is_partitioned(connection, table)
        else None
    )
    # The positional, old form: the same in every TimescaleDB since 2.0. Its default index would double ours.
    connection.execute(
        sql.SQL(
            "SELECT create_hypertable({table}, {column}, chunk_time_interval => {interval}::interval,"
            " create_default_indexes => false, if_not_exists => true, migrate_data => true)"
        ).format(
            table=sql.Literal(f"{SCHEMA}.{table}"),
            column=sql.Literal(TIME_TABLES[table]),
            interval=sql.Literal(interval),
        )
    )
    if old is not None:
        connection.execute(
            sql.SQL("INSERT INTO {} SELECT * FROM {}").format(
                sql.Identifier(SCHEMA, table), sql.Identifier(SCHEMA, old)
            )
        )
    return old


def _intervals(connection: psycopg.Connection) -> dict[str, timedelta]:
    found = connection.execute(
        "SELECT table_name, chunk_interval FROM framegrid.table_state WHERE chunk_interval IS NOT NULL"
    )
    return dict(found.fetchall())
