"""Brings what depends on the edition into place after the migrations; idempotent.

TimescaleDB, any edition: the time tables become hypertables, also when the extension came after the rows.
Plain PostgreSQL: the same tables as they are.
"""

from __future__ import annotations

import logging

import psycopg
from psycopg import sql

from framegrid_store.capabilities import Capabilities
from framegrid_store.connect import sanitised
from framegrid_store.names import SCHEMA, TIME_TABLES

logger = logging.getLogger(__name__)

CHUNK_INTERVAL = "1 day"
"""Time span of a chunk. At 100 cameras, 2 classes and a row a second a day is 2.2 GB: its index stays in
memory."""

_MAY_CREATE_EXTENSION = """
SELECT 1 FROM pg_available_extensions
WHERE name = 'timescaledb' AND installed_version IS NULL
  AND current_setting('shared_preload_libraries') LIKE '%timescaledb%'
"""


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


def create_hypertables(connection: psycopg.Connection, capabilities: Capabilities) -> list[str]:
    """Make every time table a hypertable, rows included. Returns the tables that were not one before."""
    if not capabilities.hypertables:
        return []
    known = {
        name
        for (name,) in connection.execute(
            "SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_schema = %s",
            (SCHEMA,),
        )
    }
    made = [table for table in TIME_TABLES if table not in known]
    for table in made:
        # The positional, old form: the same in every TimescaleDB since 2.0. Its default index would double
        # ours.
        connection.execute(
            sql.SQL(
                "SELECT create_hypertable({table}, {column}, chunk_time_interval => {interval}::interval,"
                " create_default_indexes => false, if_not_exists => true, migrate_data => true)"
            ).format(
                table=sql.Literal(f"{SCHEMA}.{table}"),
                column=sql.Literal(TIME_TABLES[table]),
                interval=sql.Literal(CHUNK_INTERVAL),
            )
        )
    return made
