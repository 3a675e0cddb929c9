"""Clips as files: pictures or a video, and the truth beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from framegrid_sim.clip import Clip
from framegrid_sim.h264 import EncodeError, copy_file, encode_file

FORMATS = ("jpeg", "mp4", "mkv", "avi")
_H264 = ("mp4", "mkv")
TRUTH_FILE = "truth.json"


def write_clip(clip: Clip, folder: Path, formats: tuple[str, ...], gop: int) -> list[Path]:
    """Write a clip in each of the formats and its truth; returns the files (`jpeg`: the folder).

    `mp4` and `mkv`: H.264 with a keyframe every `gop` frames; `avi`: Motion JPEG, the JPEGs bit for bit.
    Raises EncodeError for what cannot be encoded, OSError for what cannot be written.
    """
    unknown = [f for f in formats if f not in FORMATS]
    if unknown:
        raise EncodeError(f"expected formats among {', '.join(FORMATS)}, got {', '.join(unknown)}")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats:
        path = folder / ("frames" if name == "jpeg" else f"clip.{name}")
        if name == "jpeg":
            path.mkdir(exist_ok=True)
            for i, jpeg in enumerate(clip.jpegs):
                (path / f"{i:06d}.jpg").write_bytes(jpeg)
        elif name in _H264:
            encode_file(clip, path, gop)
        else:
            copy_file(clip, path)
        written.append(path)
    truth = folder / TRUTH_FILE
    truth.write_text(json.dumps(summary_json(clip) | {"truth": clip.truth.to_json()}, indent=1))
    return [*written, truth]


def summary_json(clip: Clip) -> dict[str, Any]:
    """What one viewing of the file, from its first frame to its last, must count."""
    totals: dict[str, dict[str, dict[str, int]]] = {}
    for (line, group, direction), n in clip.truth.crossing_totals(0, clip.frame_count).items():
        totals.setdefault(line, {}).setdefault(group, {})[direction] = n
    return {
        "settings": clip.settings.to_json(),
        "frame_count": clip.frame_count,
        "fps": clip.fps,
        "uniques": clip.truth.uniques,
        "crossed": totals,
    }
