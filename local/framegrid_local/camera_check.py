"""`framegrid camera check`: opens one camera and says what it sends, or exactly why not."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import yaml

from framegrid_ingest.config import CameraConfig, parse_cameras
from framegrid_ingest.errors import ConfigError, SourceError
from framegrid_local.errors import UsageError

EXIT_FAILURE = 1


def run_check(url: str, timeout_s: float, *, as_json: bool) -> int:
    """Prints the findings; exit status 1 when no frame came."""
    camera = camera_of(url)
    raise NotImplementedError(camera, timeout_s, as_json, asyncio, json, time, SourceError)


def camera_of(url: str) -> CameraConfig:
    """The address as a camera of `cameras.yaml`. Raises UsageError."""
    entry = {"name": "check", "url": url, "loop": False, "pace": "fast"}
    text = yaml.safe_dump({"cameras": [entry]})
    try:
        (camera,) = parse_cameras(text, "command line", os.environ, Path.cwd())
    except ConfigError as error:
        raise UsageError("; ".join(problem.message for problem in error.problems)) from None
    return camera
