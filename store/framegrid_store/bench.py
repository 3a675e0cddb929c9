"""How fast the writer is against the driver's own COPY, and how fast it empties a spool, in one run.

`python -m framegrid_store.bench [ROWS]` on the database of FRAMEGRID_DATABASE_URL; it leaves nothing behind.
The writer has what it has in ingest: a queue, a spool folder, metrics.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
from prometheus_client import CollectorRegistry

from framegrid_store.connect import connect, database_url_from_environment
from framegrid_store.copier import copy_statement
from framegrid_store.facts import FACTS
from framegrid_store.metrics import StoreMetrics
from framegrid_store.rows import CameraRow, CountRow, Row
from framegrid_store.spool import Spool, SpoolSettings
from framegrid_store.writer import StoreWriter

if TYPE_CHECKING:
    from typing_extensions import LiteralString

BATCH_ROWS = 5000
ROUNDS = 5
CAMERAS = 100
LIVE_ROWS_PER_S = 2000
"""1,000 cameras, two classes each, a row a second."""
LIVE_WAIT_S = 0.1
_CAMERA = "framegrid-bench-{:03d}"
_LIVE = "framegrid-bench-live"  # a class, to tell live rows from those of the spool
# As the columns of frame_count, in COPY order.
_TYPES = ["timestamptz", "int4", "int2", *["int4"] * 4, *["int8"] * 3, *["int4"] * 3, "int8"]


def measure_writer(database_url: str, rows: int = 200_000, rounds: int = ROUNDS) -> dict[str, float]:
    """Rows a second of `StoreWriter` (names, ledger and all) and of psycopg's COPY BINARY of ready tuples.

    Both fill `frame_count` with the same rows, 5,000 to a commit, turn about, `rounds` times; medians, of
    the ratio within each round too. The database must be upgraded. Raises psycopg's
    errors, and RuntimeError when rows went missing.
    """
    start_s = 1_700_000_000.0
    count_rows = _rows(rows, start_s)
    writer_rates, copy_rates = [], []
    try:
        _run_writer(database_url, count_rows[:BATCH_ROWS])  # creates the names
        ready = _ready(database_url, count_rows)
        for _ in range(rounds):
            copy_rates.append(rows / _clean(database_url, lambda: _run_copy(database_url, ready)))
            writer_rates.append(rows / _clean(database_url, lambda: _run_writer(database_url, count_rows)))
    finally:
        _clean(database_url, lambda: 0.0)
        _forget(database_url)
    ratios = [writer / copy for writer, copy in zip(writer_rates, copy_rates, strict=True)]
    return {
        "writer_rows_per_s": round(statistics.median(writer_rates)),
        "copy_rows_per_s": round(statistics.median(copy_rates)),
        "writer_over_copy": round(statistics.median(ratios), 3),
    }


def measure_replay(database_url: str, rows: int = 300_000, rounds: int = 3) -> dict[str, float]:
    """Rows a second from a spool into SQL while 2,000 live rows a second are stored too; medians.

    Without the limit that a writer has by itself. Live rows' p95 from `put` to committed, in milliseconds,
    says whether they came first. Raises as `measure_writer`.
    """
    spooled = _rows(rows, 1_700_000_000.0)
    rates, lags_ms = [], []
    try:
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(prefix="framegrid-bench-") as folder:
                settings = SpoolSettings(Path(folder), replay_rows_per_s=1e9)
                _fill_spool(settings, spooled)
                rate, lag_ms = _run_replay(database_url, settings, rows)
            rates.append(rate)
            lags_ms.append(lag_ms)
            _clean(database_url, lambda: 0.0)
    finally:
        _clean(database_url, lambda: 0.0)
        _forget(database_url)
    return {
        "replay_rows_per_s": round(statistics.median(rates)),
        "replay_live_p95_ms": round(statistics.median(lags_ms), 1),
    }


def _fill_spool(settings: SpoolSettings, rows: Sequence[CountRow]) -> None:
    spool = Spool(settings)
    spool.open()
    for first in range(0, len(rows), BATCH_ROWS):
        spool.add(uuid4(), rows[first : first + BATCH_ROWS], was_sent=False)
    spool.close()


def _run_replay(database_url: str, settings: SpoolSettings, rows: int) -> tuple[float, float]:
    """Rows a second from the first to the last one of the spool, and live rows' p95 in milliseconds."""
    lags_s: list[float] = []

    def stored(batch: Sequence[Row], at_s: float) -> None:
        lags_s.extend(at_s - row.time_s for row in batch if isinstance(row, CountRow) and row.cls == _LIVE)

    writer = _writer(database_url, settings, LIVE_WAIT_S, on_stored=stored)
    done = threading.Event()
    live = threading.Thread(target=_put_live, args=(writer, done))
    live.start()
    try:
        writer.start()
        while not writer.stats().replayed:
            time.sleep(0.001)
        started_s, started_at = time.perf_counter(), writer.stats().replayed
        while writer.stats().replayed < rows:
            time.sleep(0.001)
        took_s = time.perf_counter() - started_s
    finally:
        done.set()
        live.join()
        left = writer.close(timeout_s=60)
    if left or writer.stats().dropped or len(lags_s) < 20:
        raise RuntimeError(f"expected every row stored, live ones too, got {writer.stats()}")
    return (rows - started_at) / took_s, statistics.quantiles(lags_s, n=20)[-1] * 1000


def _put_live(writer: StoreWriter, done: threading.Event) -> None:
    row = _rows(1, 0.0)[0]._replace(cls=_LIVE)
    step_s = 0.02
    while not done.wait(step_s):
        writer.put([row._replace(time_s=time.time())] * int(LIVE_ROWS_PER_S * step_s))


