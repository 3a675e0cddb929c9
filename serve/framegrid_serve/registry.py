"""The models of one replica, by name, and how they are changed while frames come in.

`apply` loads what is new beside what serves, and only then swaps the reference: requests that started on the
old model end on it, later ones start on the new. Whatever goes wrong with a model, the old one stays.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from framegrid_serve.batcher import Detects
from framegrid_serve.bundle import Bundle, load_bundle
from framegrid_serve.engines.base import Engine
from framegrid_serve.errors import ModelError, UnknownModelError

logger = logging.getLogger(__name__)


class ModelSpec(BaseModel):
    """One model to serve: the name that requests use, and where its bundle lies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    path: Path
    # Expected digest of the bundle; a changed digest is what makes a replica load the same path again.
    digest: str = ""


class ServingConfig(BaseModel):
    """What a replica serves: Ray Serve's `user_config`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[ModelSpec, ...] = Field(min_length=1)
    default_model: str = ""  # empty = the first

    @model_validator(mode="after")
    def _names_are_known(self) -> ServingConfig:
        names = [spec.name for spec in self.models]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise ValueError(f"models: expected each name once, got {', '.join(doubles)} twice")
        if self.default_model and self.default_model not in names:
            raise ValueError(f"default_model: expected one of {', '.join(names)}, got {self.default_model!r}")
        return self

    @property
    def default(self) -> str:
        return self.default_model or self.models[0].name


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

    @property
    def version(self) -> str:
        return self.detector.bundle.version

    @property
    def digest(self) -> str:
        return self.detector.bundle.digest


class ModelRegistry:
    """See the module. Thread-safe; `get` never waits for a load."""

    def __init__(self, open_detector: Callable[[Bundle], LoadedDetector]) -> None:
        self._open_detector = open_detector
        self._models: dict[str, Model] = {}
        self._problems: dict[str, str] = {}
        self._default = ""
        self._applying = threading.Lock()
        self.swaps = 0
        self.swap_failures = 0

    def apply(self, config: ServingConfig) -> list[str]:
        """Make `config` what is served; blocks while models load. Returns the problems, old models kept."""
        with self._applying:
            problems: dict[str, str] = {}
            for spec in config.models:
                problem = self._load(spec)
                if problem:
                    problems[spec.name] = problem
            wanted = {spec.name for spec in config.models}
            # One assignment each: readers see the old or the new, never a half.
            self._models = {name: model for name, model in self._models.items() if name in wanted}
            self._problems = problems
            if config.default in self._models or self._default not in self._models:
                self._default = config.default
            return [f"{name}: {problem}" for name, problem in problems.items()]

    def get(self, name: str) -> Model:
        """The model of that name ("" = the default). Raises UnknownModelError."""
        wanted = name or self._default
        model = self._models.get(wanted)
        if model is None:
            if wanted in self._problems:
                raise UnknownModelError(f"model {wanted!r} did not load: {self._problems[wanted]}")
            known = ", ".join(self._models) or "none"
            raise UnknownModelError(f"expected a model of {known}, got {wanted!r}; add it to the config")
        return model

    def describe(self) -> dict[str, Any]:
        """The body of `/v1/models`."""
        problems = self._problems
        models = [_described(model, problems.get(model.name)) for model in self._models.values()]
        missing = [name for name in problems if name not in self._models]
        models += [{"name": name, "state": "failed", "problem": problems[name]} for name in missing]
        return {"default": self._default, "models": models}

    def ready(self) -> bool:
        """True when the default model serves."""
        return self._default in self._models

    def _load(self, spec: ModelSpec) -> str | None:
        """Load one model if it changed. Returns what went wrong."""
        current = self._models.get(spec.name)
        if current is not None and current.path == spec.path and spec.digest == current.digest:
            return None
        try:
            bundle = load_bundle(spec.path)
            if spec.digest and bundle.digest != spec.digest:
                raise ModelError(f"{spec.path}: expected digest {spec.digest}, got {bundle.digest}")
            if current is not None and current.path == spec.path and bundle.digest == current.digest:
                return None
            detector = self._open_detector(bundle)
        # An engine may fail with anything, and the old model must stay.
        except Exception as error:  # noqa: BLE001
            self.swap_failures += 1
            logger.error("model did not load", extra={"model": spec.name, "problem": str(error)})
            return str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
        self._models = {**self._models, spec.name: Model(spec.name, spec.path, detector)}
        self.swaps += 1
        logger.info("model serves", extra={"model": spec.name, "version": bundle.version})
        return None


def _described(model: Model, problem: str | None) -> dict[str, Any]:
    manifest = model.detector.bundle.manifest
    described = {
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
        described["problem"] = problem
    return described
