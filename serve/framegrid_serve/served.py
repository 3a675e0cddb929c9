"""A model in service, and what `/v1/models` says about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from framegrid_serve.batcher import Detects
from framegrid_serve.bundle import Bundle
from framegrid_serve.engines.base import Engine
from framegrid_serve.watch import Seen


class LoadedDetector(Detects, Protocol):
    """A detector with what `/v1/models` says about it."""

    bundle: Bundle
    engine: Engine


@dataclass(frozen=True, slots=True)
class Model:
    """A model that serves."""

    name: str
    path: Path
    detector: LoadedDetector
    seen: Seen = field(default_factory=Seen, compare=False)  # live frames, compared with a shadow's
    shadow_seen: Seen = field(default_factory=Seen, compare=False)  # frames it saw as a shadow

    @property
    def classes(self) -> tuple[str, ...]:
        return self.detector.bundle.classes

    @property
    def least_score(self) -> float:
        """Below this it reports nothing unless asked to."""
        return self.detector.bundle.manifest.thresholds.score

    @property
    def version(self) -> str:
        return self.detector.bundle.version

    @property
    def digest(self) -> str:
        return self.detector.bundle.digest


@dataclass(frozen=True, slots=True)
class Shadowing:
    """A second model that sees a share of the first one's live frames."""

    other: Model
    share: float


def described(model: Model, problem: str | None, shadow: Shadowing | None) -> dict[str, Any]:
    """One entry of `/v1/models`."""
    manifest = model.detector.bundle.manifest
    told: dict[str, Any] = {
        "name": model.name,
        "version": model.version,
        "digest": model.digest,
        "classes": list(manifest.classes),
        "input_size": manifest.input_size,
        "engine": model.detector.engine.name,
        "precision": model.detector.engine.precision,
        "licence": manifest.licence,
        "state": "ready",
    }
    if problem:
        told["problem"] = problem
    if shadow is not None:
        seen = shadow.other.shadow_seen
        told["shadow"] = {
            "version": shadow.other.version,
            "digest": shadow.other.digest,
            "frames": seen.frames,
            "agreement": round(seen.agreement, 4),
            "p95_ms": round(seen.p95_s * 1e3, 2),
            "live_p95_ms": round(model.seen.p95_s * 1e3, 2),
        }
    return told
