"""The whole chain under measurement: the same processes as `make run`, on cameras that the bench writes."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from framegrid_local.chain import Chain, ChainSettings, Workload
from framegrid_local.state import StateDir
from framegrid_local.supervisor import Event

logger = logging.getLogger(__name__)

INTERVAL_S = 0.25
MODEL = "bench"
FIRST_ROWS_S = 30.0


# The logs of a stack whose measurement failed.
FAILED_LOGS = Path("bench-failed-logs")


@contextmanager
def running(cameras: Sequence[dict[str, Any]], bundle: Path, replicas: int) -> Iterator[Chain]:
    """Database and Serve; `start_ingest()` opens these cameras. All stopped and deleted at the end.

    When the block raises, the logs are kept in FAILED_LOGS.
    """
    with scratch() as root:
        state = StateDir(root)
        state.lock()
        cameras_path = root / "cameras.yaml"
        cameras_path.write_text(yaml.safe_dump({"defaults": {"model": MODEL}, "cameras": list(cameras)}))
        workload = Workload(cameras_path, {MODEL: bundle}, MODEL, interval_s=INTERVAL_S)
        settings = ChainSettings(state_dir=root, page=False, replicas=replicas)
        chain = Chain(settings, state, workload, _log)
        try:
            chain.start()
            yield chain
        except Exception:
            shutil.copytree(state.logs, FAILED_LOGS, dirs_exist_ok=True)
            logger.error("logs of what failed are in %s", FAILED_LOGS)
            raise
        finally:
            chain.stop()
            if chain.postgres is not None:
                chain.postgres.destroy()
            state.unlock()


def stored_fps(chain: Chain, seconds: float, warm_up_s: float = 5.0) -> float:
    """Frames a second that became rows, counted in SQL, once rows have begun to come."""
    with psycopg.connect(chain.database_url, autocommit=True) as connection:
        deadline = time.monotonic() + FIRST_ROWS_S
        while not _stored_frames(connection):
            if time.monotonic() > deadline:
                raise RuntimeError(f"expected rows within {FIRST_ROWS_S:.0f} s, got none: {chain.status()}")
            time.sleep(0.2)
        time.sleep(warm_up_s)
        before, started = _stored_frames(connection), time.perf_counter()
        time.sleep(seconds)
        return (_stored_frames(connection) - before) / (time.perf_counter() - started)


def _stored_frames(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT coalesce(sum(processed), 0)::bigint FROM framegrid.coverage").fetchone()
    return int(row[0]) if row else 0


def _log(event: Event) -> None:
    logger.debug("%s %s %s", event.service, event.kind.value, event.message)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that the embedded database can reach, deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="fg-bench-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # the embedded database runs as another user when we are root
        yield root
