"""What is scraped of a writer: the names that dashboards and alerts know, and values that are its stats."""

from pathlib import Path

from framegrid_store.metrics import StoreMetrics
from framegrid_store.rows import CoverageRow, DetectionRow
from framegrid_store.spool import SpoolSettings
from framegrid_store.writer import StoreWriter
from framegrid_store.writer_stats import WriterStats
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

NOWHERE = "postgresql://writer:hunter2@127.0.0.1:1/framegrid"
COVERAGE = CoverageRow(1.0, 1.0, "north", 1.0, 10, 10, 0, 0, 0, 0, 0)
DETECTION = DetectionRow(1.0, "north", 1, "person", "m@1", "", 0.5, 0.1, 0.1, 0.2, 0.2)


def scrape(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    text = generate_latest(registry).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_memory_alone_has_no_spool_metrics_and_counts_what_is_refused(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    writer = StoreWriter(NOWHERE, queue_rows=2, metrics=StoreMetrics(registry))
    writer.put([COVERAGE, COVERAGE, COVERAGE, DETECTION])
    found = scrape(registry)
    assert found["framegrid_store_queue_rows",] == 2
    assert found["framegrid_store_queue_capacity_rows",] == 2
    assert found["framegrid_store_dropped_rows_total", "queue_full", "coverage"] == 1
    assert found["framegrid_store_dropped_rows_total", "queue_full", "detection"] == 1
    assert found["framegrid_store_rows_lost_total",] == 2
    assert found["framegrid_store_up",] == 0
    assert found["framegrid_store_healthy",] == 0, "it was not started"
    assert not any("spool" in name for name, *_ in found)


def test_every_figure_of_the_spool_is_there(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    writer = StoreWriter(
        NOWHERE, batch_wait_s=0.01, spool=SpoolSettings(tmp_path, after_s=0.0), metrics=StoreMetrics(registry)
    )
    writer.start()
    writer.put([COVERAGE] * 100)
    assert writer.close(timeout_s=2.0) == 0
    found = scrape(registry)
    assert found["framegrid_store_spool_rows",] == 100
    assert found["framegrid_store_spool_files",] == 1
    assert found["framegrid_store_spool_bytes",] == 4096
    assert found["framegrid_store_spool_limit_bytes",] == 1024**3
    assert found["framegrid_store_spool_oldest_age_seconds",] > 0
    assert found["framegrid_store_lag_seconds",] > 0
    assert found["framegrid_store_failures_total",] >= 1
    assert found["framegrid_store_queue_rows",] == 0
    for name in ("batches", "rows_lost", "replayed_rows", "quarantined_rows", "spool_damaged_files"):
        assert found[f"framegrid_store_{name}_total",] == 0
    assert found["framegrid_store_batch_seconds_count",] == 0
    assert "hunter2" not in generate_latest(registry).decode()


def stats(tmp_path: Path, **changes: object) -> WriterStats:
    from dataclasses import replace

    writer = StoreWriter(NOWHERE, spool=SpoolSettings(tmp_path))
    found = replace(writer.stats(), is_running=True)
    assert found.spool is not None
    own = {name: changes.pop(name) for name in list(changes) if hasattr(found.spool, name)}
    return replace(found, **changes, spool=replace(found.spool, **own))  # type: ignore[arg-type]


def test_a_database_that_is_away_is_no_problem_until_room_or_time_runs_out(tmp_path: Path) -> None:
    assert stats(tmp_path, connected=False, last_error="connection refused").problem == ""
    assert stats(tmp_path, size_bytes=2**29, oldest_age_s=3600.0).problem == ""
    assert "holds 900000000 of" in stats(tmp_path, size_bytes=900_000_000).problem
    assert "60.0 of 72.0 hours" in stats(tmp_path, oldest_age_s=60 * 3600.0).problem
    assert "190000 of 200000 rows" in stats(tmp_path, queued=190_000).problem
    assert "read-only" in stats(tmp_path, error="read-only file system").problem
    assert "does not run" in stats(tmp_path, is_running=False).problem
