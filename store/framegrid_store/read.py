"""The few questions that the dashboard and the demo ask, as typed functions over one connection.

They give the numbers of the `bi` views (the SQL is the same), but name the camera and the time inside, where
the index can use them at every scale: a query costs what its range holds, not what the table holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.rows import class_row, dict_row

from framegrid_store.connect import connect
from framegrid_store.counts_sql import SCALES, counts_sql, coverage_sql
from framegrid_store.errors import StoreError

if TYPE_CHECKING:
    from typing_extensions import LiteralString

STATEMENT_TIMEOUT_S = 20
_WHERE = "camera_id = %(camera_id)s AND time >= %(start)s AND time < %(end)s"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera. `last_seen_at`: end of its last interval with a processed frame; None when there is none."""

    camera_id: int
    name: str
    site: str
    timezone: str
    paused: bool
    created_at: datetime
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class CountPoint:
    """Objects of a class in a zone over a bucket; mean, min and max are None where nothing was seen."""

    time: datetime
    cls: str
    zone: str
    samples: int
    mean: float | None
    min: int | None
    max: int | None
    stddev: float | None
    uniques: int


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """How well a bucket was seen. `coverage` is 0..1 of the bucket's length, in the future included."""

    time: datetime
    observed_s: float
    coverage: float
    expected: int
    processed: int
    dropped: int


@dataclass(frozen=True, slots=True)
class CrossingPoint:
    """Objects of a class that crossed a line in a bucket."""

    time: datetime
    line: str
    cls: str
    count_in: int
    count_out: int


@dataclass(frozen=True, slots=True)
class Now:
    """A camera's last interval with a processed frame: mean objects per class, in the whole picture."""

    at: datetime
    counts: dict[str, float]
    model: str


@dataclass(frozen=True, slots=True)
class Totals:
    """What is stored about a time range, over all cameras."""

    count_rows: int
    coverage_rows: int
    expected: int
    processed: int
    dropped: int


def open_reader(database_url: str) -> psycopg.Connection:
    """A connection that only reads, in UTC, and gives up on a query after 20 seconds."""
    connection = connect(database_url, application_name="framegrid-reader", autocommit=True)
    connection.execute(
        "SELECT set_config('default_transaction_read_only', 'on', false),"
        " set_config('TimeZone', 'UTC', false), set_config('statement_timeout', %s, false)",
        (f"{STATEMENT_TIMEOUT_S}s",),
    )
    return connection


def cameras(connection: psycopg.Connection) -> list[Camera]:
    """All cameras, by name."""
    return _rows(
        connection,
        Camera,
        "SELECT c.camera_id, v.camera AS name, v.site, v.timezone, v.paused, v.created_at, v.last_seen_at"
        " FROM bi.cameras v JOIN framegrid.camera c ON c.key = v.camera ORDER BY 2",
        {},
    )


def counts(
    connection: psycopg.Connection, camera: Camera, scale: str, start: datetime, end: datetime
) -> list[CountPoint]:
    """Counts per bucket, class and zone, of the buckets that touch start..end, by time.

    A bucket that was expected but not seen is there with mean None; one without any row is not there.
    """
    query = (
        'SELECT time, class AS cls, zone, samples, mean, "min", "max", stddev, uniques'
        f" FROM ({counts_sql(SCALES[_known(scale)], _WHERE)}) v ORDER BY 1, 2, 3"
    )
    return _rows(connection, CountPoint, query, _range(connection, camera, scale, start, end))


def coverage(
    connection: psycopg.Connection, camera: Camera, scale: str, start: datetime, end: datetime
) -> list[CoveragePoint]:
    """Coverage per bucket, of the buckets that touch start..end, by time; only buckets that have rows."""
    query = (
        "SELECT time, observed_s, coverage, expected, processed, dropped"
        f" FROM ({coverage_sql(SCALES[_known(scale)], _WHERE)}) v ORDER BY 1"
    )
    return _rows(connection, CoveragePoint, query, _range(connection, camera, scale, start, end))


