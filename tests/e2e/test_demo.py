"""The whole demo, as a user runs it: real cameras over HTTP, Ray Serve, PostgreSQL and the page.

Every process of a run inherits a mark in its environment; afterwards no process with that mark may live.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not Path("/proc/self/environ").exists(), reason="needs /proc to find what is left behind"
    ),
]

SECONDS = 40
START_LIMIT_S = 300  # with other tests' leftovers in no cache, and two slow cores
MARK = "FRAMEGRID_TEST_MARK"


@dataclass
class Run:
    """A demo under way; its output is collected by a thread."""

    process: subprocess.Popen[str]
    mark: str
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, within_s: float = START_LIMIT_S) -> re.Match[str]:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            match = re.search(pattern, self.output, re.MULTILINE)
            if match:
                return match
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"{pattern!r} not seen in:\n{self.output}")

    def end(self, within_s: float = 120) -> int:
        status = self.process.wait(within_s)
        self._reader.join(5)
        return status

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def living(self) -> list[str]:
        """Command lines of all processes of this run."""
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"{MARK}={self.mark}".encode() in environ.read_bytes():
                    command = (environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                    if command:  # a zombie has none
                        found.append(command)
            except OSError:
                continue
        return found

    def wait_until_nothing_lives(self, within_s: float) -> list[str]:
        until = time.monotonic() + within_s
        while (left := self.living()) and time.monotonic() < until:
            time.sleep(0.2)
        return left


def start(state_dir: Path, *arguments: str) -> Run:
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "framegrid_local", "demo", "--state-dir", str(state_dir), *arguments]
    environ = {k: v for k, v in os.environ.items() if k != "FRAMEGRID_DATABASE_URL"} | {MARK: mark}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ,
        start_new_session=True,
    )
    return Run(process, mark)


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    from framegrid_local.postgres import EmbeddedPostgres

    yield tmp_path / "state"
    EmbeddedPostgres(tmp_path / "state" / "postgres").destroy()


def test_counts_reach_sql_and_the_page_and_agree_with_the_truth(state_dir: Path) -> None:
    with start(state_dir, "--seconds", str(SECONDS)) as run:
        page = run.wait_for(r"^Page: +(\S+)$")[1]
        url = run.wait_for(r"^SQL: .*\"(postgresql://\S+)\"$")[1]
        run.wait_for(r"^camera-1 +running ")
        with urllib.request.urlopen(page, timeout=10) as answer:
            assert answer.status == 200
            assert b"streamlit" in answer.read().lower()
        with psycopg.connect(url) as connection:
            cameras = connection.execute("SELECT count(*) FROM framegrid.camera").fetchone()
        assert cameras == (4,)
        status = run.end(SECONDS + 120)
    assert status == 0, run.output
    summary: dict[str, Any] = json.loads(run.lines[-1])
    assert summary["rows"] > 0
    assert summary["frames"] > 0
    assert summary["frames"] + summary["dropped"] == summary["expected"]
    assert summary["crossings_true"] > 0
    assert summary["p95_ms"] > 0
    assert summary["restarts"] == 0
    assert len(re.findall(r"^camera-1 +running ", run.output, re.MULTILINE)) >= SECONDS / 2
    assert run.wait_until_nothing_lives(within_s=5) == []


def test_ctrl_c_while_it_starts_leaves_nothing_behind(state_dir: Path) -> None:
    with start(state_dir, "--cameras", "1", "--no-page") as run:
        run.wait_for(r"database +ready")
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 0, run.output
    assert "Stopped before it was running." in run.output
    assert run.wait_until_nothing_lives(within_s=5) == []


def test_nothing_outlives_a_supervisor_that_is_killed(state_dir: Path) -> None:
    with start(state_dir, "--cameras", "1", "--no-page") as run:
        run.wait_for(r"^camera-1 +running ")
        assert len(run.living()) > 5
        run.process.kill()
        run.end()
    assert run.wait_until_nothing_lives(within_s=60) == []


def test_crashed_parts_are_started_again_and_counting_goes_on(state_dir: Path) -> None:
    with start(state_dir, "--cameras", "1", "--no-page") as run:
        run.wait_for(r"^camera-1 +running ")
        (ingest,) = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if path.exists() and is_ingest_of(path, run.mark)
        ]
        os.kill(ingest, signal.SIGKILL)
        run.wait_for(r"ingest +crashed: ended with status 137", within_s=30)
        run.wait_for(r"ingest +ready[\s\S]*ingest +ready", within_s=60)
        assert_counting_goes_on(run)

        url = (state_dir / "database-url").read_text().strip()
        before = newest_row(url)
        pid_file = state_dir / "postgres" / "cluster" / "postmaster.pid"
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        run.wait_for(r"database +crashed", within_s=30)
        run.wait_for(r"database +ready[\s\S]*database +ready", within_s=60)
        assert_counting_goes_on(run)
        until = time.monotonic() + 30
        while newest_row(url) < before + 5 and time.monotonic() < until:
            time.sleep(0.5)
        assert newest_row(url) >= before + 5
        run.process.send_signal(signal.SIGTERM)
        assert run.end() == 0, run.output
    assert run.wait_until_nothing_lives(within_s=5) == []


def assert_counting_goes_on(run: Run) -> None:
    seen = len(run.lines)
    until = time.monotonic() + 30
    while not any(" running " in line for line in run.lines[seen:]) and time.monotonic() < until:
        time.sleep(0.2)
    assert any(" running " in line for line in run.lines[seen:]), run.output


def newest_row(url: str) -> float:
    """Unix time of the newest coverage row with a processed frame."""
    query = "SELECT extract(epoch FROM max(time))::float8 FROM framegrid.coverage WHERE processed > 0"
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return float(row[0])


def is_ingest_of(cmdline: Path, mark: str) -> bool:
    """The ingest process itself, not its guard."""
    try:
        arguments = cmdline.read_bytes().split(b"\0")
        return arguments[1:3] == [b"-m", b"framegrid_ingest"] and (
            f"{MARK}={mark}".encode() in (cmdline.parent / "environ").read_bytes()
        )
    except OSError:
        return False
