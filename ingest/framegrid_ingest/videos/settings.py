"""The config file of the video service: a closed schema, nothing from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from framegrid_ingest.errors import ConfigError, Problem


class VideoSettings(BaseModel):
    """One process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    serve_url: str = Field(pattern=r"^https?://[^/?#@\s]+/?$")
    folder: Path  # emptied at start; everything here can be lost
    http_host: str = "127.0.0.1"  # serve passes requests on; nobody else needs to reach it
    http_port: int = Field(default=9481, ge=0, le=65535)  # 0: any free one
    max_video_bytes: int = Field(default=500 * 1024 * 1024, ge=1024, le=100 * 1024**3)
    max_video_s: float = Field(default=600.0, gt=0, le=86_400)  # length; longer ones are refused
    max_fps: float = Field(default=15.0, gt=0, le=60)  # pictures a second that may be asked for
    max_analysis_s: float = Field(default=3600.0, gt=0, le=86_400)  # for one video; stopped then
    max_waiting: int = Field(default=8, ge=1, le=1000)  # videos that wait; more is answered 429
    workers: int = Field(default=1, ge=1, le=16)  # videos analysed at a time, each in a process of its own
    # Uploads and results together.
    max_stored_bytes: int = Field(default=4 * 1024**3, ge=1024, le=10 * 1024**4)
    keep_s: float = Field(default=24 * 3600.0, gt=0, le=30 * 86_400)  # a finished video, then it is deleted
    upload_silence_s: float = Field(default=30.0, gt=0, le=600)  # without a byte; then the upload is given up


def load_settings(path: Path) -> VideoSettings:
    """Raises ConfigError naming file and key."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return VideoSettings.model_validate(values if isinstance(values, dict) else {})
    except OSError as error:
        raise ConfigError([Problem(str(path), 1, 1, "", f"cannot be read: {error.strerror}")]) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError([Problem(str(path), 1, 1, "", f"not YAML: {type(error).__name__}")]) from None
    except ValidationError as error:
        raise ConfigError([_problem(path, problem) for problem in error.errors(include_url=False)]) from None


def _problem(path: Path, problem: Any) -> Problem:
    key = ".".join(str(part) for part in problem["loc"])
    text = problem["msg"]
    if problem["type"] == "extra_forbidden":
        text = f"unknown key; allowed are {', '.join(VideoSettings.model_fields)}"
    return Problem(str(path), 1, 1, key, text)