def crossings(
    connection: psycopg.Connection, camera: Camera, scale: str, start: datetime, end: datetime
) -> list[CrossingPoint]:
    """Crossings per bucket, line and class, of the buckets that touch start..end, by time."""
    query = (
        f"SELECT {SCALES[_known(scale)].bucket_of('r.time')} AS time, l.name AS line, k.name AS cls,"
        " count(*) FILTER (WHERE r.direction = 1) AS count_in,"
        " count(*) FILTER (WHERE r.direction = -1) AS count_out"
        " FROM framegrid.line_crossing r JOIN framegrid.camera c ON c.camera_id = r.camera_id"
        " JOIN framegrid.line l ON l.line_id = r.line_id"
        " JOIN framegrid.object_class k ON k.class_id = r.class_id"
        " WHERE r.camera_id = %(camera_id)s AND r.time >= %(start)s AND r.time < %(end)s"
        " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    return _rows(connection, CrossingPoint, query, _range(connection, camera, scale, start, end))


def now(connection: psycopg.Connection, camera: Camera) -> Now | None:
    """The last interval in which a frame of this camera was counted; None when there is none."""
    query = (
        "SELECT r.time + r.interval_ms * interval '1 ms' AS at, k.name AS cls,"
        " r.n_sum::float8 / r.samples AS mean, concat_ws('@', m.name, nullif(m.version, '')) AS model"
        " FROM framegrid.frame_count r JOIN framegrid.object_class k ON k.class_id = r.class_id"
        " JOIN framegrid.model_version m ON m.model_id = r.model_id"
        " WHERE r.camera_id = %(camera_id)s AND r.zone_id = 0 AND r.samples > 0 AND r.time = ("
        " SELECT time FROM framegrid.frame_count"
        " WHERE camera_id = %(camera_id)s AND zone_id = 0 AND samples > 0 ORDER BY time DESC LIMIT 1)"
    )
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_sql(query), {"camera_id": camera.camera_id}).fetchall()
    if not found:
        return None
    return Now(found[0]["at"], {row["cls"]: row["mean"] for row in found}, found[0]["model"])


def today(connection: psycopg.Connection, camera: Camera) -> tuple[datetime, datetime]:
    """The camera's local midnight, and now: bounds for `crossings` and `coverage` at scale `day`."""
    row = connection.execute(
        "SELECT date_trunc('day', clock_timestamp(), %s), clock_timestamp()", (camera.timezone,)
    ).fetchone()
    if row is None:
        raise StoreError("expected the time of day, got nothing; the server answers no queries")
    return row[0], row[1]


def totals(connection: psycopg.Connection, start: datetime, end: datetime) -> Totals:
    """Rows and frames whose interval starts in start..end, over all cameras. Reads the whole range."""
    query = (
        "SELECT (SELECT count(*) FROM framegrid.frame_count WHERE time >= %(start)s AND time < %(end)s)"
        " AS count_rows, count(*) AS coverage_rows, coalesce(sum(expected), 0)::bigint AS expected,"
        " coalesce(sum(processed), 0)::bigint AS processed,"
        " coalesce(sum(expected - processed), 0)::bigint AS dropped"
        " FROM framegrid.coverage WHERE time >= %(start)s AND time < %(end)s"
    )
    return _rows(connection, Totals, query, {"start": start, "end": end})[0]


def bucket_s(scale: str) -> int:
    """Usual length of a bucket, seconds."""
    return {"5s": 5, "minute": 60, "hour": 3600, "day": 86_400}[_known(scale)]


def _known(scale: str) -> str:
    if scale not in SCALES:
        raise ValueError(f"expected a scale of {', '.join(SCALES)}, got {scale!r}")
    return scale


def _range(
    connection: psycopg.Connection, camera: Camera, scale: str, start: datetime, end: datetime
) -> dict[str, Any]:
    """Query parameters: start and end widened to whole buckets."""
    if start.tzinfo is None or end.tzinfo is None or end - start < timedelta(0):
        raise ValueError(f"expected aware times, start before end, got {start} and {end}")
    asked = {"start": start, "end": end, "timezone": camera.timezone}
    # The casts spare the server a guess at the parameters' types.
    bounds = SCALES[scale].bounds.replace("%(start)s", "%(start)s::timestamptz")
    bounds = bounds.replace("%(end)s", "%(end)s::timestamptz").replace("%(timezone)s", "%(timezone)s::text")
    row = connection.execute(_sql(f"SELECT {bounds}"), asked).fetchone()
    if row is None:
        raise StoreError("expected the bounds of a range, got nothing; the server answers no queries")
    return {"camera_id": camera.camera_id, "start": row[0], "end": row[1]}


def _rows(connection: psycopg.Connection, kind: type[_T], query: str, values: dict[str, Any]) -> list[_T]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(_sql(query), values).fetchall()


def _sql(text: str) -> LiteralString:
    # Built from this package's constants alone; values travel as parameters.
    return text
