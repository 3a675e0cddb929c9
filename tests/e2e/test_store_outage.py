"""A minute without a database at full load: 20,000 rows a second, every one there once in the end."""

import threading
import time
from pathlib import Path

import psycopg
import pytest
from framegrid_local.postgres import EmbeddedPostgres
from framegrid_store.migrate import upgrade
from framegrid_store.rows import CountRow
from framegrid_store.spool import SpoolSettings
from framegrid_store.writer import StoreWriter

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

AWAY_S = 60
ROWS_PER_S = 20_000
START_S = 1_699_999_980.0


def rows(first: int, n: int) -> list[CountRow]:
    return [
        CountRow(
            START_S + place // 1000,
            1.0,
            f"camera-{place % 1000}",
            "person",
            "",
            "m@1",
            10,
            20,
            40,
            2,
            2,
            1,
            0.5,
        )
        for place in range(first, first + n)
    ]


def test_a_minute_without_a_database_at_full_load(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg")
    server.start()
    stop = threading.Event()
    sent = refused = 0
    try:
        upgrade(server.url)
        writer = StoreWriter(server.url, spool=SpoolSettings(tmp_path / "spool"))
        writer.start()

        def produce() -> None:
            nonlocal sent, refused
            began_s = time.monotonic()
            while not stop.wait(0.05):
                due = int((time.monotonic() - began_s) * ROWS_PER_S) - sent
                refused += writer.put(rows(sent, due))
                sent += due

        producer = threading.Thread(target=produce)
        producer.start()
        time.sleep(3)
        server.stop()
        time.sleep(AWAY_S)
        away = writer.stats()
        server.start()
        time.sleep(5)
        stop.set()
        producer.join()
        deadline_s = time.monotonic() + 180
        while writer.stats().stored < sent and time.monotonic() < deadline_s:
            time.sleep(0.1)
        stats = writer.stats()
        assert writer.close() == 0
        with psycopg.connect(server.url) as connection:
            found = connection.execute(
                "SELECT count(*), count(DISTINCT (camera_id, time)), min(n), max(n) FROM"
                " (SELECT camera_id, time, count(*) AS n FROM framegrid.frame_count GROUP BY 1, 2) g"
            ).fetchone()
    finally:
        stop.set()
        server.destroy()
    assert away.spool is not None
    assert away.spool.rows > 0.8 * AWAY_S * ROWS_PER_S
    assert away.problem == ""
    assert stats.dropped == {}
    assert refused == 0
    assert found == (sent, sent, 1, 1)
    print(f"{away.spool.rows} rows spooled in {away.spool.size_bytes} bytes, {stats.replayed} replayed")
