"""A recording as a camera of `cameras.yaml`, so that the same rules hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from framegrid_ingest.config import CameraConfig, parse_cameras
from framegrid_ingest.errors import ConfigError, RecordingError

SHAPE = re.compile(r"^(?P<name>[^:]+):(?P<numbers>[-0-9.,\s]+)$")
# Keyframes come when the encoder likes: good enough for a look now and then, not for counting.
KEYFRAMES_BELOW_FPS = 0.5
PERSONS = ("person",)
VEHICLES = ("bicycle", "car", "motorcycle", "bus", "truck", "van")


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """What to look for. Lines and zones as text: NAME:x1,y1,x2,y2,… relative to the picture (0..1)."""

    model: str
    fps: float
    min_score: float
    lines: Sequence[str] = ()
    zones: Sequence[str] = ()


def recording_camera(
    source: str,
    options: RecordingOptions,
    environ: Mapping[str, str],
    model_classes: Sequence[str] = (),
) -> CameraConfig:
    """The camera that reads `source` once, as fast as it can. Raises RecordingError.

    `model_classes` of a model that knows neither persons nor vehicles are counted each by its own name.
    """
    entry: dict[str, Any] = {
        "name": "analyze",
        "url": source,
        "fps": float(options.fps),
        "model": options.model,
        "classes": _groups(model_classes, options.min_score),
        "lines": [_line(text) for text in options.lines],
        "zones": [_zone(text) for text in options.zones],
        "loop": False,
        "pace": "fast",
        "start_s": 0.0,
        "decode": "all" if options.fps >= KEYFRAMES_BELOW_FPS else "auto",
    }
    text = yaml.safe_dump({"cameras": [entry]}, sort_keys=False)
    try:
        (camera,) = parse_cameras(text, "command line", environ, Path.cwd())
    except ConfigError as error:
        problems = "; ".join(f"{p.key}: {p.message}" for p in error.problems)
        raise RecordingError(problems) from None
    return camera


def _groups(model_classes: Sequence[str], min_score: float) -> dict[str, Any]:
    known = set(model_classes)
    if known and not known & {*PERSONS, *VEHICLES}:
        groups = {_word(name): [name] for name in model_classes}
    else:
        groups = {"person": list(PERSONS), "vehicle": list(VEHICLES)}
    return {name: {"of": members, "min_score": min_score} for name, members in groups.items()}


def _word(name: str) -> str:
    """A class's name as one that `cameras.yaml` allows for a group."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64] or "class"


def _line(text: str) -> dict[str, Any]:
    name, numbers = _numbers(text, "line", "NAME:x1,y1,x2,y2")
    if len(numbers) != 4:
        raise RecordingError(f"line {name}: expected 4 numbers x1,y1,x2,y2, got {len(numbers)}")
    return {"name": name, "start": numbers[:2], "end": numbers[2:]}


def _zone(text: str) -> dict[str, Any]:
    name, numbers = _numbers(text, "zone", "NAME:x1,y1,x2,y2,x3,y3")
    if len(numbers) < 6 or len(numbers) % 2:
        raise RecordingError(f"zone {name}: expected 3 or more points x,y, got {len(numbers)} numbers")
    return {"name": name, "polygon": [numbers[i : i + 2] for i in range(0, len(numbers), 2)]}


def _numbers(text: str, option: str, form: str) -> tuple[str, list[float]]:
    match = SHAPE.match(text)
    try:
        if match is None:
            raise ValueError
        return match["name"], [float(part) for part in match["numbers"].split(",")]
    except ValueError:
        raise RecordingError(
            f"{option}: expected {form} with numbers from 0 to 1, got {text[:80]!r}"
        ) from None
