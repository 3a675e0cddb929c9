"""What the analyst sees: exact statistics, unknown where nothing was seen, local days."""

import random
import re
import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from framegrid_store import read
from framegrid_store.maintain import maintain_now
from framegrid_store.migrate import upgrade
from framegrid_store.rows import CameraRow, CountRow, CoverageRow, CrossingRow, Row
from framegrid_store.settings import StoreSettings
from framegrid_store.writer import StoreWriter

pytestmark = pytest.mark.integration

UTC = timezone.utc
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TRACK_ID = "0b5f9d0a-7f0d-4f6e-9f53-0c8a6a2d9a11"


def store(url: str, rows: Sequence[Row], *cameras: CameraRow) -> None:
    upgrade(url)
    writer = StoreWriter(url, batch_wait_s=0.01)
    writer.announce(cameras)
    writer.start()
    assert writer.put(rows) == 0
    assert writer.close(timeout_s=30) == 0
    assert writer.stats().dropped == {}


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


def count_row(at: datetime, values: Sequence[int], cls: str = "person", camera: str = "north") -> CountRow:
    return CountRow(
        time_s=at.timestamp(),
        interval_s=1.0,
        camera=camera,
        cls=cls,
        zone="",
        model="m@1",
        samples=len(values),
        n_sum=sum(values),
        n_sumsq=sum(value * value for value in values),
        n_min=min(values, default=0),
        n_max=max(values, default=0),
        uniques=0,
        score_mean=0.5,
    )


def seen(at: datetime, camera: str = "north") -> CoverageRow:
    return CoverageRow(at.timestamp(), 1.0, camera, 1.0, 10, 10, 0, 0, 0, 0, 0)


def lost(at: datetime, camera: str = "north") -> CoverageRow:
    return CoverageRow(at.timestamp(), 1.0, camera, 0.0, 10, 0, 10, 0, 0, 0, 0)


