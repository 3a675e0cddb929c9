"""Where a process's cameras come from: one source of truth, a file or Camera resources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from framegrid_ingest.camera_api import Registry
from framegrid_ingest.camera_file import CameraFile
from framegrid_ingest.cameras import CameraSet
from framegrid_ingest.clock import Clock
from framegrid_ingest.metrics import IngestMetrics
from framegrid_ingest.settings import IngestSettings, KubernetesSettings


class CameraSource(Protocol):
    """Feeds a CameraSet until cancelled. `name` and `status` are for people."""

    name: str
    registry: Registry

    def records_until_s(self) -> float:
        """Unix seconds; no later tick may be recorded for now. From any thread."""

    async def run(self) -> None:
        """Follow the source, until cancelled."""

    async def leave(self) -> None:
        """All cameras are finished, for good."""

    def status(self) -> dict[str, Any]:
        """Keys for /status."""


class FileSource:
    """`cameras.yaml`: this process alone owns every camera of it."""

    def __init__(self, path: Path, environ: Mapping[str, str], cameras: CameraSet) -> None:
        self.name = str(path)
        self.registry: Registry = CameraFile(path, environ)
        self._path = path
        self._environ = environ
        self._cameras = cameras

    def records_until_s(self) -> float:
        return math.inf

    async def run(self) -> None:
        await self._cameras.watch(self._path, self._environ)

    async def leave(self) -> None:
        return

    def status(self) -> dict[str, Any]:
        return {}


class ClusterSource:
    """Camera resources, shared with other pods. Raises ClusterError when there is no cluster to ask."""

    def __init__(
        self,
        settings: KubernetesSettings,
        interval_s: float,
        cameras: CameraSet,
        metrics: IngestMetrics,
        clock: Clock,
    ) -> None:
        # The Kubernetes client takes a second and 50 MB to import: only where it is needed.
        from framegrid_ingest.kubernetes.cluster import Cluster
        from framegrid_ingest.kubernetes.cluster_cameras import ClusterCameras
        from framegrid_ingest.kubernetes.registry import ClusterRegistry

        def count(verb: str, resource: str, outcome: str) -> None:
            metrics.kubernetes_requests.labels(verb, resource, outcome).inc()

        cluster = Cluster(settings.namespace, settings.kubeconfig, count)
        self.name = f"Camera resources of namespace {cluster.namespace}"
        self.registry: Registry = ClusterRegistry(cluster)
        self._cameras = cameras
        self._shared = ClusterCameras(cluster, settings, cameras, clock, interval_s)
        metrics.config_ok.set(1)

    def records_until_s(self) -> float:
        return self._shared.keeper.records_until_s()

    async def run(self) -> None:
        await self._shared.run()

    async def leave(self) -> None:
        await self._shared.leave(self._cameras.recorded_until_s)

    def status(self) -> dict[str, Any]:
        return {"kubernetes": self._shared.status()}


def source_of(
    settings: IngestSettings,
    environ: Mapping[str, str],
    cameras: CameraSet,
    metrics: IngestMetrics,
    clock: Clock,
) -> CameraSource:
    """As the settings say."""
    if settings.kubernetes is not None:
        return ClusterSource(settings.kubernetes, settings.interval_s, cameras, metrics, clock)
    if settings.cameras is None:
        raise ValueError("expected cameras or kubernetes in the settings, got neither; use load_settings")
    return FileSource(settings.cameras, environ, cameras)
