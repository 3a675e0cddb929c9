"""Retention drops what is old, never what is not in the roll-ups; a changed setting needs no migration."""

import random
import threading
import uuid
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import psycopg
import pytest
from databases.editions import Database
from framegrid_store import partitions, retention
from framegrid_store.capabilities import probe
from framegrid_store.copier import Copier
from framegrid_store.maintain import maintain_once
from framegrid_store.migrate import upgrade
from framegrid_store.names import TIME_TABLES
from framegrid_store.rows import CameraRow, CountRow, CoverageRow, DetectionRow, Row
from framegrid_store.settings import RetentionDays, StoreSettings, parse_settings
from framegrid_store.status import status

pytestmark = pytest.mark.integration

UTC = timezone.utc
SETTINGS = StoreSettings()
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def count(at: datetime, n: int = 2) -> CountRow:
    return CountRow(at.timestamp(), 1.0, "north", "person", "", "m@1", 1, n, n * n, n, n, 1, 0.5)


def coverage(at: datetime) -> CoverageRow:
    return CoverageRow(at.timestamp(), 1.0, "north", 1.0, 10, 10, 0, 0, 0, 0, 0)


def store(database: Database, *rows: Row) -> None:
    copier = Copier(database.url)
    try:
        assert copier.store(uuid.uuid4(), rows)
    finally:
        copier.close()


def numbers(connection: psycopg.Connection, *tables: str) -> list[int]:
    found = []
    for table in tables:
        row = connection.execute(f"SELECT count(*) FROM framegrid.{table}").fetchone()  # type: ignore[arg-type]
        assert row
        found.append(row[0])
    return found


def total(connection: psycopg.Connection, view: str) -> int | None:
    row = connection.execute(f"SELECT sum(n_sum)::bigint FROM bi.{view}").fetchone()  # type: ignore[arg-type]
    assert row
    return row[0]  # type: ignore[no-any-return]


def test_each_kind_goes_when_its_time_is_over_and_coarser_numbers_stay(database: Database) -> None:
    store(database, *(row for n in range(10) for row in (count(START + timedelta(days=n)), coverage(START))))
    with database.connect(autocommit=True) as connection:
        first = maintain_once(connection, SETTINGS, START + timedelta(days=30))
        assert first.errors == {} and first.rolled_up.rows == 20
        assert numbers(connection, "frame_count", "coverage") == [0, 0]
        for view in ("counts_minute", "counts_hour", "counts_day"):
            assert total(connection, view) == 20
        assert total(connection, "counts_5s") is None
        maintain_once(connection, SETTINGS, START + timedelta(days=200))
        assert numbers(connection, "frame_count_minute", "frame_count_hour") == [0, 10]
        assert total(connection, "counts_minute") is None
        assert total(connection, "counts_hour") == total(connection, "counts_day") == 20
        maintain_once(connection, SETTINGS, START + timedelta(days=5000))
        assert numbers(connection, "frame_count_hour", "frame_count_day", "coverage_day") == [0, 10, 1]
        assert total(connection, "counts_day") == 20


def test_a_row_later_than_retention_is_added_to_what_is_left_and_noted(database: Database) -> None:
    store(database, count(START, 4), coverage(START))
    with database.connect(autocommit=True) as connection:
        maintain_once(connection, SETTINGS, START + timedelta(days=30))
        assert numbers(connection, "frame_count") == [0]
        store(database, count(START + timedelta(seconds=1), 7), count(START - timedelta(days=3), 1))
        for view, expected in (("counts_minute", 12), ("counts_hour", 12), ("counts_day", 12)):
            assert total(connection, view) == expected, "seen at once"
        done = maintain_once(connection, SETTINGS, START + timedelta(days=30))
        assert done.errors == {}
        for view in ("counts_minute", "counts_hour", "counts_day"):
            assert total(connection, view) == 12, "and after its raw rows are dropped again"
        assert numbers(connection, "frame_count") == [0]
        found = connection.execute(
            'SELECT samples, "min", "max" FROM bi.counts_minute WHERE time = date_trunc(\'minute\', %s)',
            (START,),
        ).fetchall()
        assert found == [(2, 4, 7)]


