"""How fast roll-ups and the views over them are, and what a row weighs; on a database made and dropped here.

`python -m framegrid_store.bench_rollup [--cameras 1000] [--days 30] [--only rollup|minutes]`, on the
server of FRAMEGRID_DATABASE_URL, whose role must be allowed to create databases. Prints JSON. 1,000 cameras
and 30 days of minutes take 38 GB of disk, 28 when packed, and on two cores half an hour to fill and pack.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from framegrid_store import packing, partitions
from framegrid_store.capabilities import probe
from framegrid_store.connect import connect, database_url_from_environment
from framegrid_store.migrate import upgrade
from framegrid_store.rollup import RolledUp, roll_up
from framegrid_store.settings import StoreSettings

if TYPE_CHECKING:
    from typing_extensions import LiteralString

CAMERAS, DAYS = 1000, 30
HISTORY_MINUTES = 10
"""Raw minutes already there when a minute is rolled up: 1.8 million rows of 1,000 cameras."""
QUERIES = 200
FILLERS = 2
"""Days of history filled at once."""
DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)


def measure(database_url: str, cameras: int = CAMERAS, days: int = DAYS, only: str = "") -> dict[str, Any]:
    """All figures, or those of one part. Raises psycopg's errors, and RuntimeError when a result is wrong."""
    found: dict[str, Any] = {"bytes_per_count_row": {}}
    parts: dict[str, Callable[[psycopg.Connection], dict[str, Any]]] = {
        "rollup": lambda connection: measure_roll_up(connection, cameras),
        "minutes": lambda connection: measure_minutes(connection, url, cameras, days),
    }
    for part, measure_part in parts.items():
        if only not in ("", part):
            continue
        with scratch_database(database_url) as url:
            upgrade(url, StoreSettings(cameras=cameras))
            with connect(url, application_name="framegrid-bench", autocommit=True) as connection:
                _create_cameras(connection, cameras)
                found["edition"] = probe(connection).edition
                found |= measure_part(connection)
                found["bytes_per_count_row"] |= measure_bytes(connection)
    return found


