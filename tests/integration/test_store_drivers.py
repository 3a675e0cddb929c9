"""A day of simulated cameras by each driver: equal numbers, and no way to write or to see more."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from databases.day import SITES, ZONES, Bucket, simulated
from databases.drivers import Answer, Driver, Jdbc, Odbc, Psycopg, RefusedError, missing_jdbc, missing_odbc
from databases.editions import Database

pytestmark = pytest.mark.integration

DRIVERS = [
    pytest.param(Psycopg, id="psycopg"),
    pytest.param(Odbc, id="odbc", marks=pytest.mark.skipif(bool(missing_odbc()), reason=missing_odbc())),
    pytest.param(Jdbc, id="jdbc", marks=pytest.mark.skipif(bool(missing_jdbc()), reason=missing_jdbc())),
]
COLUMNS = (
    'camera, site, class, zone, samples, mean, "min", "max", stddev, n_sum, observed_s, coverage, expected,'
    " processed, dropped"
)
OF_A_DAY = f"SELECT time, {COLUMNS} FROM counts_{{}} ORDER BY time, camera, class, zone"
BY_CAMERA = (
    "SELECT camera, class, zone, cast(sum(samples) AS bigint), cast(sum(n_sum) AS bigint), count(*),"
    " count(mean) FROM bi.counts_minute GROUP BY camera, class, zone ORDER BY camera, class, zone"
)
LOCAL_DAYS = (
    "SELECT camera, local_time, samples FROM counts_day WHERE zone = '' AND class = 'person' ORDER BY 1, 2"
)
# Each is tried as it is, and again after the session has switched its read-only default off.
NOT_ALLOWED = {
    "write": "DELETE FROM models",
    "make a table": "CREATE TABLE bi.mine (a int)",
    "make a temporary table": "CREATE TEMPORARY TABLE mine (a int)",
    "read outside bi": "SELECT count(*) FROM framegrid.camera",
    "read a file": "SELECT pg_read_file('/etc/hostname')",
}
READ_ONLY, NO_RIGHT = "25006", "42501"


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_driver_gives_the_true_numbers(day: Database, driver: Callable[[str], Driver]) -> None:
    connection = driver(day.bi_url)
    hours, days, cameras, local = answers(
        connection, OF_A_DAY.format("hour"), OF_A_DAY.format("day"), BY_CAMERA, LOCAL_DAYS
    )
    truth = simulated()
    assert_rows(hours, truth.hours, lambda at, _: 3600)
    assert_rows(days, truth.days, day_length_s)
    assert cameras == minutes_by_camera(truth.minutes)
    assert [(row[0], row[1][:10]) for row in local] == [
        ("lobby", "2026-10-25"),
        ("lobby", "2026-10-26"),
        ("north-gate", "2026-10-25"),
        ("south-gate", "2026-10-25"),
        ("terrasse-é", "2026-10-24"),
        ("terrasse-é", "2026-10-25"),
    ]
    assert {row[1][10:] for row in local} == {" 00:00:00"}


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_driver_is_refused_writing_and_looking_elsewhere(
    day: Database, driver: Callable[[str], Driver]
) -> None:
    found = driver(day.bi_url).run(
        *NOT_ALLOWED.values(), "SET default_transaction_read_only = off", *NOT_ALLOWED.values()
    )
    states = [answer.args[0] if isinstance(answer, RefusedError) else answer for answer in found]
    count = len(NOT_ALLOWED)
    assert all(state in (READ_ONLY, NO_RIGHT) for state in states[:count]), states
    assert states[count] == []
    assert states[count + 1 :] == [NO_RIGHT] * count


def answers(driver: Driver, *statements: str) -> list[Answer]:
    found = driver.run(*statements)
    assert not [answer for answer in found if isinstance(answer, RefusedError)]
    return found  # type: ignore[return-value]


def day_length_s(at: Any, camera: str) -> float:
    midnight = at.astimezone(ZONES[camera])
    return ((midnight + timedelta(days=1)).timestamp()) - at.timestamp()


def assert_rows(rows: Answer, truth: dict[Any, Bucket], length_s: Callable[[Any, str], float]) -> None:
    """Every bucket of the truth is there, in order, and no other; figures to the last digits of a double."""
    assert [(row[0], row[1], row[3], row[4]) for row in rows] == sorted(truth)
    for row in rows:
        at, camera, site, cls, zone, samples, mean, least, most, stddev, n_sum, seen_s, share, *frames = row
        bucket = truth[at, camera, cls, zone]
        values = bucket.values
        assert site == SITES[camera]
        assert (samples, n_sum) == (len(values), sum(values))
        assert (least, most) == ((min(values), max(values)) if values else (None, None))
        assert (seen_s, share) == (bucket.observed_s, min(1, bucket.observed_s / length_s(at, camera)))
        assert frames == [bucket.expected, bucket.processed, bucket.expected - bucket.processed]
        assert (mean is None, stddev is None) == (bucket.mean is None, bucket.stddev is None)
        assert mean is None or math.isclose(mean, bucket.mean or 0, rel_tol=1e-15)
        assert stddev is None or math.isclose(stddev, bucket.stddev or 0, rel_tol=1e-14)


def minutes_by_camera(truth: dict[Any, Bucket]) -> Answer:
    found: dict[tuple[str, str, str], list[int]] = {}
    for (_, camera, cls, zone), bucket in truth.items():
        sums = found.setdefault((camera, cls, zone), [0, 0, 0, 0])
        sums[0] += bucket.samples
        sums[1] += sum(bucket.values)
        sums[2] += 1
        sums[3] += bucket.samples > 0
    return [(*key, *sums) for key, sums in sorted(found.items())]