def test_late_rows_and_rows_from_the_future_are_stored_and_counted(database: Database) -> None:
    now = datetime.now(UTC)
    store(database, count(now), coverage(now), count(now + timedelta(minutes=4)))
    assert status(database.url).skewed == []
    store(database, count(now - timedelta(hours=25)), coverage(now - timedelta(hours=26)), count(now))
    store(database, count(now + timedelta(minutes=7)))
    found = status(database.url)
    assert [(one.reason, one.rows) for one in found.skewed] == [("future", 1), ("late", 2)]
    assert found.roll_up is not None and found.roll_up.ahead >= 1
    with database.connect() as connection:
        assert total(connection, "counts_day") == 10


def test_a_chunk_with_pending_rows_is_kept(database: Database) -> None:
    store(database, count(START - timedelta(days=40)), coverage(START - timedelta(days=40)))
    with database.connect(autocommit=True) as connection:
        capabilities = probe(connection)
        retention.delete_rows(connection, capabilities, START)
        for piece in retention.due(connection, capabilities, START):
            with connection.transaction():
                retention.drop_piece(connection, piece, capabilities)
        assert numbers(connection, "frame_count", "coverage") == [1, 1]
        maintain_once(connection, SETTINGS, START)
        assert numbers(connection, "frame_count", "coverage") == [0, 0]
        assert total(connection, "counts_day") == 2


def test_a_writer_with_rows_for_a_chunk_that_is_being_dropped_loses_none(database: Database) -> None:
    """It commits while the drop waits for its lock, or finds the chunk gone and sends its batch again."""
    old = START - timedelta(days=8)
    with database.connect(autocommit=True) as connection:
        if database.edition == "plain":
            with connection.transaction():
                partitions.make_ahead(connection, "frame_count", timedelta(days=1), old)
        store(database, count(old))
        maintain_once(connection, SETTINGS, START, only_roll_up=True)
        stop, sent, failures = threading.Event(), [1], []

        def write() -> None:
            while not stop.wait(random.uniform(0, 0.05)):  # now in the way of a drop, now not
                rows, batch_id = [count(old)] * 20, uuid.uuid4()
                while True:
                    copier = Copier(database.url)
                    try:
                        copier.store(batch_id, rows)
                        sent[0] += 20
                        break
                    except psycopg.Error as error:
                        failures.append(error)
                        if len(failures) > 1000:
                            return
                    finally:
                        copier.close()

        writer = threading.Thread(target=write)
        writer.start()
        rounds = dropped = 0
        try:
            while rounds < 40 or (rounds < 1000 and not dropped):
                done = maintain_once(connection, SETTINGS, START)
                rounds += 1
                dropped += len(done.dropped)
        finally:
            stop.set()
            writer.join()
        maintain_once(connection, SETTINGS, START)
        assert total(connection, "counts_day") == 2 * sent[0]
        assert total(connection, "counts_minute") == 2 * sent[0]
        assert numbers(connection, "frame_count") == [0]
        assert dropped > 0


def test_a_changed_setting_takes_effect_with_the_next_round(database: Database) -> None:
    at = datetime.now(UTC) - timedelta(days=4)
    box = DetectionRow(at.timestamp(), "north", 1, "person", "m@1", "", 0.5, 0.1, 0.1, 0.2, 0.2)
    store(database, box, box._replace(time_s=(at + timedelta(days=3)).timestamp()))
    with database.connect(autocommit=True) as connection:
        now = datetime.now(UTC)
        long = StoreSettings(retention_days=RetentionDays(detections=30))
        maintain_once(connection, long, now)
        assert numbers(connection, "detection") == [2]
        assert status(database.url).tables["detection"].keep == timedelta(days=30)
        assert upgrade(database.url).views_replaced is False
        assert status(database.url).tables["detection"].keep == timedelta(days=30), "an upgrade changes none"
        maintain_once(connection, SETTINGS, now)
        maintain_once(connection, SETTINGS, now)
        assert numbers(connection, "detection") == [1]
        many = parse_settings({"cameras": 20_000})
        maintain_once(connection, many, now)
        told = status(database.url).tables["frame_count"]
        assert told.chunk_interval == timedelta(hours=1)
        assert "20,000 cameras" in told.chunk_reason