def measure_roll_up(connection: psycopg.Connection, cameras: int) -> dict[str, Any]:
    """Milliseconds to roll up one minute of all cameras, 2 classes, a row a second; and what it depends on.

    `rollup_hour_ms`: on top of HISTORY_MINUTES of raw rows, into an hour and a day that are there already.
    """
    noon = datetime.now(timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0) - DAY
    make_partitions(connection, "frame_count", "coverage", start=noon, end=noon + DAY)
    first_ms = [_timed_roll_up(connection, noon, range(1, cameras + 1))]
    for minute in range(1, HISTORY_MINUTES):
        _fill_raw(connection, noon + minute * _MINUTE, range(1, cameras + 1))
        roll_up(connection, noon + DAY)
    _settle(connection)
    whole_ms, half_ms = [], []
    for minute in range(5):
        at = noon + (HISTORY_MINUTES + 2 * minute) * _MINUTE
        whole_ms.append(_timed_roll_up(connection, at, range(1, cameras + 1)))
        half_ms.append(_timed_roll_up(connection, at + _MINUTE, range(1, cameras // 2 + 1)))
    return {
        "rollup_hour_ms": round(statistics.median(whole_ms), 1),
        "rollup_half_the_rows_ms": round(statistics.median(half_ms), 1),
        "rollup_without_history_ms": round(statistics.median(first_ms), 1),
        "rollup_rows": 3 * 60 * cameras,
    }


def measure_minutes(connection: psycopg.Connection, url: str, cameras: int, days: int) -> dict[str, Any]:
    """Percentiles (ms) of one camera's day by the minute from `bi.counts_minute`, all columns, all rows
    fetched.

    Besides: its month by the hour, its days, and everybody's last day by the hour.
    """
    end = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    spans = ("minute", "hour", "day")
    for span in spans:
        make_partitions(
            connection, f"frame_count_{span}", f"coverage_{span}", start=end - days * DAY, end=end
        )
    started_s = time.perf_counter()
    with ThreadPoolExecutor(FILLERS) as fillers:
        list(fillers.map(lambda day: _fill_roll_ups(url, end - (day + 1) * DAY, cameras), range(days)))
    packed = _pack(connection, end)
    _settle(connection)
    filled_s = time.perf_counter() - started_s
    chance = random.Random(1)

    def one_day() -> tuple[str, dict[str, Any], int]:
        start = end - chance.randrange(1, days + 1) * DAY
        values = {"camera": _name(chance.randrange(1, cameras + 1)), "start": start, "end": start + DAY}
        return _COUNTS.format(view="counts_minute", which="camera = %(camera)s AND"), values, 2 * 1440

    def all_hours() -> tuple[str, dict[str, Any], int]:
        return (
            _COUNTS.format(view="counts_hour", which=""),
            {"start": end - DAY, "end": end},
            2 * 24 * cameras,
        )

    def all_days() -> tuple[str, dict[str, Any], int]:
        values = {"camera": _name(chance.randrange(1, cameras + 1)), "start": end - days * DAY, "end": end}
        return _COUNTS.format(view="counts_day", which="camera = %(camera)s AND"), values, 2 * days

    minute_ms = [_timed_query(connection, *one_day()) for _ in range(QUERIES)]
    hours_ms = [_timed_query(connection, *all_hours()) for _ in range(3)]
    days_ms = [_timed_query(connection, *all_days()) for _ in range(QUERIES)]
    return {
        "bi_minute_query_ms": round(_percentile(minute_ms, 95), 1),
        "bi_minute_query_median_ms": round(statistics.median(minute_ms), 1),
        "bi_day_query_ms": round(_percentile(days_ms, 95), 1),
        "bi_all_cameras_day_by_hour_ms": round(statistics.median(hours_ms), 1),
        "minute_rows": 2 * 1440 * days * cameras,
        "packed_chunks": packed,
        "fill_s": round(filled_s),
    }


def measure_bytes(connection: psycopg.Connection) -> dict[str, float]:
    """Bytes on disk a row, indexes included, of each table of counts that has rows."""
    found = {}
    for table in ("frame_count", "frame_count_minute", "coverage", "coverage_minute"):
        place = sql.Identifier("framegrid", table)
        size = (
            "SELECT hypertable_size(%s::regclass)"
            if probe(connection).hypertables
            else "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(%s::regclass) WHERE isleaf"
        )
        (size_bytes,) = connection.execute(size, (f"framegrid.{table}",)).fetchone() or (0,)
        (rows,) = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(place)).fetchone() or (0,)
        if rows > 0:
            found[table] = round(float(size_bytes) / rows, 1)
    return found


@contextmanager
def scratch_database(database_url: str) -> Iterator[str]:
    """URL of an empty database on the same server, dropped afterwards."""
    name = f"framegrid_bench_{uuid.uuid4().hex[:12]}"
    with connect(database_url, application_name="framegrid-bench", autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(database_url)._replace(path=f"/{name}"))
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def make_partitions(connection: psycopg.Connection, *tables: str, start: datetime, end: datetime) -> None:
    """Partitions for the past, which maintenance would have made in its time; nothing on TimescaleDB."""
    if probe(connection).hypertables:
        return
    for table in tables:
        (interval,) = connection.execute(
            "SELECT chunk_interval FROM framegrid.table_state WHERE table_name = %s", (table,)
        ).fetchone() or (DAY,)
        at = start
        while at < end + interval:
            with connection.transaction():
                partitions.make_ahead(connection, table, interval, at)
            at += interval


def _create_cameras(connection: psycopg.Connection, cameras: int) -> None:
    for statement in (
        "INSERT INTO framegrid.object_class (name) VALUES ('person'), ('vehicle')",
        "INSERT INTO framegrid.model_version (name) VALUES ('bench')",
        "INSERT INTO framegrid.camera (key, timezone, days_timezone)"
        " SELECT 'camera-' || n, 'UTC', 'UTC' FROM generate_series(1, %(cameras)s::int) n",
        "INSERT INTO framegrid.series (camera_id, class_id, zone_id)"
        " SELECT camera_id, class_id, 0 FROM framegrid.camera, framegrid.object_class",
    ):
        connection.execute(_sql(statement), {"cameras": cameras})


def _name(camera: int) -> str:
    return f"camera-{camera}"


_RAW_MINUTE = (
    """
INSERT INTO framegrid.frame_count (time, camera_id, class_id, model_id, zone_id, interval_ms, samples, n_sum,
    n_sumsq, score_milli_sum, n_min, n_max, uniques, batch_no)
SELECT %(minute)s::timestamptz + s * interval '1 s', c, k, 1, 0, 1000, 10, 10 * n, 10 * n * n, 7500 * n,
    n, n, 0, 1
FROM generate_series(0, 59) s, generate_series(%(first)s::int, %(last)s::int) c, generate_series(1, 2) k,
    LATERAL (SELECT (s * 7 + c * 3 + k) %% 11 AS n) v""",
    """
INSERT INTO framegrid.coverage (time, camera_id, interval_ms, observed_ms, expected, processed,
    dropped_no_frame, dropped_overload, dropped_stale, dropped_refused, dropped_corrupt, batch_no)
SELECT %(minute)s::timestamptz + s * interval '1 s', c, 1000, 1000, 10, 10, 0, 0, 0, 0, 0, 1
FROM generate_series(0, 59) s, generate_series(%(first)s::int, %(last)s::int) c""",
    "INSERT INTO framegrid.rollup_pending VALUES (%(minute)s, 1)",
)
"""A minute of counts and coverage, second by second as writers send them, and its mark."""
_ROLLED_UP_DAY = (
    """
INSERT INTO framegrid.frame_count_{span} (time, camera_id, class_id, zone_id, samples, n_sum, n_sumsq,
    score_milli_sum, uniques, n_min, n_max)
SELECT %(day)s::timestamptz + b * %(step)s::interval, c, 1 + k, 0, 10 * s.n, v.n * s.n, v.n * v.n * s.n,
    750 * v.n, v.n, 0, v.n
FROM (SELECT %(n)s::int AS n) s, generate_series(0, %(buckets)s * %(cameras)s::int * 2 - 1) i,
    LATERAL (SELECT i / 2 / %(cameras)s AS b, 1 + i / 2 %% %(cameras)s AS c, i %% 2 AS k) w,
    LATERAL (SELECT (b * 7 + c * 3 + k) %% 11 AS n) v""",
    """
INSERT INTO framegrid.coverage_{span} (time, camera_id, observed_ms, expected, processed, dropped_no_frame,
    dropped_overload, dropped_stale, dropped_refused, dropped_corrupt)
SELECT %(day)s::timestamptz + i / %(cameras)s * %(step)s::interval, 1 + i %% %(cameras)s, 1000 * s.n,
    10 * s.n, 10 * s.n, 0, 0, 0, 0, 0
FROM (SELECT %(n)s::int AS n) s, generate_series(0, %(buckets)s * %(cameras)s::int - 1) i""",
)
"""A day of a roll-up, bucket by bucket as maintenance adds them."""


def _fill_raw(connection: psycopg.Connection, minute: datetime, cameras: range) -> None:
    for statement in _RAW_MINUTE:
        connection.execute(statement, {"minute": minute, "first": cameras.start, "last": cameras.stop - 1})


def _timed_roll_up(connection: psycopg.Connection, minute: datetime, cameras: range) -> float:
    _fill_raw(connection, minute, cameras)
    started_s = time.perf_counter()
    with connection.transaction():
        done = roll_up(connection, minute + DAY)
    took_ms = (time.perf_counter() - started_s) * 1000
    if done != RolledUp(1, 1, 3 * 60 * len(cameras)):
        raise RuntimeError(f"expected {3 * 60 * len(cameras)} rows of one minute rolled up, got {done}")
    return took_ms


def _fill_roll_ups(url: str, day: datetime, cameras: int) -> None:
    with connect(url, application_name="framegrid-bench", autocommit=True) as connection:
        for span, buckets in (("minute", 1440), ("hour", 24), ("day", 1)):
            n = 86_400 // buckets
            values = {"day": day, "step": f"1 {span}", "buckets": buckets, "cameras": cameras, "n": n}
            for statement in _ROLLED_UP_DAY:
                connection.execute(_sql(statement.format(span=span)), values)


def _timed_query(connection: psycopg.Connection, query: str, values: dict[str, Any], rows: int) -> float:
    started_s = time.perf_counter()
    found = connection.execute(_sql(query), values).fetchall()
    took_ms = (time.perf_counter() - started_s) * 1000
    if len(found) != rows:
        raise RuntimeError(f"expected {rows} rows, got {len(found)}")
    return took_ms


_COUNTS = "SELECT * FROM bi.{view} WHERE {which} time >= %(start)s AND time < %(end)s"


def _pack(connection: psycopg.Connection, now: datetime) -> int:
    """What maintenance would have done to each chunk of minutes after its time; returns how many."""
    due = packing.due(connection, probe(connection), StoreSettings(), now)
    for piece in due:
        packing.pack(connection, piece)
    return len(due)


def _settle(connection: psycopg.Connection) -> None:
    """What autovacuum and the checkpointer would have done in the time that such a history takes."""
    connection.execute("VACUUM ANALYZE")
    if connection.execute("SELECT pg_has_role('pg_checkpoint', 'USAGE')").fetchone() == (True,):
        connection.execute("CHECKPOINT")


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _sql(text: str) -> LiteralString:
    # Built from this module's constants alone; values travel as parameters.
    return text


def main(arguments: list[str] | None = None) -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m framegrid_store.bench_rollup", description=__doc__)
    parser.add_argument("--cameras", type=int, default=CAMERAS)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--only", choices=("rollup", "minutes"), default="")
    asked = parser.parse_args(arguments)
    print(json.dumps(measure(database_url_from_environment(), asked.cameras, asked.days, asked.only)))


if __name__ == "__main__":
    main()
