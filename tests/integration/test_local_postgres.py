"""The embedded PostgreSQL: a real server, real kills."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from framegrid_local.errors import PortInUseError, PostgresError
from framegrid_local.postgres import EmbeddedPostgres

pytestmark = pytest.mark.integration


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "postgres"
    yield folder
    EmbeddedPostgres(folder).destroy()


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_gone(pid: int, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_alive(pid)


def test_keeps_its_data_and_its_port_between_runs(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as first:
        assert first.ready()
        with psycopg.connect(first.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    assert not first.ready()
    with EmbeddedPostgres(data_dir) as second, psycopg.connect(second.url) as connection:
        assert second.port == first.port
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_password_is_required_and_readable_by_its_owner_alone(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as postgres:
        assert (data_dir / "password").stat().st_mode & 0o777 == 0o600
        wrong = f"postgresql://framegrid:wrong@127.0.0.1:{postgres.port}/framegrid"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)


def test_server_never_runs_as_root(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        assert Path(f"/proc/{server_pid(data_dir)}").stat().st_uid != 0


def test_refuses_a_taken_port_by_name(data_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"port {port} .* taken .*--database-port"):
            EmbeddedPostgres(data_dir, port=port).start()


def test_second_server_on_one_folder_is_refused_with_what_to_do(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir), pytest.raises(PostgresError, match=r"already runs .*--state-dir"):
        EmbeddedPostgres(data_dir).start()


def test_starts_over_a_pid_file_left_by_another_program(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as postgres:
        pid_file = data_dir / "cluster" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        postgres.stop()
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        postgres.start()
        assert postgres.ready()


def test_recovers_after_the_server_was_killed(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as postgres:
        with psycopg.connect(postgres.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        os.kill(server_pid(data_dir), signal.SIGKILL)
        deadline = time.monotonic() + 10
        while postgres.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert postgres.poll() is not None
        postgres.stop()
        postgres.start()
        with psycopg.connect(postgres.url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_server_ends_when_its_parent_is_killed(data_dir: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom framegrid_local.postgres import EmbeddedPostgres\n"
        "EmbeddedPostgres(Path(sys.argv[1])).start()\nprint('ready', flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(data_dir)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    pid = server_pid(data_dir)
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_gone(pid, within_s=10)
    with EmbeddedPostgres(data_dir) as postgres:
        assert postgres.ready()
