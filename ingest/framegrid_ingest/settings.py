"""Everything one ingest process can be told, in one closed YAML file; secrets come from the environment.

Built once in `main`, then passed. Unknown keys and values out of bounds are refused with line and column.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from framegrid_ingest.config import Number
from framegrid_ingest.documents import Path_, read_document
from framegrid_ingest.errors import ConfigError, Problem
from framegrid_ingest.schema_errors import describe, show

DATABASE_VARIABLE = "FRAMEGRID_DATABASE_URL"
POD_VARIABLE = "FRAMEGRID_POD_NAME"
# Longer intervals would make a camera that moved wait too long for the next one.
MAX_SHARED_INTERVAL_S = 60.0
_HIDDEN = frozenset({"database_url"})


class KubernetesSettings(BaseModel):
    """Cameras are Camera resources, shared with the other ingest pods of the namespace."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # Empty: that of the pod, or of the kubeconfig. One installation in a namespace.
    namespace: str = ""
    # Outside of a cluster; a pod has its service account.
    kubeconfig: Path | None = None
    # Empty: FRAMEGRID_POD_NAME, else the host's name, which in a pod is the pod's.
    pod: str = ""
    # Seconds without a sign of life until a pod's cameras move. An API server that is away for longer than
    # five sixths of it stops recording until it is back: more where the control plane is one machine.
    lease_s: Annotated[int, Field(ge=3, le=600)] = 6
    # Seconds between refreshes of a camera's frame rate and last frame in its status.
    status_refresh_s: Annotated[Number, Field(ge=3.0, le=3600.0)] = 30.0


class IngestSettings(BaseModel):
    """One ingest process. Paths are taken from the folder of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # One source of truth: a file, or Camera resources.
    cameras: Path | None = None
    kubernetes: KubernetesSettings | None = None
    serve_url: Annotated[str, Field(pattern=r"^https?://[^/@\s]+/?$")]
    # Better in the environment (FRAMEGRID_DATABASE_URL), which wins: it holds a password.
    database_url: SecretStr = SecretStr("")
    # /status, /metrics and /healthz; 0 takes any free port, named in the ready line.
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 9480
    # Length of a count row, seconds. Slower cameras get longer ones, see intervals.py.
    interval_s: Annotated[Number, Field(ge=0.05, le=3600.0)] = 1.0
    # From claim to answer; older frames are worth nothing to a live count.
    deadline_s: Annotated[Number, Field(ge=0.05, le=60.0)] = 1.0
    # Most requests in flight: so many replicas can this process keep busy; fewer while frames wait in serve.
    max_requests: Annotated[int, Field(ge=1, le=256)] = 64
    # Frames in one request; on CPUs more than a few only add waiting.
    max_frames_per_request: Annotated[int, Field(ge=1, le=64)] = 8
    # Threads that scale and encode. JPEG at 640 px costs about 1 ms.
    encode_threads: Annotated[int, Field(ge=1, le=64)] = 2
    # The store's writer: rows wait at most this long (s) for company. Part of capture-to-stored.
    store_wait_s: Annotated[Number, Field(ge=0.0, le=60.0)] = 0.1
    store_batch_rows: Annotated[int, Field(ge=1, le=100_000)] = 5000
    # Rows kept in memory while the database is away: 200,000 are about 100 MB, or an hour of 20 cameras.
    store_queue_rows: Annotated[int, Field(ge=100, le=10_000_000)] = 200_000
    # Where rows go that memory should not keep: an outage of more than 2 s, and what is left at the end.
    # Without a folder they wait in memory alone. Several processes may share one.
    store_spool_dir: Path | None = None
    # For each process, 1/8 of it set aside for merging: 1 GiB is about 7 hours of 1,000 cameras. When it is
    # full detections go, then counts are merged by the minute. Stay below the volume's own limit.
    store_spool_bytes: Annotated[int, Field(ge=1024**2)] = 1024**3
    # Older batches are not replayed; the ledger is kept for longer, or one could be stored twice.
    store_spool_age_s: Annotated[Number, Field(ge=60.0, le=6 * 86_400.0)] = 3 * 86_400.0
    # After an outage, so that the writers of a site do not crowd out everybody else at the database.
    store_replay_rows_per_s: Annotated[int, Field(ge=1000)] = 100_000
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


def load_settings(path: Path, environ: Mapping[str, str]) -> IngestSettings:
    """Settings from a file. Raises ConfigError that lists every mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([Problem(str(path), 1, 1, "", f"cannot read the file: {reason}")]) from None
    return parse_settings(text, str(path), environ, path.parent)


def parse_settings(
    text: str, file: str, environ: Mapping[str, str], base_dir: Path = Path()
) -> IngestSettings:
    """As `load_settings`, from text."""
    document = read_document(text, file)
    values = document.data or {}
    if not isinstance(values, dict):
        message = f"expected a mapping (key: value), got {show(values)}"
        raise ConfigError([document.problem((), message)])
    if environ.get(DATABASE_VARIABLE):
        values = {**values, "database_url": environ[DATABASE_VARIABLE]}
    try:
        settings = IngestSettings.model_validate(values)
    except ValidationError as failure:
        found = [
            describe(error, {"": IngestSettings, "kubernetes": KubernetesSettings}, _HIDDEN)
            for error in failure.errors(include_url=False)
        ]
        raise ConfigError([document.problem(at, message) for at, message in found]) from None
    if not settings.database_url.get_secret_value():
        message = f"expected a database, got none; set the environment variable {DATABASE_VARIABLE}"
        raise ConfigError([document.problem(("database_url",), message)])
    wrong = _source_problem(settings)
    if wrong:
        raise ConfigError([document.problem(*wrong)])
    return settings.model_copy(update=_resolved(settings, environ, base_dir))


def _source_problem(settings: IngestSettings) -> tuple[Path_, str] | None:
    if settings.cameras is None and settings.kubernetes is None:
        return (
            "cameras",
        ), "expected this key (a file) or kubernetes (Camera resources), got neither; add one"
    if settings.cameras is not None and settings.kubernetes is not None:
        return ("kubernetes",), "expected one source of cameras, got cameras and kubernetes; remove one"
    if settings.kubernetes is not None and settings.interval_s > MAX_SHARED_INTERVAL_S:
        message = f"expected at most {MAX_SHARED_INTERVAL_S:g} with kubernetes, got {settings.interval_s:g}"
        return ("interval_s",), f"{message}; cameras that move wait for the next interval"
    return None


def _resolved(settings: IngestSettings, environ: Mapping[str, str], base_dir: Path) -> dict[str, Any]:
    def absolute(path: Path) -> Path:
        path = path.expanduser()
        return path if path.is_absolute() else base_dir / path

    spool = {"store_spool_dir": absolute(settings.store_spool_dir)} if settings.store_spool_dir else {}
    if settings.cameras is not None:
        return {"cameras": absolute(settings.cameras), **spool}
    shared = settings.kubernetes or KubernetesSettings()
    pod = shared.pod or environ.get(POD_VARIABLE) or socket.gethostname()
    kubeconfig = absolute(shared.kubeconfig) if shared.kubeconfig else None
    return {"kubernetes": shared.model_copy(update={"pod": pod, "kubeconfig": kubeconfig}), **spool}
