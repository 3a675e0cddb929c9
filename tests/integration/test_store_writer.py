"""The writer against a real server: every row there exactly once, whatever happens in between."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from framegrid_local.postgres import EmbeddedPostgres
from framegrid_store.bench import measure_replay, measure_writer
from framegrid_store.copier import Copier
from framegrid_store.migrate import upgrade
from framegrid_store.rows import (
    CameraRow,
    CountRow,
    CoverageRow,
    CrossingRow,
    DetectionRow,
    EventRow,
    LineRow,
    ModelRow,
    Row,
    TrackRow,
    ZoneRow,
)
from framegrid_store.writer import StoreWriter

pytestmark = pytest.mark.integration

START_S = 1_700_000_000.0
BOX = (0.1, 0.2, 0.3, 0.4)


def count(second: int, camera: str = "north", cls: str = "person", zone: str = "", n: int = 2) -> CountRow:
    return CountRow(START_S + second, 1.0, camera, cls, zone, "m@1", 10, 10 * n, 10 * n * n, n, n, 1, 0.5)


def coverage(second: int, camera: str = "north") -> CoverageRow:
    return CoverageRow(START_S + second, 1.0, camera, 1.0, 10, 10, 0, 0, 0, 0, 0)


@contextmanager
def writing(url: str, **settings: Any) -> Iterator[StoreWriter]:
    writer = StoreWriter(url, **{"batch_wait_s": 0.05, **settings})
    writer.start()
    try:
        yield writer
    finally:
        writer.close(timeout_s=20)


def wait_until(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


def test_every_kind_of_row_arrives_with_its_names(database_url: str) -> None:
    upgrade(database_url)
    track_id, event_id = str(uuid.uuid4()), str(uuid.uuid4())
    stored: list[tuple[Sequence[Row], float]] = []
    with writing(database_url, on_stored=lambda rows, at_s: stored.append((rows, at_s))) as writer:
        writer.announce(
            [
                CameraRow("north", "depot", "Europe/Paris", {"floor": "2"}),
                ZoneRow("north", "pavement", [(0, 0.6), (1, 0.6), (1, 1)]),
                LineRow("north", "door", (0.1, 0.9), (0.9, 0.9)),
                ModelRow("m@1", digest="abc", precision="INT8", licence="AGPL-3.0"),
            ]
        )
        rows: list[Row] = [
            count(0),
            count(0, zone="pavement"),
            coverage(0),
            TrackRow(track_id, "north", "person", "m@1", START_S, START_S + 9.5, 90, 0.9, BOX, BOX),
            CrossingRow(START_S + 1, "north", "door", "person", track_id, "in", "m@1"),
            EventRow(START_S + 2, event_id, "north", "camera.lost", "warning", "no frames", {"after_s": 5}),
            DetectionRow(START_S + 3, "north", 7, "person", "m@1", track_id, 0.875, *BOX),
        ]
        assert writer.put(rows) == 0
        wait_until(lambda: writer.stats().stored == len(rows))
    assert query(database_url, "SELECT camera, site, timezone, labels FROM bi.cameras") == [
        ("north", "depot", "Europe/Paris", '{"floor": "2"}')
    ]
    assert query(database_url, "SELECT class, zone, n_sum FROM bi.counts_minute ORDER BY zone") == [
        ("person", "", 20),
        ("person", "pavement", 20),
    ]
    assert query(database_url, "SELECT line, class, direction, track_id, model FROM bi.crossings") == [
        ("door", "person", "in", track_id, "m@1")
    ]
    assert query(database_url, "SELECT duration_s, frames, model FROM bi.tracks") == [(9.5, 90, "m@1")]
    assert query(database_url, "SELECT kind, severity, payload, event_id FROM bi.events") == [
        ("camera.lost", "warning", '{"after_s": 5}', event_id)
    ]
    assert query(database_url, "SELECT model, digest, precision, licence FROM bi.models") == [
        ("m@1", "abc", "INT8", "AGPL-3.0")
    ]
    assert query(database_url, "SELECT seq, score_milli, x1_e4 FROM framegrid.detection") == [(7, 875, 1000)]
    assert query(database_url, "SELECT points FROM framegrid.line") == [([[0.1, 0.9], [0.9, 0.9]],)]
    assert sorted(row for batch, _ in stored for row in batch if type(row) is CoverageRow) == [coverage(0)]
    assert all(abs(at_s - time.time()) < 60 for _, at_s in stored)


def test_a_database_away_at_the_start_costs_no_row(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg")
    server.start()
    url = server.url
    upgrade(url)
    server.stop()
    try:
        with writing(url) as writer:
            writer.put([count(i) for i in range(1000)])
            wait_until(lambda: writer.stats().last_error != "")
            assert not writer.stats().connected
            assert url.split(":")[2].split("@")[0] not in writer.stats().last_error
            assert writer.stats().queued == 1000
            assert writer.stats().lag_s > 0
            server.start()
            assert server.url == url, "the server keeps its port"
            wait_until(lambda: writer.stats().stored == 1000)
            assert writer.stats().last_error == ""
        assert query(url, "SELECT count(*) FROM framegrid.frame_count") == [(1000,)]
    finally:
        server.destroy()


def test_killed_connections_lose_nothing_and_double_nothing(database_url: str) -> None:
    upgrade(database_url)
    ended = threading.Event()

    def kill() -> None:
        with psycopg.connect(database_url, autocommit=True) as admin:
            while not ended.wait(0.03):
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'framegrid-writer' AND datname = current_database()"
                )

    killer = threading.Thread(target=kill)
    with writing(database_url, batch_rows=500) as writer:
        killer.start()
        for first in range(0, 20_000, 500):
            assert writer.put([count(first + i) for i in range(500)]) == 0
            time.sleep(0.01)
        time.sleep(0.5)
        ended.set()
        killer.join()
        wait_until(lambda: writer.stats().stored == 20_000)
    assert query(database_url, "SELECT count(*), count(DISTINCT time) FROM framegrid.frame_count") == [
        (20_000, 20_000)
    ]


def test_a_batch_sent_again_with_its_id_is_stored_once(database_url: str) -> None:
    upgrade(database_url)
    batch_id, rows = uuid.uuid4(), [count(i) for i in range(100)]
    copier = Copier(database_url)
    try:
        assert copier.store(batch_id, rows) is True
        assert copier.store(batch_id, rows) is False
    finally:
        copier.close()
    other = Copier(database_url)
    try:
        assert other.store(batch_id, rows) is False
    finally:
        other.close()
    assert query(database_url, "SELECT count(*) FROM framegrid.frame_count") == [(100,)]


def test_bad_rows_are_set_aside_and_the_others_are_stored(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade(database_url)
    rows: list[Row] = [count(i) for i in range(1000)]
    rows[17] = count(17)._replace(samples=-1)  # the server's check
    rows[400] = count(400)._replace(time_s=float("nan"))  # our encoder
    rows[999] = count(999)._replace(camera="nul \0")  # the driver
    rows[500] = coverage(500)._replace(expected=99)  # frames not accounted for
    rows[501] = "not a row"  # type: ignore[call-overload]
    with caplog.at_level(logging.ERROR), writing(database_url) as writer:
        writer.put(rows)
        wait_until(lambda: writer.stats().queued == 0)
        stats = writer.stats()
    assert (stats.stored, stats.dropped) == (995, {"bad_row": 5})
    assert query(database_url, "SELECT count(*) FROM framegrid.frame_count") == [(995,)]
    assert "row set aside (1 so far)" in caplog.text


def test_a_schema_that_is_not_there_yet_is_waited_for(database_url: str) -> None:
    with writing(database_url) as writer:
        writer.announce([CameraRow("north", "depot")])
        writer.put([count(0)])
        wait_until(lambda: "python -m framegrid_store upgrade" in writer.stats().last_error)
        upgrade(database_url)
        wait_until(lambda: writer.stats().stored == 1)
    assert query(database_url, "SELECT site FROM bi.cameras") == [("depot",)]


def test_an_unknown_time_zone_becomes_utc_and_a_later_announcement_corrects_it(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade(database_url)
    zone = "SELECT timezone FROM bi.cameras"
    with caplog.at_level(logging.WARNING), writing(database_url) as writer:
        writer.announce([CameraRow("north", timezone="Mars/Olympus")])
        wait_until(lambda: query(database_url, zone) == [("UTC",)])
        writer.announce([CameraRow("north", timezone="Asia/Kathmandu")])
        wait_until(lambda: query(database_url, zone) == [("Asia/Kathmandu",)])
    assert "Mars/Olympus" in caplog.text


def test_eight_writers_meeting_the_same_new_names_agree_on_their_ids(database_url: str) -> None:
    upgrade(database_url)
    writers = [StoreWriter(database_url, batch_wait_s=0.01) for _ in range(8)]
    names = [(f"camera-{i}", f"zone-{i % 3}") for i in range(20)]
    for place, writer in enumerate(writers):
        writer.start()
        writer.put([count(place, camera, zone=zone) for camera, zone in names])
    assert [writer.close(timeout_s=20) for writer in writers] == [0] * 8
    assert query(
        database_url,
        "SELECT count(*), count(DISTINCT (camera_id, zone_id)), min(n) FROM"
        " (SELECT camera_id, zone_id, count(*) AS n FROM framegrid.frame_count GROUP BY 1, 2) g",
    ) == [(20, 20, 8)]
    assert query(database_url, "SELECT count(*) FROM framegrid.series") == [(20,)]


def test_close_stores_what_waits_and_says_what_it_could_not(database_url: str) -> None:
    upgrade(database_url)
    writer = StoreWriter(database_url, batch_wait_s=60)
    writer.start()
    writer.put([count(i) for i in range(100)])
    assert writer.close() == 0
    assert query(database_url, "SELECT count(*) FROM framegrid.frame_count") == [(100,)]

    nowhere = StoreWriter("postgresql://a:secret@127.0.0.1:1/x", batch_wait_s=0.01)
    nowhere.start()
    nowhere.put([count(i) for i in range(7)])
    assert nowhere.close(timeout_s=0.3) == 7
    assert nowhere.stats().dropped == {"closed": 7}
    assert "secret" not in nowhere.stats().last_error


def test_measuring_the_writer_leaves_nothing_behind(database_url: str) -> None:
    upgrade(database_url)
    figures = measure_writer(database_url, rows=10_000, rounds=1)
    assert set(figures) == {"writer_rows_per_s", "copy_rows_per_s", "writer_over_copy"}
    assert figures["writer_over_copy"] > 0  # what it is in a test, among others, says nothing
    replay = measure_replay(database_url, rows=20_000, rounds=1)
    assert replay["replay_rows_per_s"] > 5000
    assert 0 < replay["replay_live_p95_ms"] < 5000
    for table in ("frame_count", "camera", "series", "model_version"):
        assert query(database_url, f"SELECT count(*) FROM framegrid.{table}") == [(0,)]
