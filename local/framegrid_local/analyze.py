"""`framegrid analyze`: count what is in a video, an image or a camera, in this process, without servers.

The same sampling, model, tracking and counting as the servers use; a recording is read as fast as the
machine can, and its times are seconds from its beginning.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from framegrid_ingest.analysis import CameraAnalysis, Detections
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import FrameError
from framegrid_ingest.intake import SourceFrame
from framegrid_ingest.pictures import to_jpeg
from framegrid_ingest.recordings.camera import RecordingOptions, recording_camera
from framegrid_ingest.recordings.drawing import VideoWriter, draw, write_image
from framegrid_ingest.recordings.frames import SampledFrames, to_bgr
from framegrid_ingest.recordings.report import Report, write_report
from framegrid_serve.bundle import load_bundle
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.wire import FrameResult, FrameStatus
from framegrid_serve.workshop import resolve

from framegrid_local import machine
from framegrid_local.errors import LocalError, UsageError
from framegrid_local.state import StateDir

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
PROGRESS_S = 0.5


@dataclass(frozen=True, slots=True)
class AnalyzeRequest:
    """The command's arguments. `output`: text, json or csv."""

    source: str
    model: str
    fps: float
    lines: tuple[str, ...]
    zones: tuple[str, ...]
    min_score: float
    seconds: float
    output: str
    annotate: Path | None
    state_dir: Path


def run_analyze(request: AnalyzeRequest) -> int:
    """Prints the report; returns the exit status."""
    camera = camera_of(request)
    is_file = camera.source_kind == "file" and "://" not in request.source
    if is_file and not Path(request.source).is_file():
        raise UsageError(f"{request.source}: no such file; expected a video, an image, or a camera's address")
    bundle = load_bundle(resolve(request.model, StateDir(request.state_dir).models))
    with _Opened(bundle) as detector:
        if is_file and Path(request.source).suffix.lower() in IMAGE_SUFFIXES:
            report = _analyze_image(request, camera, detector)
        else:
            report = _analyze_video(request, camera, detector)
    write_report(report, request.output)
    return 0


def camera_of(request: AnalyzeRequest) -> CameraConfig:
    """The request as a camera of `cameras.yaml`. Raises RecordingError."""
    return recording_camera(
        request.source,
        RecordingOptions(request.model, request.fps, request.min_score, request.lines, request.zones),
        os.environ,
    )


class _Opened:
    """A detector that uses the whole machine, closed at the end."""

    def __init__(self, bundle: Any) -> None:
        self._detector = Detector(bundle, EngineSettings(threads=machine.usable_cpus()))

    def __enter__(self) -> Detector:
        return self._detector

    def __exit__(self, *_: object) -> None:
        self._detector.close()


def _analyze_image(request: AnalyzeRequest, camera: CameraConfig, detector: Detector) -> Report:
    import cv2

    pixels = cv2.imread(request.source, cv2.IMREAD_COLOR)
    if pixels is None:
        raise LocalError(f"{request.source}: expected an image, got something that cannot be decoded")
    analysis = CameraAnalysis(camera)
    result = detector.detect_images([pixels], request.min_score)[0]
    detections = detections_of(result, detector)
    frame = analysis.process(0.0, detections)
    report = Report(request.source, camera, _key_of(detector), is_image=True, is_tracked=False)
    report.add(0.0, frame, detections)
    if request.annotate is not None:
        write_image(request.annotate, draw(pixels, frame, camera, report.totals, detections))
    return report


def _analyze_video(request: AnalyzeRequest, camera: CameraConfig, detector: Detector) -> Report:
    analysis = CameraAnalysis(camera)
    report = Report(request.source, camera, _key_of(detector), is_image=False, is_tracked=analysis.tracked)
    frames = SampledFrames(camera, is_recording=camera.source_kind == "file")
    writer = VideoWriter(request.annotate, camera.fps) if request.annotate else None
    progress = _Progress()
    first_s: float | None = None
    try:
        for frame, result in _detected(frames, detector, analysis.wanted_min_score):
            first_s = frame.captured_at_s if first_s is None else first_s
            at_s = frame.captured_at_s - (0.0 if camera.source_kind == "file" else first_s)
            if request.seconds and at_s >= request.seconds:
                break
            if result is None or result.status is not FrameStatus.OK:
                report.damaged += 1
                continue
            detections = detections_of(result, detector)
            analysed = analysis.process(at_s, detections)
            report.add(at_s, analysed, detections)
            if writer is not None:
                writer.write(draw(to_bgr(frame.picture), analysed, camera, report.totals, None))
            progress.show(report)
    except KeyboardInterrupt:
        progress.end()
        print("framegrid: stopped; this is what was seen until then", file=sys.stderr)
    finally:
        progress.end()
        if writer is not None:
            writer.close()
    report.end(analysis.close(report.last_s), frames.facts, sum(frames.missed.values()))
    if not report.frames:
        raise LocalError(f"{camera.url}: no frame could be analysed ({report.damaged} damaged)")
    return report


def _detected(
    frames: SampledFrames, detector: Detector, min_score: float
) -> Iterator[tuple[SourceFrame, FrameResult | None]]:
    """Frames with their detections, in order; as many at a time as the engine has streams."""
    input_size = detector.bundle.manifest.input_size

    def detect(frame: SourceFrame) -> FrameResult | None:
        try:
            jpeg = to_jpeg(frame.picture, input_size, frames.camera.jpeg_quality).data
        except FrameError:
            return None
        return detector.detect([jpeg], min_score)[0]

    waiting: deque[tuple[SourceFrame, Future[FrameResult | None]]] = deque()
    with ThreadPoolExecutor(detector.streams, thread_name_prefix="detect") as pool:
        for frame in frames:
            waiting.append((frame, pool.submit(detect, frame)))
            while len(waiting) > 2 * detector.streams or (waiting and waiting[0][1].done()):
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()


def detections_of(result: FrameResult, detector: Detector) -> Detections:
    """Serve's answer in the words of the model's classes."""
    classes = detector.bundle.classes
    names = tuple(classes[int(number)] for number in result.class_ids)
    return Detections(np.asarray(result.boxes_xyxy), np.asarray(result.scores), names)


def _key_of(detector: Detector) -> str:
    return f"{detector.bundle.name}@{detector.bundle.version}"


class _Progress:
    """One line on a terminal's standard error."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._started = time.monotonic()
        self._next = 0.0

    def show(self, report: Report) -> None:
        now = time.monotonic()
        if not self._on or now < self._next:
            return
        self._next = now + PROGRESS_S
        speed = report.last_s / max(1e-3, now - self._started)
        sys.stderr.write(
            f"\r{report.frames} frames, {report.last_s:.1f} s of video, {speed:.1f} x real time "
        )
        sys.stderr.flush()

    def end(self) -> None:
        if self._on and self._next:
            sys.stderr.write("\r\x1b[K")
