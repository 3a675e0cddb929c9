"""The config file of `python -m framegrid_serve`: one machine's serve, in a closed schema."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from framegrid_serve.bundle import load_bundle
from framegrid_serve.errors import ModelError, StartError
from framegrid_serve.library import Library
from framegrid_serve.people.settings import PeopleSettings
from framegrid_serve.spec import BundleRef, ModelSpec, ServingConfig, ShadowSpec
from framegrid_serve.watch import WatchSettings
from framegrid_serve.workshop import resolve

logger = logging.getLogger(__name__)


class ModelEntry(BaseModel):
    """One model: where its bundle lies. Without `path` the name is looked up, packaged models included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    path: Path | None = None  # relative to the config file


class NodeSettings(BaseModel):
    """What one machine serves, and with how much of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http_host: str = "127.0.0.1"  # 0.0.0.0 opens it to the network; there is no authentication yet
    http_port: int = Field(default=8000, ge=1, le=65535)
    replicas: int = Field(default=1, ge=1, le=256)
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
            "models": ModelEntry,
            "people": PeopleSettings,
            "watch": WatchSettings,
        }
        allowed = nested[problem["loc"][0]] if len(problem["loc"]) > 1 else NodeSettings
        return f"{key}: unknown key; allowed are {', '.join(allowed.model_fields)}"
    text = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {text}, got {problem['input']!r}" if key else text
