"""The writer's Prometheus metrics. Labels are tables and reasons: bounded, and never a camera or an address.

Almost all of them are read from `StoreWriter.stats()` when they are scraped, so they cost a batch nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from framegrid_store.writer_stats import WriterStats

_BATCH_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)


class StoreMetrics(Collector):
    """Of one writer; give it to `StoreWriter`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.batch_seconds = Histogram(
            "framegrid_store_batch_seconds",
            "From sending a batch to its commit",
            buckets=_BATCH_BUCKETS_S,
            registry=registry,
        )
        self._registry = registry
        self._stats: Callable[[], WriterStats] | None = None

    def watch(self, stats: Callable[[], WriterStats]) -> None:
        """From now on show what this says."""
        self._stats = stats
        self._registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked of the writer when the collector is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        if self._stats is None:
            return
        stats = self._stats()
        yield _gauge("up", "1 while the database is connected", stats.connected)
        yield _gauge(
            "healthy", "0 when rows are in danger: the queue or the spool nearly full", not stats.problem
        )
        yield _gauge("queue_rows", "Rows that wait in memory to be stored", stats.queued)
        yield _gauge("queue_capacity_rows", "Rows that may wait in memory", stats.queue_rows)
        yield _gauge(
            "lag_seconds", "Age of the oldest row that is not stored, in memory or on disk", stats.lag_s
        )
        yield _counter("batches", "Batches stored", stats.batches)
        yield _counter(
            "failures", "Attempts to connect or store that failed and are repeated", stats.failures
        )
        yield _counter("replayed_rows", "Rows stored by way of the spool", stats.replayed)
        # Always there, so that an alert sees the first one.
        yield _counter("rows_lost", "Rows lost, whatever the table and the reason", sum(stats.lost.values()))
        yield _counter("quarantined_rows", "Refused rows written to the quarantine file", stats.quarantined)
        yield _labelled(
            "stored_rows", "Rows stored", ("table",), (((t,), n) for t, n in stats.stored_by_table.items())
        )
        yield _labelled(
            "merged_rows", "Rows merged into others", ("table",), (((t,), n) for t, n in stats.merged.items())
        )
        yield _labelled("dropped_rows", "Rows lost", ("table", "reason"), stats.lost.items())
        if (spool := stats.spool) is None:
            return
        yield _gauge("spool_bytes", "Disk that the spool takes", spool.size_bytes)
        yield _gauge("spool_limit_bytes", "Disk that the spool may take", spool.limit_bytes)
        yield _gauge("spool_files", "Batches on disk", spool.files)
        yield _gauge("spool_rows", "Rows on disk", spool.rows)
        yield _gauge(
            "spool_oldest_age_seconds",
            "Age of the oldest batch on disk; 0 when there is none",
            spool.oldest_age_s,
        )
        yield _counter(
            "spool_damaged_files", "Spool files set aside because they could not be read", spool.damaged
        )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"framegrid_store_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"framegrid_store_{name}", text, value=float(value))


def _labelled(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"framegrid_store_{name}", text, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, float(value))
    return family
