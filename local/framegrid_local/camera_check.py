"""`framegrid camera check`: opens one camera and says what it sends, or exactly why not."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from framegrid_ingest.config import CameraConfig, parse_cameras
from framegrid_ingest.errors import ConfigError, IngestError, SourceError
from framegrid_ingest.pictures import to_jpeg
from framegrid_ingest.recordings.frames import SampledFrames

from framegrid_local.errors import UsageError

EXIT_FAILURE = 1
MEASURE_S = 2.0  # of watching after the first frame, to tell the real frame rate
# Every frame of any camera claims a tick of its own; a polled JPEG camera is asked this often.
WATCH_FPS = 60.0
POLL_FPS = 5.0
CHECK_SIZE = 640  # the picture is scaled to this once, which proves that it can be decoded


@dataclass(frozen=True, slots=True)
class CameraFinding:
    """What one look at a camera found. Times in seconds from the start of the check."""

    url: str
    ok: bool
    message: str
    fault: str = ""
    kind: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    stated_fps: float = 0.0
    measured_fps: float = 0.0
    first_frame_s: float = 0.0


def run_check(url: str, timeout_s: float, *, as_json: bool) -> int:
    """Prints the finding; exit status 1 when no frame came."""
    finding = check(camera_of(url), timeout_s)
    if as_json:
        print(json.dumps(asdict(finding), indent=2))
    else:
        print(finding.message, file=sys.stdout if finding.ok else sys.stderr)
    return 0 if finding.ok else EXIT_FAILURE


def camera_of(url: str) -> CameraConfig:
    """The address as a camera of `cameras.yaml`. Raises UsageError."""
    entry = {"name": "check", "url": url, "loop": False, "decode": "all", "fps": WATCH_FPS}
    try:
        (camera,) = parse_cameras(yaml.safe_dump({"cameras": [entry]}), "url", os.environ, Path.cwd())
    except ConfigError as error:
        raise UsageError("; ".join(problem.message for problem in error.problems)) from None
    if camera.source_kind == "jpeg":
        return camera.model_copy(update={"fps": POLL_FPS})
    return camera


def check(camera: CameraConfig, timeout_s: float) -> CameraFinding:
    """Opens the camera, waits for a picture, measures its rate. Never raises for what a camera does."""
    frames = SampledFrames(camera, is_recording=False)
    too_late = threading.Timer(timeout_s, frames.stop)
    too_late.start()
    started = time.monotonic()
    first_frame_s = measured_s = 0.0
    seen = 0
    try:
        for frame in frames:
            now_s = time.monotonic() - started
            if not seen:
                too_late.cancel()
                first_frame_s = now_s
                to_jpeg(frame.picture, CHECK_SIZE)
            seen += 1
            measured_s = now_s - first_frame_s
            if measured_s >= MEASURE_S:
                break
    except IngestError as error:
        if not seen:
            fault = error.fault.value if isinstance(error, SourceError) else "corrupt"
            return CameraFinding(str(camera.url), False, str(error), fault)
    finally:
        too_late.cancel()
    if not seen or frames.facts is None:
        message = f"{camera.url}: no picture in {timeout_s:g} s; the camera answers but sends none"
        return CameraFinding(str(camera.url), False, message, "stalled")
    measured_fps = (seen - 1) / measured_s if seen > 1 and measured_s > 0 else 0.0
    facts = frames.facts
    rate = f", {measured_fps:.1f} frames/s seen" if measured_fps else ", one picture seen"
    message = f"{camera.url}: {facts}{rate}, first picture after {first_frame_s:.2f} s"
    return CameraFinding(
        str(camera.url),
        True,
        message,
        kind=facts.kind,
        codec=facts.codec,
        width=facts.width,
        height=facts.height,
        stated_fps=facts.fps,
        measured_fps=round(measured_fps, 2),
        first_frame_s=round(first_frame_s, 3),
    )
