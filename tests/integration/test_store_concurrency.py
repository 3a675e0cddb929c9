"""Many writers, two maintainers and a reader at once: every snapshot is exact, and so is the end."""

import random
import threading
import time
import uuid

import psycopg
import pytest
from databases.editions import Database
from framegrid_store.copier import Copier
from framegrid_store.maintain import maintain_once
from framegrid_store.rows import CameraRow, CountRow, CoverageRow, Row
from framegrid_store.settings import StoreSettings

pytestmark = pytest.mark.integration

WRITERS, BATCHES, CAMERAS = 6, 60, 12
SETTINGS = StoreSettings(settle_s=0)
ZONES = ("Europe/Paris", "Asia/Kathmandu", "America/St_Johns")

# Over the raw rows alone; what each view says, in one line per bucket, camera, class and zone.
STRAIGHT = """
SELECT {bucket} AS time, c.key, k.name, z.name, sum(r.samples)::bigint, sum(r.n_sum)::bigint,
    sum(r.n_sumsq)::bigint, min(r.n_min), max(r.n_max), sum(r.uniques)::bigint
FROM framegrid.frame_count r JOIN framegrid.camera c USING (camera_id)
JOIN framegrid.object_class k USING (class_id) JOIN framegrid.zone z USING (zone_id)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
VIEW = """
SELECT time, camera, class, zone, samples, n_sum, n_sumsq, "min", "max", uniques
FROM bi.{view} WHERE samples > 0 ORDER BY 1, 2, 3, 4
"""
SEEN = """
SELECT {bucket} AS time, c.key, sum(r.observed_ms) / 1000.0::float8, sum(r.expected)::bigint,
    sum(r.processed)::bigint
FROM framegrid.coverage r JOIN framegrid.camera c USING (camera_id) GROUP BY 1, 2 ORDER BY 1, 2
"""
BUCKETS = {
    "counts_minute": "date_trunc('minute', r.time)",
    "counts_hour": "date_trunc('hour', r.time, 'UTC')",
    "counts_day": "date_trunc('day', r.time, c.timezone)",
}


def batch(chance: random.Random, now_s: float) -> list[Row]:
    """Some of it of now, some of minutes or days ago."""
    rows: list[Row] = []
    for _ in range(chance.randrange(1, 60)):
        ago_s = chance.choice([0, 0, 0, 30, 90, 3_600, 100_000]) * chance.random()
        at_s, camera = round(now_s - ago_s, 3), f"camera-{chance.randrange(CAMERAS)}"
        n = [chance.randrange(9) for _ in range(5)]
        squares = sum(x * x for x in n)
        cls, zone = chance.choice(["person", "vehicle"]), chance.choice(["", "door"])
        rows.append(
            CountRow(at_s, 1.0, camera, cls, zone, "m@1", 5, sum(n), squares, min(n), max(n), n[0] % 2, 0.5)
        )
        rows.append(CoverageRow(at_s, 1.0, camera, 0.75, 10, 9, 1, 0, 0, 0, 0))
    return rows


def assert_exact(connection: psycopg.Connection) -> int:
    """Views against raw rows in one snapshot; returns the rows seen."""
    samples = 0
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for view, bucket in BUCKETS.items():
            straight = connection.execute(STRAIGHT.format(bucket=bucket)).fetchall()
            assert connection.execute(VIEW.format(view=view)).fetchall() == straight, view
            samples = sum(row[4] for row in straight)
        seen = connection.execute(SEEN.format(bucket=BUCKETS["counts_minute"])).fetchall()
        said = connection.execute(
            "SELECT time, camera, observed_s, expected, processed FROM bi.coverage ORDER BY 1, 2"
        ).fetchall()
        assert said == seen
    return samples // 5


def test_every_snapshot_is_exact_while_many_write_and_maintenance_runs(database: Database) -> None:
    stored = [0] * WRITERS
    failures: list[BaseException] = []
    written = threading.Event()

    def write(place: int) -> None:
        chance = random.Random(place)
        copier = Copier(database.url)
        try:
            for _ in range(BATCHES):
                rows = batch(chance, time.time())
                batch_id = uuid.uuid4()
                assert copier.store(batch_id, rows)
                if chance.random() < 0.2:
                    assert not copier.store(batch_id, rows), "a batch sent again is not stored again"
                stored[place] += len(rows) // 2
        except BaseException as error:
            failures.append(error)
        finally:
            copier.close()

    def maintain() -> None:
        from datetime import datetime, timedelta, timezone

        try:
            with database.connect(autocommit=True) as connection:
                while not written.is_set():
                    # Minutes that are not over yet as well: harder than ever in operation.
                    now = datetime.now(timezone.utc) + timedelta(minutes=5)
                    done = maintain_once(connection, SETTINGS, now, only_roll_up=True)
                    assert not done.errors
        except BaseException as error:
            failures.append(error)

    copier = Copier(database.url)
    copier.announce([CameraRow(f"camera-{n}", timezone=ZONES[n % 3]) for n in range(CAMERAS)])
    copier.close()
    threads = [threading.Thread(target=write, args=(place,)) for place in range(WRITERS)]
    maintainers = [threading.Thread(target=maintain) for _ in range(2)]
    for thread in [*threads, *maintainers]:
        thread.start()
    looks = 0
    with database.connect(autocommit=True) as connection:
        while any(thread.is_alive() for thread in threads):
            assert_exact(connection)
            looks += 1
        written.set()
        for thread in [*threads, *maintainers]:
            thread.join()
        assert failures == []
        assert looks > 1
        assert assert_exact(connection) == sum(stored)