def test_ledger_and_notes_are_pruned(database: Database) -> None:
    store(database, count(START - timedelta(days=2)))
    with database.connect(autocommit=True) as connection:
        maintain_once(connection, SETTINGS, START + timedelta(days=13))
        assert numbers(connection, "ingest_batch", "skewed_rows") == [1, 1]
        maintain_once(connection, SETTINGS, START + timedelta(days=15))
        assert numbers(connection, "ingest_batch", "skewed_rows") == [0, 1]
        maintain_once(connection, SETTINGS, START + timedelta(days=95))
        assert numbers(connection, "skewed_rows") == [0]


def test_a_changed_time_zone_cuts_days_anew_as_far_back_as_minutes_reach(database: Database) -> None:
    noon = START.replace(hour=12) - timedelta(days=200)
    copier = Copier(database.url)
    copier.announce([CameraRow("north", timezone="UTC")])
    # Two rows a day: at 1:00 and 23:00 UTC; in Auckland both belong to other days.
    for day in range(200):
        for hours in (-11, 11):
            copier.store(uuid.uuid4(), [count(noon + timedelta(days=day, hours=hours), 1)])
    with database.connect(autocommit=True) as connection:
        now = noon + timedelta(days=200)
        maintain_once(connection, SETTINGS, now)
        maintain_once(connection, SETTINGS, now)
        before = connection.execute("SELECT time, n_sum FROM bi.counts_day ORDER BY 1").fetchall()
        assert {row[1] for row in before} == {2} and len(before) == 200
        copier.announce([CameraRow("north", timezone="Pacific/Auckland")])
        copier.close()
        assert connection.execute("SELECT time, n_sum FROM bi.counts_day ORDER BY 1").fetchall() == before
        assert maintain_once(connection, SETTINGS, now).recut == ["north"]
        after = connection.execute("SELECT time, n_sum FROM bi.counts_day ORDER BY 1").fetchall()
        assert sum(row[1] for row in after) == 400, "nothing lost, nothing double"
        recut = [row for row in after if row not in before]
        kept = [row for row in after if row in before]
        assert kept and recut and max(kept) < min(recut)
        reach = connection.execute("SELECT min(time) FROM framegrid.frame_count_minute").fetchone()
        assert reach and min(recut)[0] < reach[0] + timedelta(days=2)
        newest = connection.execute(
            "SELECT local_time FROM bi.counts_day ORDER BY time DESC LIMIT 1"
        ).fetchone()
        assert newest and newest[0].endswith("00:00:00")


def test_only_one_process_maintains_at_a_time(database: Database) -> None:
    store(database, count(START - timedelta(days=1)))
    with database.connect() as other, database.connect(autocommit=True) as connection:
        from framegrid_store.maintain import LOCK_KEY

        other.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
        assert maintain_once(connection, SETTINGS, START).busy
        other.rollback()
        done = maintain_once(connection, SETTINGS, START)
        assert not done.busy and done.rolled_up.rows == 1


def test_a_lock_that_is_not_to_be_had_is_left_for_the_next_round(database: Database) -> None:
    old = START - timedelta(days=30)
    store(database, count(old), coverage(old))
    with database.connect() as reader, database.connect(autocommit=True) as connection:
        maintain_once(connection, SETTINGS, START, only_roll_up=True)
        reader.execute("SELECT count(*) FROM framegrid.frame_count")
        capabilities = probe(connection)
        due = retention.due(connection, capabilities, START)
        done = maintain_once(connection, SETTINGS, START)
        if due:
            assert "lock timeout" in done.errors["retention"]
            assert numbers(connection, "frame_count") == [1]
        reader.rollback()
        assert maintain_once(connection, SETTINGS, START).errors == {}
        assert numbers(connection, "frame_count") == [0]


def test_partitions_or_chunks_are_there_for_the_time_to_come(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        if database.edition != "plain":
            pytest.skip("TimescaleDB makes chunks as rows come")
        for days in (0, 1, 9, 40):
            now = datetime.now(UTC) + timedelta(days=days)
            assert maintain_once(connection, SETTINGS, now).errors == {}
            for table in TIME_TABLES:
                known = partitions.partitions(connection, table)
                assert known[-1].end > now + timedelta(hours=2)
                spans = [(one.start, one.end) for one in known]
                assert all(end == start or start > end for (_, end), (start, _) in pairwise(spans))