def test_statistics_are_those_of_the_single_frames(database_url: str) -> None:
    chance = random.Random(7)
    frames = {second: [chance.randrange(30) for _ in range(10)] for second in range(7200)}
    at = {second: NOON + timedelta(seconds=second) for second in frames}
    store(database_url, [r for s, v in frames.items() for r in (count_row(at[s], v), seen(at[s]))])
    columns = 'time, samples, mean, "min", "max", stddev, observed_s, coverage, expected, dropped'
    for view, width_s in (
        ("counts_5s", 5),
        ("counts_minute", 60),
        ("counts_hour", 3600),
        ("counts_day", 86_400),
    ):
        found = query(database_url, f"SELECT {columns} FROM bi.{view} ORDER BY time")
        assert len(found) == max(1, 7200 // width_s)
        for place, row in enumerate(found):
            values = [v for s in range(place * width_s, min((place + 1) * width_s, 7200)) for v in frames[s]]
            assert row[1] == len(values)
            assert row[2] == pytest.approx(statistics.fmean(values), rel=1e-15)
            assert row[3:5] == (min(values), max(values))
            assert row[5] == pytest.approx(statistics.stdev(values), rel=1e-12)
            assert row[6:] == (len(values) / 10, len(values) / 10 / width_s, len(values), 0)


def test_nobody_and_not_seen_never_look_the_same(database_url: str) -> None:
    rows: list[Row] = []
    for second in range(20):
        at = NOON + timedelta(seconds=second)
        if 5 <= second < 10:
            rows += [lost(at), count_row(at, [])]  # a producer may write rows without samples
        elif 10 <= second < 15:
            rows += [lost(at)]  # or none at all
        else:
            rows += [seen(at), count_row(at, [0] * 10)]
    store(database_url, rows)
    found = query(
        database_url,
        'SELECT mean, "min", "max", stddev, samples, observed_s, coverage, expected, processed, dropped,'
        " dropped_no_frame FROM bi.counts_5s ORDER BY time",
    )
    empty = (0.0, 0, 0, 0.0, 50, 5.0, 1.0, 50, 50, 0, 0)
    unseen = (None, None, None, None, 0, 0.0, 0.0, 50, 0, 50, 50)
    assert found == [empty, unseen, unseen, empty]


def test_rows_of_two_models_add_up_and_coverage_does_not_double(database_url: str) -> None:
    first = count_row(NOON, [1, 3])
    store(database_url, [first, first._replace(model="m@2"), count_row(NOON, [5], "vehicle"), seen(NOON)])
    assert query(
        database_url, "SELECT class, samples, mean, observed_s, expected FROM bi.counts_minute ORDER BY class"
    ) == [("person", 4, 2.0, 1.0, 10), ("vehicle", 1, 5.0, 1.0, 10)]


def test_a_day_is_the_cameras_own_and_may_have_23_hours(database_url: str) -> None:
    # Paris, 2026-03-29: clocks go from 2 to 3. Midnight is 23:00Z on the 28th, the next 22:00Z on the 29th.
    paris_midnight = datetime(2026, 3, 28, 23, 0, tzinfo=UTC)
    times = [paris_midnight - timedelta(seconds=1), paris_midnight, paris_midnight + timedelta(hours=22.99)]
    kathmandu = datetime(2026, 3, 28, 18, 15, tzinfo=UTC)
    store(
        database_url,
        [r for at in times for r in (count_row(at, [1]), seen(at))]
        + [
            r
            for at in (kathmandu, kathmandu - timedelta(seconds=1))
            for r in (count_row(at, [1], camera="k2"),)
        ],
        CameraRow("north", timezone="Europe/Paris"),
        CameraRow("k2", timezone="Asia/Kathmandu"),
    )
    found = query(
        database_url,
        "SELECT time, local_time, samples, coverage * 86400 FROM bi.counts_day"
        " WHERE camera = 'north' ORDER BY 1",
    )
    assert [row[:3] for row in found] == [
        (paris_midnight - timedelta(days=1), "2026-03-28 00:00:00", 1),
        (paris_midnight, "2026-03-29 00:00:00", 2),
    ]
    assert found[1][3] == pytest.approx(2 * 24 / 23)
    assert query(
        database_url, "SELECT local_time, samples FROM bi.counts_day WHERE camera = 'k2' ORDER BY 1"
    ) == [("2026-03-28 00:00:00", 1), ("2026-03-29 00:00:00", 1)]


@pytest.mark.parametrize("scale", ["5s", "minute", "hour", "day"])
def test_the_readers_functions_give_what_the_views_give(database_url: str, scale: str) -> None:
    chance = random.Random(3)
    rows: list[Row] = []
    for second in range(0, 180, 1):
        at = NOON + timedelta(seconds=second)
        for camera in ("north", "south"):
            down = 60 <= second < 90
            rows += [lost(at, camera) if down else seen(at, camera)]
            rows += [] if down else [count_row(at, [chance.randrange(5)], camera=camera)]
    rows += [
        CrossingRow(
            (NOON + timedelta(seconds=s)).timestamp(), "north", "door", "person", TRACK_ID, way, "m@1"
        )
        for s, way in ((1, "in"), (2, "in"), (170, "out"))
    ]
    store(database_url, rows, CameraRow("north", timezone="Asia/Kathmandu"))
    view = {"5s": "counts_5s", "minute": "counts_minute", "hour": "counts_hour", "day": "counts_day"}[scale]
    expected = query(
        database_url,
        f"SELECT time, samples, mean, stddev FROM bi.{view} WHERE camera = 'north' ORDER BY time",
    )
    with read.open_reader(database_url) as connection:
        north = next(camera for camera in read.cameras(connection) if camera.name == "north")
        start, end = NOON, NOON + timedelta(minutes=3)
        found = read.counts(connection, north, scale, start, end)
        assert [(p.time, p.samples, p.mean, p.stddev) for p in found] == expected
        covered = read.coverage_of(found)
        assert [point.time for point in covered] == [point.time for point in found]
        assert sum(point.observed_s for point in covered) == 150
        crossed = read.crossings(connection, north, scale, start, end)
        assert (sum(p.count_in for p in crossed), sum(p.count_out for p in crossed)) == (2, 1)
        latest = read.now(connection, north)
        assert latest is not None and latest.at == end and latest.model == "m@1"
        assert north.last_seen_at == end
        assert read.observed_s(connection, north, start, end) == 150


def test_a_range_inside_a_bucket_shows_the_whole_bucket(database_url: str) -> None:
    store(
        database_url,
        [
            r
            for s in range(60)
            for at in [NOON + timedelta(seconds=s)]
            for r in (seen(at), count_row(at, [1]))
        ],
    )
    with read.open_reader(database_url) as connection:
        (camera,) = read.cameras(connection)
        start = NOON + timedelta(seconds=20)
        for scale, samples in (("5s", 5), ("minute", 60), ("hour", 60), ("day", 60)):
            found = read.counts(connection, camera, scale, start, start + timedelta(seconds=3))
            assert [point.samples for point in found] == [samples]
        with pytest.raises(ValueError, match="expected aware times"):
            read.counts(connection, camera, "5s", start, start - timedelta(seconds=1))
        with pytest.raises(ValueError, match="expected a scale of 5s, minute, hour, day"):
            read.counts(connection, camera, "week", start, start)


def test_the_reader_cannot_write(database_url: str) -> None:
    upgrade(database_url)
    with read.open_reader(database_url) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM framegrid.camera")


def test_a_cameras_minutes_are_read_from_the_index_alone(database_url: str) -> None:
    """Its rows lie on a page each: thirty days of 1,000 cameras leave no other fast way to a camera's day."""
    store(
        database_url,
        [
            row
            for s in range(120)
            for at in [NOON + timedelta(seconds=s)]
            for row in (count_row(at, [1]), seen(at))
        ],
    )
    assert maintain_now(database_url, StoreSettings()).errors == {}
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE framegrid.frame_count_minute, framegrid.coverage_minute")
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_bitmapscan = off")
        plan = "\n".join(
            line
            for (line,) in connection.execute("EXPLAIN SELECT * FROM bi.counts_minute WHERE camera = 'north'")
        )
    for table in ("frame_count_minute", "coverage_minute"):
        assert re.search(rf"Index Only Scan using {table}\w*_pkey", plan), plan
