"""One ingest process, put together: settings in, cameras read, counts stored, until told to stop.

Order at the end: stop reading -> count what was read -> write the last rows -> close the store, in 5 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from framegrid_store.rows import DimensionRow, ModelRow, Row
from framegrid_store.spool import SpoolSettings
from framegrid_store.writer import StoreWriter

from framegrid_ingest.camera import Surroundings
from framegrid_ingest.camera_api import CameraApi
from framegrid_ingest.camera_source import source_of
from framegrid_ingest.cameras import CameraSet
from framegrid_ingest.catalog import Catalog, ModelFacts
from framegrid_ingest.client import ServeClient
from framegrid_ingest.clock import Clock
from framegrid_ingest.dispatcher import Dispatcher
from framegrid_ingest.http_server import Answer, HttpServer, json_answer
from framegrid_ingest.latency import CaptureToStored
from framegrid_ingest.load import Load
from framegrid_ingest.metrics import IngestMetrics
from framegrid_ingest.settings import IngestSettings
from framegrid_ingest.status import process_status

logger = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 1.5
CLOSE_TIMEOUT_S = 1.5


class StoreSink:
    """Rows to the store's writer, counted."""

    def __init__(self, writer: StoreWriter, metrics: IngestMetrics) -> None:
        self.writer = writer
        self._metrics = metrics

    def put(self, rows: Sequence[Row]) -> None:
        """Never blocks. Rows that do not fit are counted by the writer."""
        if rows:
            self.writer.put(rows)
            self._metrics.rows.inc(len(rows))

    def announce(self, rows: Sequence[DimensionRow]) -> None:
        self.writer.announce(rows)


class IngestApp:
    """Made on the event loop that runs it."""

    def __init__(
        self, settings: IngestSettings, environ: Mapping[str, str], clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self._clock = clock or Clock()
        self.metrics = IngestMetrics()
        self.latency = CaptureToStored(
            lambda camera, age_s: self.metrics.capture_to_stored.labels(camera).observe(age_s)
        )
        writer = StoreWriter(
            settings.database_url.get_secret_value(),
            batch_rows=settings.store_batch_rows,
            batch_wait_s=settings.store_wait_s,
            queue_rows=settings.store_queue_rows,
            on_stored=self.latency.stored,
            spool=_spool(settings),
            metrics=self.metrics.store,
        )
        self.sink = StoreSink(writer, self.metrics)
        self.client = ServeClient(settings.serve_url, self.metrics, self._clock)
        self.catalog = Catalog(self.client.models, self._model_seen)
        self._executor = ThreadPoolExecutor(settings.encode_threads, thread_name_prefix="framegrid-encode")
        load = Load(self._clock)
        self.dispatcher = Dispatcher(
            self.client,
            self.catalog,
            self._executor,
            max_requests=settings.max_requests,
            max_frames=settings.max_frames_per_request,
            deadline_s=settings.deadline_s,
            load=load,
            metrics=self.metrics,
            clock=self._clock,
        )
        shared = Surroundings(
            self._clock,
            self.dispatcher,
            self.sink,
            self.metrics,
            self.latency,
            load,
            settings.interval_s,
            recorded_until_s=self._records_until_s,
        )
        self.cameras = CameraSet(shared, self.sink.announce)
        self.source = source_of(settings, environ, self.cameras, self.metrics, self._clock)
        self._http = HttpServer(
            {"/status": self._status, "/metrics": self._metrics_page, "/healthz": self._healthz},
            {"/v1/cameras": CameraApi(self.source.registry).answer},
        )

    async def run(self, stop: asyncio.Event, on_ready: Callable[[dict[str, Any]], None]) -> None:
        """Work until `stop` is set. `on_ready` gets the ready line. Raises OSError for a taken port."""
        port = await self._http.start(self.settings.http_host, self.settings.http_port)
        self.sink.writer.start()
        tasks = [
            asyncio.create_task(_guarded("models", self.catalog.run)),
            asyncio.create_task(_guarded("sweep", self.cameras.sweep)),
            asyncio.create_task(_guarded("config", self.source.run)),
        ]
        try:
            await self.catalog.refresh()
            on_ready(
                {
                    "ready": True,
                    "http_host": self.settings.http_host,
                    "http_port": port,
                    "cameras": self.source.name,
                    "serve_url": self.settings.serve_url,
                }
            )
            await stop.wait()
        finally:
            await self._close(tasks)

    async def _close(self, tasks: list[asyncio.Task[None]]) -> None:
        logger.info("stopping: no more frames are read")
        watch = tasks[-1]
        watch.cancel()
        await self.cameras.stop_reading()
        await self.cameras.finish(DRAIN_TIMEOUT_S)
        await self.source.leave()
        await self.dispatcher.drain(DRAIN_TIMEOUT_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.client.close()
        self._http.close()
        left = await asyncio.get_running_loop().run_in_executor(None, self.sink.writer.close, CLOSE_TIMEOUT_S)
        self._executor.shutdown(wait=False, cancel_futures=True)
        logger.info("stopped", extra={"rows_not_stored": left})

    def _model_seen(self, facts: ModelFacts) -> None:
        logger.info("model %s, input %d, %d classes", facts.key, facts.input_size, len(facts.classes))
        self.sink.announce([ModelRow(facts.key, facts.digest, facts.precision, facts.licence)])
        self.dispatcher.pump()

    def _records_until_s(self) -> float:
        return self.source.records_until_s()

    def _status(self) -> Answer:
        stats = self.sink.writer.stats()
        status = process_status(self.cameras.cameras, self.latency, self._clock.unix_s())
        status["config_error"] = self.cameras.config_error
        status |= self.source.status()
        status["serve"] = {
            "up": not self.dispatcher.is_serve_down and bool(self.catalog.names),
            "message": self.dispatcher.last_error or self.catalog.last_error,
            "models": list(self.catalog.names),
            "in_flight": self.dispatcher.in_flight,
        }
        status["store"] = {
            "up": stats.connected,
            # Empty while no row is in danger, also when the database is away.
            "problem": stats.problem,
            "message": stats.last_error,
            "rows_stored": stats.stored,
            "rows_waiting": stats.queued,
            "rows_lost": stats.dropped,
            "rows_quarantined": stats.quarantined,
            "lag_s": round(stats.lag_s, 3),
            "spool": None if stats.spool is None else asdict(stats.spool),
        }
        return json_answer(status)

    def _metrics_page(self) -> Answer:
        body, content_type = self.metrics.page()
        return Answer(200, content_type, body)

    def _healthz(self) -> Answer:
        """200 while the event loop turns; what is wrong outside is in /status."""
        return json_answer({"ok": True})


def _spool(settings: IngestSettings) -> SpoolSettings | None:
    if settings.store_spool_dir is None:
        return None
    return SpoolSettings(
        settings.store_spool_dir,
        size_bytes=settings.store_spool_bytes,
        age_s=settings.store_spool_age_s,
        replay_rows_per_s=settings.store_replay_rows_per_s,
    )


async def _guarded(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """A task that must not end: log when it does, and start it again a moment later."""
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("%s ended unexpectedly, starting it again", name)
        await asyncio.sleep(1.0)
