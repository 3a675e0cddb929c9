"""Bundles in an MLflow model registry: versions with parameters, metrics and the archive, aliases, history.

A published bundle is a model version whose run holds its parameters and metrics and, as an artefact, the
packed bundle; the version's tags hold the digests. `@candidate` is what was published last, `@champion` what
is active. Each activation is a run of its own in one experiment: who, when, which, instead of which, and why.

Needs the extra `mlflow` (the client alone). Where the server is and how to log in, MLflow's client reads
itself (MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME). MLflow's own way to load models, which unpickles, is
not used.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from framegrid_serve.archive import MAX_UNPACKED_BYTES, pack
from framegrid_serve.bundle import Bundle
from framegrid_serve.errors import ModelError
from framegrid_serve.library import Activation, safe

CANDIDATE, CHAMPION = "candidate", "champion"
MODELS, ACTIVATIONS = "framegrid-models", "framegrid-activations"
_FOLDER = "bundle"
_ADDRESS = re.compile(r"^models:/+(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))$")
# MLflow's defaults retry for minutes and report usage home.
_CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def publish(bundle: Bundle, tracking_uri: str = "") -> str:
    """Register the bundle as a new version, `@candidate` from now on; returns its address."""
    client = _client(tracking_uri)
    manifest = bundle.manifest
    facts = manifest.model_dump(mode="json", exclude={"metrics", "golden", "sha256", "classes", "thresholds"})
    with _told("publish to"), tempfile.TemporaryDirectory(prefix="framegrid-") as folder:
        archive = pack(bundle, Path(folder) / f"{bundle.name}-{safe(bundle.version)}.tar")
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        run = client.create_run(_experiment(client, MODELS), run_name=f"{bundle.name} {bundle.version}")
        run_id = run.info.run_id
        for key, value in {**facts, "classes": len(bundle.classes), **_thresholds(bundle)}.items():
            client.log_param(run_id, key, str(value)[:500])
        for key, measured in manifest.metrics.items():
            if isinstance(measured, float):
                client.log_metric(run_id, _metric_name(key), measured)
            else:
                client.set_tag(run_id, key, measured)
        client.log_artifact(run_id, str(archive), _FOLDER)
        client.set_terminated(run_id)
        _ensure_model(client, bundle)
        tags = {"digest": bundle.digest, "sha256": digest, "version": bundle.version, "file": archive.name}
        source = f"{run.info.artifact_uri}/{_FOLDER}"
        made = client.create_model_version(
            bundle.name, source, run_id, tags={**tags, "licence": manifest.licence}
        )
        client.set_registered_model_alias(bundle.name, CANDIDATE, made.version)
    return f"models:/{bundle.name}/{made.version}"


def download(address: str, folder: Path, tracking_uri: str = "") -> Path:
    """The archive behind `models:/name@alias` or `models:/name/version`, digest checked."""
    client = _client(tracking_uri)
    with _told("fetch from"):
        version = _version(client, address)
        name = version.tags.get("file", "")
        expected = version.tags.get("sha256", "")
        if not re.fullmatch(r"[A-Za-z0-9._+-]+\.tar", name) or not expected:
            raise ModelError(
                f"{address}: expected a version that Framegrid published, got one without its tags; "
                f"publish a bundle there (`framegrid model publish`)"
            )
        sizes = {info.path: info.file_size for info in client.list_artifacts(version.run_id, _FOLDER)}
        size = sizes.get(f"{_FOLDER}/{name}")
        if size is None or size > MAX_UNPACKED_BYTES:
            raise ModelError(f"{address}: expected {name} of at most {MAX_UNPACKED_BYTES} bytes, got {size}")
        archive = Path(client.download_artifacts(version.run_id, f"{_FOLDER}/{name}", str(folder)))
    got = hashlib.sha256(archive.read_bytes()).hexdigest()
    if got != expected:
        raise ModelError(f"{address}: expected sha256 {expected}, got {got}: damaged or replaced")
    return archive


def record(activation: Activation, tracking_uri: str = "") -> str:
    """Write an activation into the registry: alias `@champion`, and a run. Returns the version's address."""
    client = _client(tracking_uri)
    with _told("record in"):
        found = client.search_model_versions(f"name = '{activation.model}'")
        same = [version for version in found if version.tags.get("digest") == activation.digest]
        if not same:
            raise ModelError(
                f"{activation.model} {activation.version}: expected it in the registry, got no version with "
                f"digest {activation.digest[:12]}; publish it first (`framegrid model publish`)"
            )
        version = max(same, key=lambda one: int(one.version))
        client.set_registered_model_alias(activation.model, CHAMPION, version.version)
        run = client.create_run(
            _experiment(client, ACTIVATIONS), run_name=f"{activation.model} {activation.version}"
        )
        for key in ("time", "model", "version", "digest", "previous", "by", "action", "reason"):
            client.log_param(run.info.run_id, key, str(getattr(activation, key))[:500])
        client.set_terminated(run.info.run_id)
    return f"models:/{activation.model}/{version.version}"


def history(name: str, tracking_uri: str = "") -> list[Activation]:
    """Activations of a model by everybody who uses this registry, oldest first."""
    client = _client(tracking_uri)
    with _told("read"):
        runs = client.search_runs(
            [_experiment(client, ACTIVATIONS)],
            f"params.model = '{name}'",
            order_by=["attributes.start_time ASC"],
            max_results=1000,
        )
        return [Activation(**run.data.params) for run in runs]


def _client(tracking_uri: str) -> Any:
    for key, value in _CLIENT_SETTINGS.items():
        os.environ.setdefault(key, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise ModelError("an MLflow registry needs its client; install the extra `mlflow`") from error
    return MlflowClient(tracking_uri=tracking_uri or None)


def _version(client: Any, address: str) -> Any:
    parts = _ADDRESS.match(address)
    if parts is None:
        raise ModelError(f"expected models:/NAME@ALIAS or models:/NAME/VERSION, got {address[:120]!r}")
    if parts["alias"]:
        return client.get_model_version_by_alias(parts["name"], parts["alias"])
    return client.get_model_version(parts["name"], parts["version"])


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _ensure_model(client: Any, bundle: Bundle) -> None:
    if not client.search_registered_models(f"name = '{bundle.name}'"):
        client.create_registered_model(bundle.name, tags={"framegrid": "bundle"})


def _thresholds(bundle: Bundle) -> dict[str, float]:
    return {f"threshold_{key}": value for key, value in bundle.manifest.thresholds.model_dump().items()}


def _metric_name(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_./ -]", "_", key)


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """Turns MLflow's errors, which may be pages, into one line without the server's address."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        code = getattr(error, "error_code", type(error).__name__)
        text = str(getattr(error, "message", "")).split("\n")[0][:200]
        reason = str(code) if "://" in text or not text else f"{code}: {text}"
        raise ModelError(
            f"cannot {doing} the MLflow registry ({reason}); check MLFLOW_TRACKING_URI and access"
        ) from error
