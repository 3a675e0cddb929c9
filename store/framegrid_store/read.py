"""The few questions that the dashboard asks, as typed functions over one connection.

They read schema `bi` alone, as role bi or any other that may: SQL's one contract. Each names a camera and a
stretch of time, which the views hand on to their indexes: it costs what the stretch holds, not what the table
holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.rows import class_row

from framegrid_store.connect import connect
from framegrid_store.counts_sql import SCALES
from framegrid_store.errors import StoreError

if TYPE_CHECKING:
    from typing_extensions import LiteralString

STATEMENT_TIMEOUT_S = 20
_WITHIN = "camera = %(camera)s AND time >= %(start)s AND time < %(end)s"
LATEST_S = 10.0
"""How far before the end of the last interval `now` looks for its bucket."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera. `last_seen_at`: end of its last interval with a processed frame; `model`: of its newest
    counts. Both None when there are none."""

    name: str
    site: str
    timezone: str
    paused: bool
    created_at: datetime
    last_seen_at: datetime | None
    model: str | None


@dataclass(frozen=True, slots=True)
class CountPoint:
    """Objects of a class in a zone over a bucket; mean, min and max are None where nothing was seen.

    `observed_s` and what follows are the camera's: the same for every class and zone of a bucket.
    """

    time: datetime
    cls: str
    zone: str
    samples: int
    mean: float | None
    min: int | None
    max: int | None
    stddev: float | None
    uniques: int
    observed_s: float
    coverage: float
    expected: int
    processed: int
    dropped: int


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
    """A camera's last 5 seconds with a processed frame: mean objects per class, in the whole picture. `at`:
    the end of the last interval in them."""

    at: datetime
    counts: dict[str, float]
    model: str


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
        "SELECT camera AS name, site, timezone, paused, created_at, last_seen_at, model"
        " FROM bi.cameras ORDER BY 1",
        {},
    )


def counts(
    connection: psycopg.Connection, camera: Camera, scale: str, start: datetime, end: datetime
) -> list[CountPoint]:
    """Counts per bucket, class and zone, of the buckets that touch start..end, by time.

    A bucket that was expected but not seen is there with mean None; one without any row is not there.
    """
    view = SCALES[_known(scale)].view
    # The view of the finest scale would read all raw rows of the camera.
    source = "bi.counts_5s(%(camera)s, %(start)s, %(end)s)" if scale == "5s" else f"bi.{view}"
    query = (
        'SELECT time, class AS cls, zone, samples, mean, "min", "max", stddev, uniques,'
        " observed_s, coverage, expected, processed, dropped"
        f" FROM {source} WHERE {_WITHIN} ORDER BY 1, 2, 3"
    )
    return _rows(connection, CountPoint, query, _range(connection, camera, scale, start, end))


def coverage_of(points: Iterable[CountPoint]) -> list[CoveragePoint]:
    """How well each bucket was seen, by time: the same in all its points, so the first one tells."""
    first: dict[datetime, CountPoint] = {}
    for point in points:
        first.setdefault(point.time, point)
    return [
        CoveragePoint(at, p.observed_s, p.coverage, p.expected, p.processed, p.dropped)
        for at, p in sorted(first.items())
    ]


def observed_s(
    connection: psycopg.Connection, camera: Camera, start: datetime, end: datetime
) -> float | None:
    """Seconds seen in the minutes that begin in start..end; None when no frame was expected."""
    row = connection.execute(
        _sql(f"SELECT sum(observed_s) FROM bi.coverage WHERE {_WITHIN}"),
        {"camera": camera.name, "start": start, "end": end},
    ).fetchone()
    return row[0] if row else None


def crossings(
    connection: psycopg.Connection, camera: Camera, scale: str, start: datetime, end: datetime
) -> list[CrossingPoint]:
    """Crossings per bucket, line and class, of the buckets that touch start..end, by time."""
    fixed = SCALES[_known(scale)].bucket_of("time")
    bucket = "date_trunc('day', time, %(timezone)s)" if scale == "day" else fixed
    query = (
        f"SELECT {bucket} AS time, line, class AS cls,"
        " count(*) FILTER (WHERE direction = 'in') AS count_in,"
        " count(*) FILTER (WHERE direction = 'out') AS count_out"
        f" FROM bi.crossings WHERE {_WITHIN} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    return _rows(connection, CrossingPoint, query, _range(connection, camera, scale, start, end))


def now(connection: psycopg.Connection, camera: Camera) -> Now | None:
    """The last moment in which a frame of this camera was counted; None when there is none.

    `camera` as `cameras` gave it just before: what it says of the last frame is taken from there.
    """
    at = camera.last_seen_at
    if at is None:
        return None
    found = counts(connection, camera, "5s", at - timedelta(seconds=LATEST_S), at)
    newest = max((point.time for point in found if point.samples), default=None)
    means = {p.cls: p.mean for p in found if p.time == newest and p.zone == "" and p.mean is not None}
    return Now(at, means, camera.model or "") if means else None


def today(connection: psycopg.Connection, camera: Camera) -> tuple[datetime, datetime]:
    """The camera's local midnight, and now."""
    row = connection.execute(
        "SELECT date_trunc('day', clock_timestamp(), %s), clock_timestamp()", (camera.timezone,)
    ).fetchone()
    if row is None:
        raise StoreError("expected the time of day, got nothing; the server answers no queries")
    return row[0], row[1]


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
    asked: dict[str, Any] = {"start": start, "end": end, "timezone": camera.timezone}
    # The casts spare the server a guess at the parameters' types.
    bounds = SCALES[scale].bounds.replace("%(start)s", "%(start)s::timestamptz")
    bounds = bounds.replace("%(end)s", "%(end)s::timestamptz").replace("%(timezone)s", "%(timezone)s::text")
    row = connection.execute(_sql(f"SELECT {bounds}"), asked).fetchone()
    if row is None:
        raise StoreError("expected the bounds of a range, got nothing; the server answers no queries")
    return {**asked, "camera": camera.name, "start": row[0], "end": row[1]}


def _rows(connection: psycopg.Connection, kind: type[_T], query: str, values: dict[str, Any]) -> list[_T]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(_sql(query), values).fetchall()


def _sql(text: str) -> LiteralString:
    # Built from this package's constants alone; values travel as parameters.
    return text
