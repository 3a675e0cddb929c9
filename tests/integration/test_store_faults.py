"""What is promised when things break: every row in SQL exactly once, counted against what was sent.

The database is killed, frozen and stopped; the network is cut at random bytes; the process is killed at
random moments. Seeds are fixed, so a failure can be repeated.
"""

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from framegrid_local.postgres import EmbeddedPostgres
from framegrid_store import link, outage, spool
from framegrid_store.migrate import upgrade
from framegrid_store.rows import CountRow, CoverageRow, EventRow, Row
from framegrid_store.spool import SpoolSettings, SpoolStats
from framegrid_store.spool_format import decode_file
from framegrid_store.writer import StoreWriter

pytestmark = [pytest.mark.integration, pytest.mark.faults]

START_S = 1_699_999_980.0


def row(place: int) -> CountRow:
    """The row of this number; its time says which it is."""
    return CountRow(
        START_S + place, 1.0, f"camera-{place % 20}", "person", "", "m@1", 10, 20, 40, 2, 2, 1, 0.5
    )


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


def stored_places(url: str) -> Counter[int]:
    """How often each row is in the table."""
    found = query(url, f"SELECT extract(epoch FROM time)::bigint - {START_S:.0f} FROM framegrid.frame_count")
    return Counter(int(place) for (place,) in found)


def wait_until(true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)


def spooled(writer: StoreWriter) -> SpoolStats:
    """What is on disk now."""
    stats = writer.stats().spool
    assert stats is not None
    return stats


@contextmanager
def writing(url: str, folder: Path | None, **settings: Any) -> Iterator[StoreWriter]:
    spool_settings = None
    if folder is not None:
        own = {name: settings.pop(name) for name in ("after_s", "size_bytes") if name in settings}
        spool_settings = SpoolSettings(folder, **{"after_s": 0.3, **own})
    writer = StoreWriter(url, **{"batch_wait_s": 0.05, **settings}, spool=spool_settings)
    writer.start()
    try:
        yield writer
    finally:
        writer.close(timeout_s=20)


class Producer:
    """Puts rows at a steady rate until told to stop; counts what was sent and what was refused."""

    def __init__(self, writer: StoreWriter, rows_per_s: int) -> None:
        self._writer = writer
        self._rows_per_s = rows_per_s
        self._stop = threading.Event()
        self.sent = 0
        self.refused = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Producer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began_s = time.monotonic()
        while not self._stop.wait(0.02):
            due = int((time.monotonic() - began_s) * self._rows_per_s) - self.sent
            self.refused += self._writer.put([row(self.sent + i) for i in range(due)])
            self.sent += due


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of our own, to be broken."""
    postgres = EmbeddedPostgres(tmp_path / "pg")
    postgres.start()
    upgrade(postgres.url)
    try:
        yield postgres
    finally:
        postgres.destroy()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other sooner, to have more of them in a test."""
    monkeypatch.setattr(outage, "FIRST_BACKOFF_S", 0.02)
    monkeypatch.setattr(outage, "LONGEST_BACKOFF_S", 0.1)


