"""`probe`: open a camera once and say what it is, or exactly why not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass

from framegrid_ingest.clock import Clock
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import FrameError, SourceError, SourceFault
from framegrid_ingest.intake import Intake, SourceFrame, StreamFacts
from framegrid_ingest.pictures import to_jpeg
from framegrid_ingest.sampler import Sampler
from framegrid_ingest.slot import Slot
from framegrid_ingest.sources.opening import reader_for
from framegrid_ingest.urls import CameraUrl

# Cameras send at up to 30 frames a second; two seconds tell the rate to 2 %.
MEASURE_S = 2.0
# Ticks for a probe: faster than any camera, so that every frame is one.
_PROBE_FPS = 120.0
_PROBE_SIZE = 640


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What was found. `ok` False: `fault` and `message` say why; the other fields are what came before."""

    url: str
    ok: bool
    kind: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    stated_fps: float = 0.0
    first_frame_s: float = 0.0
    frames: int = 0
    fault: str = ""
    message: str = ""


class _Watch:
    """Notes when frames come, from any thread, and keeps the first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first = asyncio.Event()
        self.facts: StreamFacts | None = None
        self.intake: Intake | None = None
        self.times_s: deque[float] = deque(maxlen=1000)
        self.frame: SourceFrame | None = None
        self._loop = loop
        self._lock = threading.Lock()

    def opened(self, facts: StreamFacts) -> None:
        self.facts = facts

    def wake(self) -> None:
        frame = self.intake.take() if self.intake else None
        if frame is None:
            return
        with self._lock:
            self.times_s.append(frame.arrived_monotonic_s)
            self.frame = self.frame or frame
        self._loop.call_soon_threadsafe(self.first.set)


async def probe(camera: CameraConfig, timeout_s: float = 15.0, measure_s: float = MEASURE_S) -> ProbeResult:
    """Open `camera`, wait for its first frame, decode it, and measure the rate. Never raises for a camera."""
    began_s = time.monotonic()
    watch = _Watch(asyncio.get_running_loop())
    clock = Clock()
    one_by_one = camera.model_copy(
        update={"fps": _PROBE_FPS, "decode": "all", "loop": False, "pace": "native", "start_s": None}
    )
    intake = Intake(Sampler(_PROBE_FPS, clock.unix_s()), Slot(), clock, watch.wake, watch.opened)
    watch.intake = intake
    reading = asyncio.create_task(reader_for(one_by_one).read(intake))
    first = asyncio.create_task(watch.first.wait())
    try:
        await asyncio.wait({reading, first}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not watch.first.is_set():
            return _failed(camera.url, reading, watch, timeout_s)
        await asyncio.wait({reading}, timeout=measure_s)
        return _succeeded(camera, watch, began_s)
    finally:
        first.cancel()
        reading.cancel()
        await asyncio.wait({reading, first}, timeout=2.0)


async def probe_url(url: str, timeout_s: float = 15.0) -> ProbeResult:
    """`probe` for an address alone."""
    camera = CameraConfig.model_validate({"name": "probe", "url": CameraUrl(url)})
    return await probe(camera, timeout_s)


def _failed(url: CameraUrl, reading: asyncio.Task[None], watch: _Watch, timeout_s: float) -> ProbeResult:
    error = reading.exception() if reading.done() else None
    facts = watch.facts or StreamFacts("", "", 0, 0)
    fault, message = SourceFault.STALLED, f"{url}: expected a picture within {timeout_s:g} s, got none"
    if isinstance(error, SourceError):
        fault, message = error.fault, str(error)
    elif error is not None:
        raise error
    elif reading.done():
        fault, message = SourceFault.EMPTY, f"{url}: expected pictures, got the end before the first one"
    return ProbeResult(
        str(url),
        False,
        facts.kind,
        facts.codec,
        facts.width,
        facts.height,
        fault=fault.value,
        message=message,
    )


def _succeeded(camera: CameraConfig, watch: _Watch, began_s: float) -> ProbeResult:
    times_s, frame = list(watch.times_s), watch.frame
    facts = watch.facts or StreamFacts("", "", 0, 0)
    spanned_s = times_s[-1] - times_s[0]
    fault, message, width, height = "", "", facts.width, facts.height
    try:
        if frame is not None:
            sized = to_jpeg(frame.picture, _PROBE_SIZE)
            width, height = sized.source_width, sized.source_height
    except FrameError as error:
        fault, message = SourceFault.NOT_VIDEO.value, f"{camera.url}: {error}"
    return ProbeResult(
        str(camera.url),
        not fault,
        facts.kind,
        facts.codec,
        width,
        height,
        fps=(len(times_s) - 1) / spanned_s if spanned_s > 0 else 0.0,
        stated_fps=facts.fps,
        first_frame_s=times_s[0] - began_s,
        frames=len(times_s),
        fault=fault,
        message=message,
    )
