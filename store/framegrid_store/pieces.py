"""The chunks or partitions that a time table consists of, by one name on every edition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from framegrid_store import partitions
from framegrid_store.capabilities import Capabilities
from framegrid_store.names import SCHEMA


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk or partition and its time. `start` None: from the beginning."""

    table: str
    schema: str
    name: str
    start: datetime | None
    end: datetime

    @property
    def place(self) -> sql.Identifier:
        """Its name with its schema, for SQL."""
        return sql.Identifier(self.schema, self.name)


def pieces(connection: psycopg.Connection, capabilities: Capabilities, table: str) -> Iterator[Piece]:
    """Those of a table, oldest first; the default partition is none."""
    if not capabilities.hypertables:
        for partition in partitions.partitions(connection, table):
            yield Piece(table, SCHEMA, partition.name, partition.start, partition.end)
        return
    found = connection.execute(
        "SELECT chunk_schema, chunk_name, range_start, range_end FROM timescaledb_information.chunks"
        " WHERE hypertable_schema = %s AND hypertable_name = %s ORDER BY range_end",
        (SCHEMA, table),
    )
    for schema, name, start, end in found.fetchall():
        yield Piece(table, schema, name, start, end)