def server_pids(server: EmbeddedPostgres) -> list[int]:
    """The postmaster and its children."""
    master = int((server.data_dir / "cluster" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return [master, *map(int, children)]


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.mark.usefixtures("impatient")
def test_a_database_killed_in_the_middle_of_a_copy(server: EmbeddedPostgres, tmp_path: Path) -> None:
    copying = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY%'"
    url, sent = server.url, 0
    with writing(url, tmp_path / "spool", queue_rows=500_000) as writer:
        for life in range(3):
            with psycopg.connect(url, autocommit=True) as watcher:
                assert writer.put([row(sent + i) for i in range(60_000)]) == 0  # COPY after COPY
                sent += 60_000
                wait_until(lambda: watcher.execute(copying).fetchone() is not None)
                signal_all(server_pids(server), signal.SIGKILL)
            wait_until(lambda: server.poll() is not None and writer.stats().failures > life)  # noqa: B023
            assert writer.stats().stored < sent, "in the middle"
            server.start()
            assert server.url == url, "the server keeps its port"
        wait_until(lambda: writer.stats().stored == sent)
        stats = writer.stats()
    assert stats.dropped == {}
    assert stored_places(url) == Counter(range(sent))


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_a_database_that_is_away_under_load_for_some_seconds(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The full minute of it is in tests/e2e."""
    monkeypatch.setattr(link, "STALL_S", 1.0)
    on_disk = 0
    with writing(server.url, tmp_path / "spool") as writer, Producer(writer, 5000) as producer:
        wait_until(lambda: writer.stats().stored > 5000)
        if how == "stopped":
            server.stop()
        else:
            pids = server_pids(server)
            signal_all(pids, signal.SIGSTOP)
        try:
            wait_until(lambda: spooled(writer).rows > 15_000)
            stats = writer.stats()
            on_disk = spooled(writer).rows
            most = 30_000 if how == "stopped" else 120_000  # while an attempt to connect hangs
            assert stats.queued < most, "memory stays small"
            assert stats.last_error != ""
            assert stats.problem == "", "a database that is away is no danger to any row"
            assert stats.lag_s > 1
        finally:
            if how == "stopped":
                server.start()
            else:
                signal_all(pids, signal.SIGCONT)
        producer.__exit__()
        wait_until(lambda: writer.stats().stored == producer.sent and not spool_files(tmp_path / "spool"))
        stats = writer.stats()
    assert stats.replayed >= on_disk
    assert stats.spool is not None
    assert (stats.spool.files, producer.refused, stats.dropped) == (0, 0, {})
    assert stored_places(server.url) == Counter(range(producer.sent))


class Proxy:
    """TCP in front of the database. Each connection may carry so many bytes one way, and is then reset."""

    def __init__(self, target: str) -> None:
        self._target = ("127.0.0.1", urlsplit(target).port or 0)
        self._parts = urlsplit(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.limits: Callable[[], tuple[str, int] | None] = lambda: None
        """Asked for each connection: "up" or "down", and how many bytes."""
        self.is_refusing = False
        self.swallows_commits = False
        """The next answer to COMMIT is lost, and the connection with it; from then on nobody gets through."""
        self.cuts = 0
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    @property
    def url(self) -> str:
        host = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{host}@127.0.0.1:{self._listener.getsockname()[1]}"))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _begin(self, work: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            limit = self.limits()
            for way, source, sink in (("up", client, server), ("down", server, client)):
                room = limit[1] if limit is not None and limit[0] == way else None
                self._begin(self._pump, way, source, sink, room)

    def _pump(self, way: str, source: socket.socket, sink: socket.socket, room: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self.swallows_commits and way == "down" and b"COMMIT\0" in data:
                    self.swallows_commits, self.is_refusing = False, True
                    self.cuts += 1
                    break
                if room is not None and len(data) >= room:
                    sink.sendall(data[:room])
                    self.cuts += 1
                    for end in (source, sink):  # a reset, not a goodbye
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                sink.sendall(data)
                room = None if room is None else room - len(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    upgrade(database_url)
    made = Proxy(database_url)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.usefixtures("impatient")
def test_a_connection_cut_at_random_bytes_a_hundred_times(
    proxy: Proxy, database_url: str, tmp_path: Path
) -> None:
    rng = random.Random(20261121)

    def limits() -> tuple[str, int] | None:
        if proxy.cuts >= 100:
            return None
        # Up: within login, names, COPY, COMMIT. Down: among the answers, that of COMMIT too.
        return ("up", rng.randrange(1, 200_000)) if rng.random() < 0.5 else ("down", rng.randrange(1, 3000))

    proxy.limits = limits
    with writing(proxy.url, tmp_path / "spool", batch_rows=1000, after_s=0.1) as writer:
        sent = 0
        while proxy.cuts < 100:
            if writer.stats().queued < 5000:
                assert writer.put([row(sent + i) for i in range(500)]) == 0
                sent += 500
            time.sleep(0.01)
        wait_until(lambda: writer.stats().stored == sent)
        stats = writer.stats()
    assert stats.failures >= 80, "each cut but those of an idle connection is noticed"
    assert stats.replayed > 0
    assert stats.dropped == {}
    assert stored_places(database_url) == Counter(range(sent))
    assert query(database_url, "SELECT sum(rows) FROM framegrid.ingest_batch") == [(sent,)]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("way", ["memory", "spool", "next process"])
def test_a_commit_whose_answer_is_lost_is_not_stored_twice(
    proxy: Proxy, database_url: str, tmp_path: Path, way: str
) -> None:
    """Nobody knows whether it was done; it was. The batch goes again with its id, whichever way it takes."""
    writer = StoreWriter(
        proxy.url,
        batch_wait_s=0.02,
        spool=SpoolSettings(tmp_path / "spool", after_s=60.0 if way == "memory" else 0.1),
    )
    writer.start()
    writer.put([row(place) for place in range(20)])  # every name: learning them commits too
    wait_until(lambda: writer.stats().stored == 20)
    proxy.swallows_commits = True
    writer.put([row(place) for place in range(20, 500)])
    wait_until(lambda: proxy.cuts == 1)
    assert sum(stored_places(database_url).values()) == 500, "it is stored, and the writer does not know"
    if way != "memory":
        wait_until(lambda: spooled(writer).rows == 480)
    if way == "next process":
        assert writer.close() == 0
        writer = StoreWriter(database_url, spool=SpoolSettings(tmp_path / "spool"))
        writer.start()
    proxy.is_refusing = False
    wait_until(lambda: writer.stats().stored >= 480 and not spool_files(tmp_path / "spool"))
    assert (writer.stats().replayed == 0) == (way == "memory")
    assert writer.close() == 0
    assert stored_places(database_url) == Counter(range(500))


def spool_files(folder: Path) -> list[Path]:
    """Batches on disk."""
    return sorted(
        path for path in folder.glob("writer-*/*") if path.suffix in (".new", ".sent", ".split", ".merging")
    )


def places_on_disk(folder: Path) -> set[int]:
    """Rows in spool files: read by hand, while nobody owns the folder."""
    rows = [r for path in spool_files(folder) for r in decode_file(path.read_bytes())[1]]
    return {int(r.time_s - START_S) for r in rows if isinstance(r, CountRow)}


def test_a_process_killed_at_fifty_random_moments(proxy: Proxy, database_url: str, tmp_path: Path) -> None:
    """What is stored or on disk when the process dies is there once in the end; nothing is there twice.

    Rows that were in its memory alone go with it: those of the last batch, while the database is well.
    """
    folder, rng = tmp_path / "spool", random.Random(7)
    put: set[int] = set()
    safe: set[int] = set()
    outages = 0
    command = [sys.executable, str(Path(__file__).with_name("store_crash_child.py")), proxy.url, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as lives:
        assert lives.stdin is not None
        assert lives.stdout is not None
        for life in range(50):
            report = tmp_path / f"report-{life}"
            proxy.is_refusing = rng.random() < 0.5
            outages += proxy.is_refusing
            lives.stdin.write(f"{life * 100_000} {life} {report}\n")
            lives.stdin.flush()
            pid = int(lives.stdout.readline())
            # By what it has done, not by the clock: a busy machine shall find the same moments.
            puts = rng.randrange(1, 40)
            wait_until(lambda: report.exists() and report.read_text().count("put") >= puts)  # noqa: B023
            if rng.random() < 0.5:
                proxy.is_refusing = not proxy.is_refusing
                puts += rng.randrange(1, 20)
                wait_until(lambda: report.read_text().count("put") >= puts)  # noqa: B023
            time.sleep(rng.uniform(0.0, 0.02))
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not Path(f"/proc/{pid}").exists())  # noqa: B023
            for line in report.read_text().splitlines(keepends=True):
                what, *numbers = line.split()
                if what == "put" and line.endswith("\n"):
                    put |= set(range(int(numbers[0]), int(numbers[1])))
                elif line.endswith("\n"):
                    safe |= set(map(int, numbers))
            safe |= places_on_disk(folder)
        lives.stdin.close()
    proxy.is_refusing = False
    with writing(database_url, folder) as writer:
        wait_until(lambda: not spool_files(folder))
        assert (writer.stats().dropped, spooled(writer).damaged) == ({}, 0)
    stored = stored_places(database_url)
    assert 10 < outages < 40
    assert max(stored.values()) == 1, "none is double"
    assert not safe - set(stored), "none is lost that was safe"
    assert not set(stored) - put
    assert len(safe) > 2000
    assert len(put - set(stored)) <= 50 * 1000, "what goes with a process is what it had in memory"


def test_a_clock_that_steps_back_and_forth(database_url: str, tmp_path: Path, proxy: Proxy) -> None:
    """Rows of a second that comes twice are rows of their own; the spool keeps its order and its files."""
    wall_s = time.time()
    with writing(proxy.url, tmp_path / "spool", after_s=0.05) as writer:
        assert writer._spool is not None
        writer._spool.shelf._wall = lambda: wall_s
        sent: Counter[int] = Counter()
        for step_s in (0, -3600, 7200, -86_400 * 400, 86_400 * 800, 0):
            proxy.is_refusing = not proxy.is_refusing
            if not proxy.is_refusing:
                writer._link.abort()
            wall_s += step_s
            for _ in range(10):
                places = [(int(wall_s) % 10_000) + i for i in range(100)]
                writer.put([row(place) for place in places])
                sent.update(places)
                time.sleep(0.02)
        proxy.is_refusing = False
        wait_until(lambda: writer.stats().stored == 6000)
        assert writer.stats().dropped == {}
    assert stored_places(database_url) == sent


def test_two_writers_replaying_what_a_third_left(database_url: str, tmp_path: Path) -> None:
    upgrade(database_url)
    leave_behind(tmp_path, 30_000)
    writers = [StoreWriter(database_url, spool=SpoolSettings(tmp_path)) for _ in range(2)]
    for writer in writers:
        writer.start()
    wait_until(lambda: sum(writer.stats().replayed for writer in writers) == 30_000)
    assert [writer.close() for writer in writers] == [0, 0]
    assert stored_places(database_url) == Counter(range(30_000))


def test_two_writers_on_a_disk_where_locks_do_not_work(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both own the same files and send them at the same time: the ledger decides."""
    upgrade(database_url)
    leave_behind(tmp_path, 30_000)
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    monkeypatch.setattr(spool.Shelf, "take_reserve", lambda _: None)
    writers = [StoreWriter(database_url, spool=SpoolSettings(tmp_path)) for _ in range(2)]
    for writer in writers:
        writer.start()
    wait_until(lambda: not spool_files(tmp_path))
    assert [writer.close() for writer in writers] == [0, 0]
    assert stored_places(database_url) == Counter(range(30_000))


def leave_behind(folder: Path, rows: int) -> None:
    """Fill a spool, as a process does whose database is away."""
    nowhere = "postgresql://a:secret@127.0.0.1:1/x"
    with writing(nowhere, folder, batch_rows=500, after_s=0.0) as writer:
        for first in range(0, rows, 500):
            assert writer.put([row(first + i) for i in range(500)]) == 0
        writer.announce([])
        assert writer.close(timeout_s=5) == 0
        assert writer.stats().dropped == {}
    assert len(list(folder.glob("writer-*/*.new"))) >= rows // 500


def test_a_truncated_file_costs_its_own_rows_alone(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade(database_url)
    leave_behind(tmp_path, 5000)
    victim = sorted(tmp_path.glob("writer-*/*.new"))[3]
    lost = {int(r.time_s - START_S) for r in decode_file(victim.read_bytes())[1] if isinstance(r, CountRow)}
    os.truncate(victim, victim.stat().st_size // 2)
    with writing(database_url, tmp_path) as writer:
        wait_until(lambda: writer.stats().stored == 5000 - len(lost) and not spool_files(tmp_path))
        stats = writer.stats()
    assert stats.spool is not None
    assert (stats.spool.files, stats.spool.damaged, stats.last_error) == (0, 1, "")
    assert stored_places(database_url) == Counter(set(range(5000)) - lost)
    assert (tmp_path / "damaged" / victim.name).exists(), "kept for a person"
    assert "cut short or damaged" in caplog.text


def test_close_puts_what_it_cannot_store_on_disk_and_the_next_process_stores_it(
    database_url: str, tmp_path: Path
) -> None:
    upgrade(database_url)
    nowhere = StoreWriter(
        "postgresql://a:secret@127.0.0.1:1/x", batch_wait_s=60, spool=SpoolSettings(tmp_path)
    )
    nowhere.start()
    nowhere.put([row(i) for i in range(12_000)])
    began_s = time.monotonic()
    assert nowhere.close(timeout_s=1.0) == 0
    assert time.monotonic() - began_s < 5
    assert nowhere.stats().dropped == {}
    with writing(database_url, tmp_path) as writer:
        wait_until(lambda: writer.stats().replayed == 12_000)
    assert stored_places(database_url) == Counter(range(12_000))


def test_a_bad_row_in_the_spool_is_quarantined_and_the_others_are_stored(
    database_url: str, tmp_path: Path
) -> None:
    upgrade(database_url)
    rows: list[Row] = [row(i) for i in range(2000)]
    rows[700] = row(700)._replace(samples=-1)
    rows[701] = CoverageRow(START_S, 1.0, "north", 1.0, 9, 1, 0, 0, 0, 0, 0)
    nowhere = StoreWriter("postgresql://a:secret@127.0.0.1:1/x", spool=SpoolSettings(tmp_path))
    nowhere.start()
    nowhere.put([*rows, "not a row"])  # type: ignore[list-item]
    assert nowhere.close(timeout_s=1.0) == 0
    assert nowhere.stats().lost == {("unknown", "bad_row"): 1}
    with writing(database_url, tmp_path) as writer:
        wait_until(lambda: not spool_files(tmp_path))
        stats = writer.stats()
    assert stats.lost == {("frame_count", "bad_row"): 1, ("coverage", "bad_row"): 1}
    assert stats.quarantined == 2
    assert stored_places(database_url) == Counter(set(range(2000)) - {700, 701})
    text = (tmp_path / "quarantine.jsonl").read_text()
    assert text.count("\n") == 3
    assert "frame_count_not_negative" in text
    assert "23514" in text
    assert "secret" not in text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=1m,mode=700 tmpfs {folder} 2>/dev/null") != 0:
        pytest.skip("NOT RUN: the disk that is full; it takes root, and the right to mount a tmpfs")
    try:
        yield folder
    finally:
        assert os.system(f"umount {folder}") == 0


def test_a_disk_that_is_full_merges_counts_and_keeps_every_event(database_url: str, small_disk: Path) -> None:
    """The settings allow a gigabyte, the disk holds one thousandth of it: what the disk says counts."""
    upgrade(database_url)
    nowhere = StoreWriter(
        "postgresql://a:secret@127.0.0.1:1/x", batch_rows=2000, spool=SpoolSettings(small_disk, after_s=0.0)
    )
    nowhere.start()
    rng = random.Random(11)
    sums = Counter[str]()
    for second in range(3000):
        rows: list[Row] = []
        for camera in range(20):
            n = rng.randrange(10)
            rows.append(CountRow(START_S + second, 1.0, f"camera-{camera}", "person", "", "m@1",
                                 10, n * 10, n * n * 10, n, n, n % 2, rng.random()))  # fmt: skip
            rows.append(CoverageRow(START_S + second, 1.0, f"camera-{camera}", 1.0, 10, 9, 0, 1, 0, 0, 0))
            sums.update(n_sum=n * 10, n_sumsq=n * n * 10, uniques=n % 2, samples=10)
        if second % 100 == 0:
            rows.append(
                EventRow(START_S + second, f"{second:032x}", "camera-0", "camera.lost", "info", "", {})
            )
        while nowhere.stats().queued > 20_000:
            time.sleep(0.005)
        assert nowhere.put(rows) == 0
    assert nowhere.close(timeout_s=10) == 0
    stats = nowhere.stats()
    assert stats.spool is not None
    assert stats.spool.size_bytes < 1024 * 1024
    assert (stats.dropped, stats.quarantined) == ({}, 0)
    assert stats.merged["frame_count"] > 0
    with writing(database_url, small_disk):
        wait_until(lambda: not spool_files(small_disk))
    (found,) = query(
        database_url,
        "SELECT sum(samples)::int, sum(n_sum)::int, sum(n_sumsq)::int, sum(uniques)::int, count(*)::int"
        " FROM framegrid.frame_count",
    )
    assert found[:4] == (sums["samples"], sums["n_sum"], sums["n_sumsq"], sums["uniques"])
    assert found[4] + stats.merged["frame_count"] == 60_000
    assert query(
        database_url,
        "SELECT sum(observed_ms), sum(expected), sum(processed), sum(dropped_overload)"
        " FROM framegrid.coverage",
    ) == [(60_000_000, 600_000, 540_000, 60_000)]
    assert query(database_url, "SELECT count(*), count(DISTINCT event_id) FROM framegrid.event") == [(30, 30)]
    minutes = "SELECT count(*), min(samples), max(samples), max(expected) FROM bi.counts_minute"
    assert query(database_url, minutes) == [(1000, 600, 600, 600)], "a minute's view is exact"
