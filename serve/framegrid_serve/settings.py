"""The config file of `python -m framegrid_serve`: one machine's serve, in a closed schema."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from framegrid_serve.bundle import load_bundle
from framegrid_serve.errors import ModelError, StartError
from framegrid_serve.library import Library
from framegrid_serve.people.settings import PeopleSettings
from framegrid_serve.sizing import SIZING_BOUNDS, SizingSettings
from framegrid_serve.spec import BundleRef, ModelSpec, ServingConfig, ShadowSpec
from framegrid_serve.watch import WatchSettings
from framegrid_serve.workshop import resolve

logger = logging.getLogger(__name__)

COMPILED = "compiled"  # in the state_dir: compiled networks, and notes on models that passed their trial


class ModelEntry(BaseModel):
    """One model: where its bundle lies. Without `path` the name is looked up, packaged models included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    path: Path | None = None  # relative to the config file


def _sizing(name: str) -> Any:
    """A key of the policy: its default and bounds are the policy's own."""
    low, high = SIZING_BOUNDS[name]
    return Field(default=getattr(SizingSettings(), name), ge=low, le=high)


class AutoscalingSettings(BaseModel):
    """When the number of replicas changes. Why these defaults: AUTOSCALING.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upscale_delay_s: float = Field(default=3.0, ge=0, le=3600)
    downscale_delay_s: float = Field(default=300.0, ge=0, le=86_400)
    target_utilisation: float = _sizing("target_utilisation")
    tolerance: float = _sizing("tolerance")
    max_step_up: float = _sizing("max_step_up")
    max_step_down: float = _sizing("max_step_down")

    def config(self, min_replicas: int, max_replicas: int) -> dict[str, Any]:
        """`autoscaling_config` of Ray Serve."""
        return {
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "metrics_interval_s": 1.0,
            "look_back_period_s": 5.0,
            "upscale_delay_s": self.upscale_delay_s,
            "downscale_delay_s": self.downscale_delay_s,
            "policy": {
                "policy_function": "framegrid_serve.autoscaling:FramesPolicy",
                "policy_kwargs": self.model_dump(exclude={"upscale_delay_s", "downscale_delay_s"}),
            },
        }


class NodeSettings(BaseModel):
    """What one machine serves, and with how much of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http_host: str = "127.0.0.1"  # 0.0.0.0 opens it to the network; there is no authentication yet
    http_port: int = Field(default=8000, ge=1, le=65535)
    replicas: int = Field(default=1, ge=1, le=256)  # at the start, and the fewest
    max_replicas: int = Field(default=0, ge=0, le=256)  # the most that the load may ask for; 0 = `replicas`
    autoscaling: AutoscalingSettings = AutoscalingSettings()
    cpus_per_replica: int = Field(default=1, ge=1, le=256)
    queue_frames: int = Field(default=128, ge=64, le=100_000)  # frames waiting per replica; more gets 429
    # openvino | onnxruntime | ultralytics | a module's dotted name; empty = chosen by bundle and machine
    engine: str = ""
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    default_model: str = ""  # empty = the first
    watch: WatchSettings = WatchSettings()  # after a model was changed: when the old one comes back
    models_dir: Path | None = None  # where models given by name alone are looked for and fetched to
    state_dir: Path = Path(".framegrid/serve")  # Ray's and HAProxy's files, logs included
    people: PeopleSettings = PeopleSettings()  # the HTTP API and page for people

    @property
    def url(self) -> str:
        """Where requests of this machine go."""
        host = "127.0.0.1" if self.http_host in ("0.0.0.0", "") else self.http_host
        return f"http://{host}:{self.http_port}"

    @property
    def replica_args(self) -> dict[str, Any]:
        """What each replica may use: ReplicaSettings as JSON, for Ray as for a process alone."""
        return {
            "cpus_per_replica": self.cpus_per_replica,
            "queue_frames": self.queue_frames,
            "engine": self.engine,
            "cache_dir": str(self.state_dir / COMPILED),
            "people": self.people.model_dump(mode="json"),
        }

    @property
    def most_replicas(self) -> int:
        """What the machine has to have room for."""
        return max(self.replicas, self.max_replicas)

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if 0 < self.max_replicas < self.replicas:
            raise ValueError(
                f"max_replicas: expected at least replicas ({self.replicas}), got {self.max_replicas}; "
                "or leave it out for a fixed number"
            )
        return self


def read_settings(path: Path) -> NodeSettings:
    """The settings in a YAML file. Raises StartError naming file, key and what is allowed."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise StartError(f"{path}: not readable as YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(values, dict):
        raise StartError(f"{path}: expected keys and values, got {type(values).__name__}")
    try:
        settings = NodeSettings.model_validate(values)
    except ValidationError as error:
        raise StartError(f"{path}: {_problem(error)}") from error
    changed = {"state_dir": _beside(path, settings.state_dir)}
    if settings.models_dir is not None:
        changed["models_dir"] = _beside(path, settings.models_dir)
    models = [entry.model_copy(update={"path": _beside(path, entry.path)}) for entry in settings.models]
    return settings.model_copy(update={**changed, "models": tuple(models)})


def serving_config(settings: NodeSettings) -> ServingConfig:
    """Every bundle found and verified. Raises StartError for the first that cannot be served."""
    specs = []
    for entry in settings.models:
        try:
            specs.append(_spec(entry, settings))
        except ModelError as error:
            raise StartError(f"model {entry.name}: {error}") from error
    try:
        return ServingConfig(models=tuple(specs), default_model=settings.default_model, watch=settings.watch)
    except ValidationError as error:
        raise StartError(_problem(error)) from error


def _spec(entry: ModelEntry, settings: NodeSettings) -> ModelSpec:
    """One model as it is now: what the name means, what it replaced, what shadows it. Raises ModelError."""
    named = entry.path or resolve(entry.name, settings.models_dir)
    bundle = load_bundle(named.resolve())  # a name may mean another version by the time a replica loads it
    library = Library(named.parent)
    previous: BundleRef | None = None
    with contextlib.suppress(ModelError):
        before = library.before(bundle.name)
        previous = BundleRef(path=before.path.resolve(), digest=before.digest)
    shadow: ShadowSpec | None = None
    if (found := library.shadow(bundle.name)) is not None:
        try:
            candidate = load_bundle(found[0])
            shadow = ShadowSpec(path=candidate.path.resolve(), digest=candidate.digest, share=found[1])
        except ModelError as error:  # nobody is answered by a shadow: it stops nobody either
            logger.warning("model %s serves without its shadow: %s", entry.name, error)
    return ModelSpec(
        name=entry.name, path=bundle.path, digest=bundle.digest, previous=previous, shadow=shadow
    )


def _beside(config: Path, path: Path | None) -> Path | None:
    """Not resolved to the end: a link to the active version is followed each time the models are read."""
    return None if path is None else Path(os.path.normpath(config.resolve().parent / path.expanduser()))


def _problem(error: ValidationError) -> str:
    problem: Any = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        nested: dict[Any, type[BaseModel]] = {
            "autoscaling": AutoscalingSettings,
            "models": ModelEntry,
            "people": PeopleSettings,
            "watch": WatchSettings,
        }
        allowed = nested[problem["loc"][0]] if len(problem["loc"]) > 1 else NodeSettings
        return f"{key}: unknown key; allowed are {', '.join(allowed.model_fields)}"
    text = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {text}, got {problem['input']!r}" if key else text
