"""The writer behind PgBouncer in transaction mode: no statement of ours needs a session of its own."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from framegrid_store.connect import connect
from framegrid_store.migrate import upgrade
from framegrid_store.rows import CameraRow, CountRow, EventRow, LineRow, ModelRow, Row, ZoneRow
from framegrid_store.spool import SpoolSettings
from framegrid_store.writer import StoreWriter

pytestmark = pytest.mark.integration

START_S = 1_699_999_980.0
SERVERS = 2
"""Connections to the database, whatever the number of writers."""


class PgBouncer:
    """One pool in front of one database."""

    def __init__(self, program: str, folder: Path, database_url: str) -> None:
        parts = urlsplit(database_url)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = urlunsplit(
            parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}")
        )
        folder.mkdir(mode=0o755)
        (folder / "users.txt").write_text(f'"{parts.username}" "{parts.password}"\n')
        self._config = folder / "pgbouncer.ini"
        self._config.write_text(
            f"""[databases]
{parts.path[1:]} = host=127.0.0.1 port={parts.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder / "users.txt"}
pool_mode = transaction
default_pool_size = {SERVERS}
server_login_retry = 1
"""
        )
        for path in (folder, *folder.iterdir()):  # it gives up being root, if we are root
            path.chmod(0o755 if path.is_dir() else 0o644)
        self._program = program
        self._log = (folder / "log").open("ab")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-u", "nobody", str(self._config)], stdout=self._log, stderr=self._log
        )
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "pgbouncer ended: see its log"
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def close(self) -> None:
        self.stop()
        self._log.close()


def wait_until(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


@pytest.fixture
def pgbouncer(database_url: str, tmp_path: Path) -> Iterator[PgBouncer]:
    # Debian puts it into /usr/sbin, which is not on every user's path.
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("NOT RUN: PgBouncer; it is not installed (Debian: apt-get install pgbouncer)")
    upgrade(database_url)
    # pytest's folders are for us alone, and pgbouncer runs as nobody.
    for parent in tmp_path.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    bouncer = PgBouncer(program, tmp_path / "pgbouncer", database_url)
    try:
        yield bouncer
    finally:
        bouncer.close()


def counts(writer: int, first: int, n: int) -> list[Row]:
    camera = f"camera-{writer}"
    return [
        CountRow(START_S + first + i, 1.0, camera, "person", f"zone-{i % 3}", "m@1", 10, 20, 40, 2, 2, 1, 0.5)
        for i in range(n)
    ]


def test_more_writers_than_connections_store_every_row_once(
    pgbouncer: PgBouncer, database_url: str, tmp_path: Path
) -> None:
    """New names, facts, batches and a bouncer that is killed meanwhile."""
    writers = [
        StoreWriter(
            pgbouncer.url,
            batch_rows=500,
            batch_wait_s=0.02,
            spool=SpoolSettings(tmp_path / "spool", after_s=0.2),
        )
        for _ in range(6)
    ]
    for number, writer in enumerate(writers):
        writer.start()
        camera = f"camera-{number}"
        writer.announce(
            [
                CameraRow(camera, "depot", "Europe/Paris"),
                CameraRow("shared", timezone="Mars/Olympus"),
                ZoneRow(camera, "zone-1", [(0, 0), (1, 0), (1, 1)]),
                LineRow(camera, "door", (0, 0), (1, 1)),
                ModelRow("m@1", precision="INT8"),
            ]
        )
    for first in range(0, 5000, 250):
        for number, writer in enumerate(writers):
            event = EventRow(START_S, f"{number:016x}{first:016x}", f"camera-{number}", "x", "info", "", {})
            assert writer.put([*counts(number, first, 250), event]) == 0
        time.sleep(0.02)
        if first == 2500:
            pgbouncer.stop()
            time.sleep(0.5)
            ((restarted,),) = query(database_url, "SELECT now()::text")
            pgbouncer.start()
    wait_until(lambda: all(writer.stats().stored == 5020 for writer in writers))
    # The new bouncer's: autovacuum comes by too, and the killed one's end when they notice its end.
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        f" AND backend_type = 'client backend' AND backend_start > '{restarted}' AND pid <> pg_backend_pid()"
    )
    assert 0 < query(database_url, sessions)[0][0] <= SERVERS
    assert sum(writer.stats().failures for writer in writers) > 0, "its end was noticed"
    assert [writer.close() for writer in writers] == [0] * 6
    assert all(writer.stats().dropped == {} for writer in writers)
    assert query(
        database_url, "SELECT count(*), count(DISTINCT (camera_id, time)) FROM framegrid.frame_count"
    ) == [(30_000, 30_000)]
    assert query(database_url, "SELECT count(*), count(DISTINCT event_id) FROM framegrid.event") == [
        (120, 120)
    ]
    assert query(database_url, "SELECT count(*) FROM framegrid.camera WHERE timezone = 'Europe/Paris'") == [
        (6,)
    ]


def test_a_database_behind_it_that_goes_away_is_an_outage_like_any_other(
    pgbouncer: PgBouncer, database_url: str, tmp_path: Path
) -> None:
    """The bouncer stays and its connections are ended under it."""
    ending = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'framegrid-writer'"
    )
    writer = StoreWriter(pgbouncer.url, batch_wait_s=0.02, spool=SpoolSettings(tmp_path / "spool"))
    writer.start()
    for first in range(0, 5000, 100):
        writer.put(counts(0, first, 100))
        if first % 500 == 0:
            query(database_url, ending)
        time.sleep(0.01)
    wait_until(lambda: writer.stats().stored == 5000)
    assert writer.close() == 0
    assert writer.stats().dropped == {}
    assert query(database_url, "SELECT count(*), count(DISTINCT time) FROM framegrid.frame_count") == [
        (5000, 5000)
    ]


def test_nothing_is_prepared_and_no_setting_outlives_a_transaction(pgbouncer: PgBouncer) -> None:
    """Six statements of a kind would be prepared by now; a second client on the same server sees none."""
    with connect(pgbouncer.url, application_name="framegrid-test", autocommit=True) as connection:
        for number in range(10):
            assert connection.execute("SELECT %s::int", (number,)).fetchone() == (number,)
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
