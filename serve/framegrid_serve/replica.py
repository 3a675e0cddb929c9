"""What one replica is made of, whoever runs it: Ray Serve (`app.py`) or a process alone (`alone.py`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from framegrid_serve.batcher import Batcher
from framegrid_serve.bundle import Bundle
from framegrid_serve.bundle_cache import BundleCache
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.golden import check_golden
from framegrid_serve.people.settings import PeopleSettings
from framegrid_serve.registry import ModelRegistry
from framegrid_serve.service import DetectService
from framegrid_serve.spec import ServingConfig
from framegrid_serve.trial import prune_cache, try_bundle
from framegrid_serve.wire import MAX_FRAMES


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


class Replica:
    """Models, a queue, engine workers, routes. `service.handle` answers requests."""

    def __init__(self, settings: ReplicaSettings) -> None:
        engine = EngineSettings(
            threads=settings.cpus_per_replica, engine=settings.engine, cache_dir=settings.cache_dir
        )
        registry = ModelRegistry(
            lambda bundle: checked_detector(bundle, engine),
            trial=lambda bundle: try_bundle(bundle, engine, passed_dir=settings.cache_dir),
            locate=BundleCache(settings.cache_dir / "bundles" if settings.cache_dir else None).locate,
        )
        batcher = Batcher(streams=settings.cpus_per_replica, capacity_frames=settings.queue_frames)
        batcher.start()
        self.service = DetectService(registry, batcher)
        self._people = None
        if settings.people.enabled:
            from framegrid_serve.people.app import PeopleApi  # FastAPI: 30 MB that cameras do not need

            self._people = PeopleApi(self.service, settings.people)
            self.service.mount(self._people.app)

    def start(self, config: ServingConfig) -> None:
        """Load the first models; blocks. Raises ModelError when the default one cannot serve."""
        problems = self.service.registry.apply(config)
        if not self.service.registry.ready():
            raise ModelError("; ".join(problems))

    def close(self) -> None:
        """End the threads; what waits is answered STALE."""
        self.service.batcher.stop()
        if self._people is not None:
            self._people.close()


def checked_detector(bundle: Bundle, engine: EngineSettings) -> Detector:
    """The detector, seen to find on this machine what its bundle says. Raises ModelError."""
    detector = Detector(bundle, engine)
    check_golden(detector)
    prune_cache(engine.cache_dir)
    return detector
