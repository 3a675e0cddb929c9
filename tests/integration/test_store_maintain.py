"""The loop of maintenance: as a thread and as a process, through an outage, until it is told to stop."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from databases.editions import Database
from framegrid_store.copier import Copier
from framegrid_store.errors import StoreError
from framegrid_store.maintain import APPLICATION_NAME, Maintainer, maintain_now
from framegrid_store.rows import CountRow
from framegrid_store.settings import StoreSettings
from framegrid_store.status import status

pytestmark = pytest.mark.integration

SETTINGS = StoreSettings(roll_up_every_s=0.1, settle_s=0)


def store_one(database: Database, minutes_ago: int = 2) -> None:
    at = datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)
    copier = Copier(database.url)
    try:
        row = CountRow(at.timestamp(), 1.0, "north", "person", "", "m@1", 1, 2, 4, 2, 2, 0, 0.5)
        assert copier.store(uuid.uuid4(), [row])
    finally:
        copier.close()


def pending(database: Database) -> int:
    found = status(database.url).roll_up
    assert found is not None
    return found.pending_marks


def wait_until(true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.05)


def test_a_thread_rolls_up_and_goes_on_after_its_connection_was_cut(database: Database) -> None:
    maintainer = Maintainer(database.url, SETTINGS)
    maintainer.start()
    try:
        store_one(database)
        wait_until(lambda: pending(database) == 0)
        with database.connect(autocommit=True) as admin:
            cut = admin.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = %s AND datname = current_database()",
                (APPLICATION_NAME,),
            ).fetchone()
            assert cut == (1,)
        store_one(database, minutes_ago=3)
        wait_until(lambda: pending(database) == 0)
    finally:
        maintainer.close()
    assert maintainer.last is not None and maintainer.last.errors == {}
    found = status(database.url)
    assert {task.task for task in found.tasks} == {"rollup", "chunks", "retention", "compression"}
    assert all(task.error == "" and task.next_at > task.ran_at - timedelta(seconds=5) for task in found.tasks)


def test_a_process_maintains_until_it_is_told_to_stop(database: Database, tmp_path: Path) -> None:
    settings = tmp_path / "store.yaml"
    settings.write_text("roll_up_every_s: 0.1\nsettle_s: 0\nretention_days: {raw: 3}\n")
    command = [sys.executable, "-m", "framegrid_store", "maintain", "--settings", str(settings)]
    environment = {**os.environ, "FRAMEGRID_DATABASE_URL": database.url}
    once = subprocess.run(
        [*command, "--once"], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(once.stdout)["errors"] == {}
    assert status(database.url).tables["frame_count"].keep == timedelta(days=3)
    store_one(database)
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: pending(database) == 0)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in log


def test_a_database_without_the_schema_is_named_without_the_password(empty_database: Database) -> None:
    with pytest.raises(StoreError, match="expected schema revision"):
        maintain_now(empty_database.url, SETTINGS)
    with pytest.raises(StoreError) as raised:
        maintain_now("postgresql://alice:secret@127.0.0.1:1/x", SETTINGS)
    assert "alice@127.0.0.1:1/x" in str(raised.value) and "secret" not in str(raised.value)
