"""What a run has left in SQL, asked in SQL: rows, frames, drops, crossings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from framegrid_store.connect import connect, sanitised
from psycopg import sql

from framegrid_local.errors import LocalError
from framegrid_local.verdict import Cell, TimedCrossing

# Fact tables and the column that says when.
FACTS = {"frame_count": "time", "coverage": "time", "line_crossing": "time", "track": "started_at"}
COVERAGE = """
    SELECT coalesce(sum(expected), 0)::bigint,
           coalesce(sum(processed), 0)::bigint,
           coalesce(sum(dropped_no_frame + dropped_overload + dropped_stale + dropped_refused
                        + dropped_corrupt), 0)::bigint
    FROM framegrid.coverage JOIN framegrid.camera USING (camera_id)
    WHERE key = ANY(%s) AND time >= to_timestamp(%s)
"""
CROSSINGS = """
    SELECT c.key, l.name, o.name, CASE x.direction WHEN 1 THEN 'in' ELSE 'out' END,
           extract(epoch FROM x.time)::float8
    FROM framegrid.line_crossing x
    JOIN framegrid.camera c USING (camera_id)
    JOIN framegrid.line l USING (line_id)
    JOIN framegrid.object_class o USING (class_id)
    WHERE c.key = ANY(%s) AND x.time >= to_timestamp(%s)
"""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """Totals since `from_s` for the cameras asked for."""

    rows: int
    expected: int
    processed: int
    dropped: int
    crossings: tuple[TimedCrossing, ...]

    @property
    def is_accounted_for(self) -> bool:
        """Every expected frame is processed or dropped."""
        return self.expected == self.processed + self.dropped


def read_run(database_url: str, cameras: Sequence[str], from_s: float) -> StoredRun:
    """Asks the database. Raises LocalError, without the password."""
    names = list(cameras)
    try:
        with connect(database_url, application_name="framegrid-demo") as connection:
            rows = sum(_rows(connection, table, names, from_s) for table in FACTS)
            totals = connection.execute(COVERAGE, (names, from_s)).fetchone() or (0, 0, 0)
            found = connection.execute(CROSSINGS, (names, from_s)).fetchall()
    except psycopg.Error as error:
        raise LocalError(f"cannot read back what was stored: {sanitised(error, database_url)}") from None
    crossings = tuple(TimedCrossing(Cell(*row[:4]), row[4]) for row in found)
    return StoredRun(rows, int(totals[0]), int(totals[1]), int(totals[2]), crossings)


def _rows(connection: psycopg.Connection, table: str, cameras: list[str], from_s: float) -> int:
    query = sql.SQL(
        "SELECT count(*) FROM {table} JOIN framegrid.camera USING (camera_id)"
        " WHERE key = ANY(%s) AND {time} >= to_timestamp(%s)"
    ).format(table=sql.Identifier("framegrid", table), time=sql.Identifier(FACTS[table]))
    row = connection.execute(query, (cameras, from_s)).fetchone()
    return int(row[0]) if row else 0
