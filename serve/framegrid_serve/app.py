"""The Ray Serve deployment: a thin shell around `DetectService`.

`build_app` is the import path of the Serve config (`framegrid_serve.app:build_app`), the same on one machine
and on Kubernetes. Models come through `user_config`: a change loads in the background and swaps when
ready, because Serve takes a replica out of routing for as long as `reconfigure` runs.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from framegrid_serve.metrics import Publisher
from framegrid_serve.replica import Replica, ReplicaSettings
from framegrid_serve.scaling_report import read_reports
from framegrid_serve.spec import ServingConfig

logger = logging.getLogger(__name__)

DEPLOYMENT_NAME = "detector"
# A batch that runs longer than this means a hung engine: the replica is replaced.
_STUCK_BATCH_S = 60.0


class DetectorReplica:
    """One replica: models, a queue, engine workers, HTTP. See `DetectService` for the routes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._replica = Replica(ReplicaSettings.model_validate(settings))
        self._service = self._replica.service
        self._service.read_reports = read_reports
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
        await loop.run_in_executor(self._loader, self._replica.start, config)
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
        self._replica.close()
        self._loader.shutdown(wait=False, cancel_futures=True)


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
