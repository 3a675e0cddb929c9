"""Boxes, tracks, lines and totals drawn into pictures; written as an image or an MP4."""

from __future__ import annotations

import os
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from framegrid_ingest.analysis import Detections, FrameAnalysis
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import RecordingError
from framegrid_ingest.pictures import Pixels
from framegrid_ingest.recordings.report import Totals

Colour = tuple[int, int, int]  # BGR

LINE_COLOUR: Colour = (60, 220, 250)
ZONE_COLOUR: Colour = (220, 160, 60)
TEXT_COLOUR: Colour = (255, 255, 255)
SHADE = 0.35  # brightness left behind the totals
FONT = cv2.FONT_HERSHEY_SIMPLEX
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov"})
TIME_BASE = 90_000  # ticks a second, as MPEG counts


def draw(
    pixels: Pixels,
    frame: FrameAnalysis,
    camera: CameraConfig,
    totals: Totals,
    detections: Detections | None,
) -> Pixels:
    """A copy with everything drawn: the tracks, or with `detections` all boxes."""
    canvas: Pixels = pixels.copy()
    height, width = canvas.shape[:2]
    stroke = max(1, round(min(height, width) / 360))
    for zone in camera.zones:
        points = np.array([[(x * width, y * height) for x, y in zone.polygon]], np.int32)
        cv2.polylines(canvas, [points], True, ZONE_COLOUR, stroke, cv2.LINE_AA)
    for line in camera.lines:
        start, end = _pixel(line.start, width, height), _pixel(line.end, width, height)
        cv2.line(canvas, start, end, LINE_COLOUR, stroke + 1, cv2.LINE_AA)
    if detections is not None:
        for box, score, name in zip(
            detections.boxes_xyxy, detections.scores, detections.class_names, strict=True
        ):
            _box(canvas, box, f"{name} {score:.2f}", _colour(name), stroke)
    else:
        for track in frame.tracks:
            if track.confirmed:
                label = f"{track.model_class} {track.track_id[:4]}"
                _box(canvas, track.box_xyxy, label, _colour(track.track_id), stroke)
    _totals(canvas, frame, totals)
    return canvas


def write_image(path: Path, pixels: Pixels) -> None:
    """By the suffix of the path. Raises RecordingError for one that no encoder knows."""
    try:
        written = cv2.imwrite(str(path), pixels)
    except cv2.error:
        written = False
    if not written:
        raise RecordingError(f"--annotate {path}: expected a path to write, ending in .jpg or .png")


class VideoWriter:
    """H.264 in MP4; opened with the first picture, whose size all others get."""

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            raise RecordingError(f"--annotate {path}: expected a path ending in .mp4 for a video")
        if not os.access(path.parent, os.W_OK):
            raise RecordingError(f"--annotate {path}: cannot be written: {path.parent} is no folder of yours")
        self._path = path
        self._fps = fps
        self._container: Any = None
        self._stream: Any = None
        self._frames = 0

    def write(self, pixels: Pixels) -> None:
        """Adds a picture."""
        import av

        if self._container is None:
            self._open(pixels.shape[1], pixels.shape[0])
        size = (self._stream.width, self._stream.height)
        if (pixels.shape[1], pixels.shape[0]) != size:
            pixels = np.ascontiguousarray(cv2.resize(pixels, size))
        frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
        frame.time_base = Fraction(1, TIME_BASE)
        frame.pts = round(self._frames * TIME_BASE / self._fps)
        self._frames += 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finishes the file; safe to call without a picture."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None

    def _open(self, width: int, height: int) -> None:
        import av

        self._container = av.open(str(self._path), "w")
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._stream = self._container.add_stream(codec, rate=Fraction(self._fps).limit_denominator(1000))
        self._stream.time_base = Fraction(1, TIME_BASE)
        # 4:2:0 needs even sides.
        self._stream.width, self._stream.height = max(2, width - width % 2), max(2, height - height % 2)
        self._stream.pix_fmt = "yuv420p"


def _box(canvas: Pixels, box: Any, label: str, colour: Colour, stroke: int) -> None:
    height, width = canvas.shape[:2]
    left, top = _pixel(box[:2], width, height)
    right, bottom = _pixel(box[2:], width, height)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, stroke, cv2.LINE_AA)
    scale = 0.4 * stroke
    (text_width, text_height), _ = cv2.getTextSize(label, FONT, scale, stroke)
    base = top - 3 if top > text_height + 6 else bottom + text_height + 3
    cv2.rectangle(canvas, (left, base - text_height - 3), (left + text_width, base + 3), colour, -1)
    cv2.putText(canvas, label, (left, base), FONT, scale, TEXT_COLOUR, stroke, cv2.LINE_AA)


def _totals(canvas: Pixels, frame: FrameAnalysis, totals: Totals) -> None:
    lines = [f"{cls}: {number}" for (zone, cls), number in frame.counts.items() if not zone]
    for line, cls, way in sorted(totals.crossings):
        lines.append(f"{line} {cls} {way}: {totals.crossings[line, cls, way]}")
    stroke = max(1, round(min(canvas.shape[:2]) / 360))
    step = 16 * stroke
    box = canvas[: step * len(lines) + 8, : 180 * stroke]
    box[:] = (box * SHADE).astype(np.uint8)
    for number, text in enumerate(lines):
        at = (6, step * (number + 1))
        cv2.putText(canvas, text, at, FONT, 0.42 * stroke, TEXT_COLOUR, stroke, cv2.LINE_AA)


def _pixel(point: Any, width: int, height: int) -> tuple[int, int]:
    return round(float(point[0]) * width), round(float(point[1]) * height)


def _colour(key: str) -> Colour:
    """A saturated colour of its own, the same for the same key."""
    hue = zlib.crc32(key.encode()) % 180
    pixel = cv2.cvtColor(np.array([[[hue, 200, 200]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])
