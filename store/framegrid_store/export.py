"""Counts out of the database into files: a CSV per camera, or one Parquet file of all.

| form | file | a line is |
|---|---|---|
| short | `<camera>.csv`: date,people_count | a bucket of the range; empty: not seen, 0: nobody there |
| full | `<camera>.csv`: columns of the view | a row of `bi.counts_…`; no row: nobody was to look |
| parquet | `counts_….parquet` | the same, every camera in it, each column with its comment |

Reads schema `bi` alone, camera by camera and stretch by stretch, from one snapshot: memory does not grow with
the range. A file appears when it is whole.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql

from framegrid_store.bi import VIEWS
from framegrid_store.connect import connect, describe, sanitised
from framegrid_store.errors import StoreError

UTC = timezone.utc
FORMS = ("short", "full", "parquet")
VALUES = ("mean", "max", "uniques")
STRETCHES = {
    "5s": timedelta(days=1),
    "minute": timedelta(days=10),
    "hour": timedelta(days=366),
    "day": timedelta(days=3660),
}
"""Scales, and how much of one is asked for in a query: some ten thousand rows."""
STEPS = {"5s": timedelta(seconds=5), "minute": timedelta(minutes=1), "hour": timedelta(hours=1)}
FETCH_ROWS = 10_000
ROW_GROUP_ROWS = 50_000  # of a Parquet file: what is in memory while it is written


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export: buckets that start in start..end. A date is midnight on each camera's own clock.

    `cameras` empty: all. `cls` and `zone` None: all (the short form wants one of each). `value` is what the
    short form calls people_count: mean objects per frame, most in a frame, or new visits.
    """

    start: date | datetime
    end: date | datetime
    scale: str = "minute"
    form: str = "short"
    cameras: tuple[str, ...] = ()
    cls: str | None = "person"
    zone: str | None = ""
    value: str = "mean"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("scale", self.scale, tuple(STRETCHES)),
            ("form", self.form, FORMS),
            ("value", self.value, VALUES),
        ):
            if value not in allowed:
                raise StoreError(f"expected a {name} of {', '.join(allowed)}, got {value!r}")
        if self.form == "short" and (self.cls is None or self.zone is None):
            raise StoreError("expected one class and one zone for the short form, got all; name them")
        for bound in (self.start, self.end):
            if isinstance(bound, datetime) and bound.tzinfo is None:
                raise StoreError(f"expected a time with its zone, e.g. {bound.isoformat()}Z, got {bound}")


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera and its time zone."""

    name: str
    timezone: ZoneInfo


def export(database_url: str, request: ExportRequest, folder: Path) -> dict[Path, int]:
    """Write the files; returns each with its number of rows. Raises `StoreError`, without the password."""
    try:
        with connect(database_url, application_name="framegrid-export") as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            connection.execute("SET LOCAL TimeZone = 'UTC'")
            cameras = _cameras(connection, request.cameras)
            folder.mkdir(parents=True, exist_ok=True)
            if request.form == "parquet":
                path = folder / f"counts_{request.scale}.parquet"
                return {path: _write_parquet(connection, request, cameras, path)}
            write = _write_short if request.form == "short" else _write_full
            written = {}
            for camera in cameras:
                path = folder / f"{file_name(camera.name)}.csv"
                written[path] = write(connection, request, camera, path)
            return written
    except psycopg.Error as error:
        raise StoreError(
            f"cannot export from {describe(database_url)}: {sanitised(error, database_url)}"
        ) from None  # The chained error might quote the URL.


def buckets(start: datetime, end: datetime, scale: str, zone: ZoneInfo) -> Iterator[datetime]:
    """Starts of all buckets that start in start..end, in UTC: multiples since the epoch, days at midnight."""
    if scale == "day":
        day = start.astimezone(zone).date()
        while (at := midnight(day, zone)) < end:
            if at >= start:
                yield at
            day += timedelta(days=1)
        return
    step = STEPS[scale]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    at = epoch + -((epoch - start) // step) * step
    while at < end:
        yield at
        at += step


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a local day begins, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def file_name(camera: str) -> str:
    """The camera's name, safe as a file's: percent-encoded where a file system would take it for more."""
    text = "".join(f"%{ord(c):02X}" if c in '%/\\:*?"<>|' or ord(c) < 32 else c for c in camera)
    return f"%2E{text[1:]}" if text.startswith(".") else text


def _bounds(request: ExportRequest, camera: Camera) -> tuple[datetime, datetime]:
    start, end = (
        bound.astimezone(UTC) if isinstance(bound, datetime) else midnight(bound, camera.timezone)
        for bound in (request.start, request.end)
    )
    if start >= end:
        raise StoreError(f"expected a range that ends after it starts, got {start} to {end}")
    return start, end


def _cameras(connection: psycopg.Connection, names: Sequence[str]) -> list[Camera]:
    known: dict[str, str] = dict(
        connection.execute("SELECT camera, timezone FROM bi.cameras ORDER BY camera").fetchall()
    )
    unknown = [name for name in names if name not in known]
    if unknown:
        raise StoreError(f"expected cameras among {', '.join(known) or 'none'}; got {', '.join(unknown)}")
    return [Camera(name, ZoneInfo(known[name])) for name in names or known]


def _write_short(connection: psycopg.Connection, request: ExportRequest, camera: Camera, path: Path) -> int:
    start, end = _bounds(request, camera)
    found = _rows(connection, request, camera, ("time", request.value, "samples"))
    following = next(found, None)
    lines = 0
    with _whole(path) as file:
        writer = csv.writer(file)
        writer.writerow(("date", "people_count"))
        for at in buckets(start, end, request.scale, camera.timezone):
            value: Any = None
            if following is not None and following[0] == at:
                # New visits are 0 in a bucket that was not seen: unknown all the same.
                value = following[1] if following[2] else None
                following = next(found, None)
            writer.writerow((at.astimezone(camera.timezone).isoformat(), "" if value is None else value))
            lines += 1
    if following is not None:
        raise StoreError(f"expected buckets on the grid of {request.scale}, got one at {following[0]}")
    return lines


def _write_full(connection: psycopg.Connection, request: ExportRequest, camera: Camera, path: Path) -> int:
    columns = tuple(_columns(request.scale))
    lines = 0
    with _whole(path) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in _rows(connection, request, camera, columns):
            writer.writerow((row[0].isoformat(), *row[1:]))
            lines += 1
    return lines


def _write_parquet(
    connection: psycopg.Connection, request: ExportRequest, cameras: Iterable[Camera], path: Path
) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise StoreError("expected pyarrow for Parquet, got none; pip install 'framegrid[export]'") from None
    columns = _columns(request.scale)
    kinds = {"time": pa.timestamp("us", tz="UTC"), **dict.fromkeys(_TEXTS, pa.string())}
    kinds |= dict.fromkeys(_FLOATS, pa.float64())
    schema = pa.schema(
        [
            pa.field(name, kinds.get(name, pa.int64()), metadata={"comment": comment})
            for name, comment in columns.items()
        ]
    )
    lines = 0
    scratch = path.with_name(f"{path.name}.part")
    with pq.ParquetWriter(scratch, schema, compression="zstd") as writer:
        for camera in cameras:
            for rows in _batches(_rows(connection, request, camera, tuple(columns))):
                arrays = [
                    pa.array(values, field.type)
                    for values, field in zip(zip(*rows, strict=True), schema, strict=True)
                ]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                lines += len(rows)
    scratch.replace(path)
    return lines


_TEXTS = ("local_time", "camera", "site", "class", "zone")
_FLOATS = ("mean", "stddev", "score_mean", "observed_s", "coverage")


def _columns(scale: str) -> dict[str, str]:
    """The columns of the view, with their comments."""
    return next(view.columns for view in VIEWS if view.name == f"counts_{scale}")


def _rows(
    connection: psycopg.Connection, request: ExportRequest, camera: Camera, columns: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Rows of one camera by time, class and zone, a stretch of the range at a time."""
    start, end = _bounds(request, camera)
    query = sql.SQL(
        "SELECT {columns} FROM {view} WHERE camera = %(camera)s AND time >= %(start)s AND time < %(end)s"
        " AND (%(cls)s::text IS NULL OR class = %(cls)s) AND (%(zone)s::text IS NULL OR zone = %(zone)s)"
        " ORDER BY time, class, zone"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        view=sql.Identifier("bi", f"counts_{request.scale}"),
    )
    values = {"camera": camera.name, "cls": request.cls, "zone": request.zone}
    while start < end:
        until = min(end, start + STRETCHES[request.scale])
        with connection.cursor("framegrid_export") as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(query, {**values, "start": start, "end": until})
            yield from cursor
        start = until


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    batch: list[tuple[Any, ...]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROW_GROUP_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def _whole(path: Path) -> Iterator[IO[str]]:
    """A text file that is there under its name once it is written, and not before."""
    scratch = path.with_name(f"{path.name}.part")
    with scratch.open("w", encoding="utf-8", newline="") as file:
        yield file
    scratch.replace(path)