def _writer(
    database_url: str,
    spool: SpoolSettings,
    wait_s: float = 1.0,
    queue_rows: int = 200_000,
    on_stored: Callable[[Sequence[Row], float], None] | None = None,
) -> StoreWriter:
    return StoreWriter(
        database_url,
        batch_rows=BATCH_ROWS,
        batch_wait_s=wait_s,
        queue_rows=queue_rows,
        on_stored=on_stored,
        spool=spool,
        metrics=StoreMetrics(CollectorRegistry()),
    )


def _rows(rows: int, start_s: float) -> list[CountRow]:
    """One row a second per camera and class, as ingest makes them."""
    made = []
    for place in range(rows):
        second, series = divmod(place, CAMERAS * 2)
        camera, cls = divmod(series, 2)
        n = (second * 7 + camera) % 11
        made.append(
            CountRow(
                time_s=start_s + second,
                interval_s=1.0,
                camera=_CAMERA.format(camera),
                cls=("person", "vehicle")[cls],
                zone="",
                model="framegrid-bench@1",
                samples=10,
                n_sum=10 * n,
                n_sumsq=10 * n * n,
                n_min=n,
                n_max=n,
                uniques=n % 2,
                score_mean=0.75 if n else 0.0,
            )
        )
    return made


def _run_writer(database_url: str, rows: Sequence[CountRow]) -> float:
    """Seconds from the first row put to the last one stored, over a connection that is there already."""
    with tempfile.TemporaryDirectory(prefix="framegrid-bench-") as folder:
        return _run_with_spool(database_url, rows, SpoolSettings(Path(folder)))


def _run_with_spool(database_url: str, rows: Sequence[CountRow], spool: SpoolSettings) -> float:
    writer = _writer(database_url, spool, queue_rows=len(rows))
    writer.start()
    writer.announce([CameraRow(rows[0].camera)])
    while not writer.stats().connected:
        time.sleep(0.001)
    started_s = time.perf_counter()
    for first in range(0, len(rows), 500):
        writer.put(rows[first : first + 500])
    left = writer.close(timeout_s=300)
    took_s = time.perf_counter() - started_s
    if left or writer.stats().stored != len(rows):
        raise RuntimeError(f"expected {len(rows)} rows stored, got {writer.stats()}")
    return took_s


def _ready(database_url: str, rows: Sequence[CountRow]) -> list[tuple[object, ...]]:
    """The same rows as the table has them: ids looked up, times made, in column order."""
    with connect(database_url, application_name="framegrid-bench") as connection:
        cameras = _ids(connection, "SELECT key, camera_id FROM framegrid.camera")
        classes = _ids(connection, "SELECT name, class_id FROM framegrid.object_class")
        found = connection.execute(
            "SELECT model_id FROM framegrid.model_version WHERE name = 'framegrid-bench'"
        ).fetchone()
    if found is None:
        raise RuntimeError("expected model framegrid-bench to be known, got nothing")
    return [
        (
            datetime.fromtimestamp(row.time_s, timezone.utc),
            cameras[row.camera],
            classes[row.cls],
            found[0],
            0,
            round(row.interval_s * 1000),
            row.samples,
            row.n_sum,
            row.n_sumsq,
            round(row.score_mean * row.n_sum * 1000),
            row.n_min,
            row.n_max,
            row.uniques,
            0,
        )
        for row in rows
    ]


def _ids(connection: psycopg.Connection, query: LiteralString) -> dict[str, int]:
    return {str(row[0]): int(row[1]) for row in connection.execute(query)}


def _run_copy(database_url: str, rows: Sequence[tuple[object, ...]]) -> float:
    """Seconds of psycopg's COPY BINARY with `write_row`, connection made beforehand and not timed."""
    statement = copy_statement(FACTS[CountRow])
    with connect(database_url, application_name="framegrid-bench", autocommit=True) as connection:
        started_s = time.perf_counter()
        for first in range(0, len(rows), BATCH_ROWS):
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types(_TYPES)
                for row in rows[first : first + BATCH_ROWS]:
                    copy.write_row(row)
        return time.perf_counter() - started_s


def _clean(database_url: str, measure: Callable[[], float]) -> float:
    """Delete the rows of earlier rounds, settle the disk, then measure."""
    with connect(database_url, application_name="framegrid-bench", autocommit=True) as connection:
        connection.execute(
            "DELETE FROM framegrid.frame_count USING framegrid.camera c"
            " WHERE c.camera_id = frame_count.camera_id AND c.key LIKE 'framegrid-bench-%'"
        )
        connection.execute("VACUUM framegrid.frame_count")
        # Only superusers and pg_checkpoint may; without it the figures are a little noisier.
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute("CHECKPOINT")
    return measure()


def _forget(database_url: str) -> None:
    with connect(database_url, application_name="framegrid-bench") as connection:
        connection.execute(
            "DELETE FROM framegrid.series USING framegrid.camera c"
            " WHERE c.camera_id = series.camera_id AND c.key LIKE 'framegrid-bench-%'"
        )
        connection.execute("DELETE FROM framegrid.camera WHERE key LIKE 'framegrid-bench-%'")
        connection.execute("DELETE FROM framegrid.model_version WHERE name = 'framegrid-bench'")
        connection.execute("DELETE FROM framegrid.object_class WHERE name = %s", (_LIVE,))


if __name__ == "__main__":
    asked = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    url = database_url_from_environment()
    print(json.dumps({**measure_writer(url, asked), **measure_replay(url, asked)}))
