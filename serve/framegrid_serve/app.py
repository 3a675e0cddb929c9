"""The Ray Serve deployment: a thin shell around `DetectService`.

`build_app` is the import path of the Serve config (`framegrid_serve.app:build_app`), the same on one machine
and on Kubernetes. Models come through `user_config`: a change loads in the background and swaps when
ready, because Serve takes a replica out of routing for as long as `reconfigure` runs.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from framegrid_serve.batcher import Batcher
from framegrid_serve.bundle import Bundle
from framegrid_serve.bundle_cache import BundleCache
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.golden import check_golden
from framegrid_serve.metrics import Publisher
from framegrid_serve.people.app import PeopleApi
from framegrid_serve.people.settings import PeopleSettings
from framegrid_serve.registry import ModelRegistry
from framegrid_serve.service import DetectService
from framegrid_serve.spec import ServingConfig
from framegrid_serve.trial import prune_cache, try_bundle
from framegrid_serve.wire import MAX_FRAMES

logger = logging.getLogger(__name__)

DEPLOYMENT_NAME = "detector"
# A batch that runs longer than this means a hung engine: the replica is replaced.
_STUCK_BATCH_S = 60.0


class ReplicaSettings(BaseModel):
    """The `args` of the application: what a replica may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus_per_replica: int = Field(default=1, ge=1, le=256)  # engine streams, one thread each
    gpus_per_replica: float = Field(default=0, ge=0, le=16)
    # About a second of work on a slow core; more would only be answered late.
    queue_frames: int = Field(default=128, ge=MAX_FRAMES, le=100_000)
    # Requests in one replica at a time: Ray's own bound, far above what the queue lets wait.
    max_ongoing_requests: int = Field(default=256, ge=1, le=10_000)
    engine: str = ""
    # What may be kept between starts: compiled networks, and notes on models that passed their trial.
    cache_dir: Path | None = None
    people: PeopleSettings = PeopleSettings()


class DetectorReplica:
    """One replica: models, a queue, engine workers, HTTP. See `DetectService` for the routes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        parsed = ReplicaSettings.model_validate(settings)
        engine = EngineSettings(
            threads=parsed.cpus_per_replica, engine=parsed.engine, cache_dir=parsed.cache_dir
        )
        registry = ModelRegistry(
            lambda bundle: checked_detector(bundle, engine),
            trial=lambda bundle: try_bundle(bundle, engine, passed_dir=parsed.cache_dir),
            locate=BundleCache(parsed.cache_dir / "bundles" if parsed.cache_dir else None).locate,
        )
        batcher = Batcher(streams=parsed.cpus_per_replica, capacity_frames=parsed.queue_frames)
        batcher.start()
        self._service = DetectService(registry, batcher)
        self._people: PeopleApi | None = None
        if parsed.people.enabled:
            self._people = PeopleApi(self._service, parsed.people)
            self._service.mount(self._people.app)
        self._publisher = Publisher(self._service)
        # One thread: configs are applied in the order they came.
        self._loader = ThreadPoolExecutor(1, "model-loader")
        self._configured = False

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve these models. The first call waits and raises; later ones load in the background."""
        config = ServingConfig.model_validate(user_config)
        loop = asyncio.get_running_loop()
        if self._configured:
            loop.run_in_executor(self._loader, self._service.registry.apply, config)
            return
        problems = await loop.run_in_executor(self._loader, self._service.registry.apply, config)
        if not self._service.registry.ready():
            raise ModelError("; ".join(problems))
        self._configured = True

    async def __call__(self, request: Request) -> Response:
        return await self._service.handle(request)

    async def check_health(self) -> None:
        """Raise when an engine hangs; costs microseconds. Ends watches of models that no frame comes for."""
        self._service.registry.review()
        oldest_s = self._service.stats().oldest_batch_s
        if oldest_s > _STUCK_BATCH_S:
            raise RuntimeError(f"expected batches under {_STUCK_BATCH_S} s, got one of {oldest_s:.0f} s")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For FramesPolicy; Ray asks every metrics_interval_s."""
        return self._service.meter.stats().to_metrics()

    def __del__(self) -> None:
        # Serve calls this at a graceful stop, after the last request.
        self._publisher.stop()
        self._service.batcher.stop()
        if self._people is not None:
            self._people.close()
        self._loader.shutdown(wait=False, cancel_futures=True)


def checked_detector(bundle: Bundle, engine: EngineSettings) -> Detector:
    """The detector, seen to find on this machine what its bundle says. Raises ModelError."""
    detector = Detector(bundle, engine)
    check_golden(detector)
    prune_cache(engine.cache_dir)
    return detector


def build_app(args: dict[str, Any]) -> serve.Application:
    """The application for these `args`; how many replicas is in the deployment's config."""
    settings = ReplicaSettings.model_validate(args)
    deployment = serve.deployment(
        DetectorReplica,
        name=DEPLOYMENT_NAME,
        ray_actor_options={"num_cpus": settings.cpus_per_replica, "num_gpus": settings.gpus_per_replica},
        max_ongoing_requests=settings.max_ongoing_requests,
        graceful_shutdown_timeout_s=10,
        health_check_period_s=10,
        health_check_timeout_s=30,
    )
    return deployment.bind(settings.model_dump(mode="json"))
