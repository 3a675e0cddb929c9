"""A feed: one served camera. Which frame it shows is a function of the time alone.

Frame k is shown from epoch_s + k / fps until the next; its picture is frame k mod N of the clip. So the
truth of any window is arithmetic, whoever watched and whenever they came. Frame numbers are loop-aware, as
in `truth`. Many feeds may share one clip; their phases keep them from showing the same thing at the same
time.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from framegrid_sim.clip import Clip
from framegrid_sim.faults import Fault, FaultKind, FaultLog
from framegrid_sim.pictures import black_jpeg, boastful_jpeg, halved_jpeg, truncated_jpeg

BOUNDARY = b"framegrid"
NEXT_PART = b"\r\n--" + BOUNDARY + b"\r\n"
FIRST_PART = b"--" + BOUNDARY + b"\r\n"
_PART_HEADER = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\nX-Timestamp: %.6f\r\nX-Frame: %d\r\n\r\n"
SLOW_FACTOR = 10  # the fault `slow`
# Unix seconds as a double have steps of 0.24 us: the start of a frame must not fall into the one before.
ROUNDING_FRAMES = 1e-4
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class CameraSpec:
    """A camera to serve. `auth` is "user:password" for HTTP basic and RTSP authentication, None for none."""

    name: str  # a-z, 0-9 and hyphens; part of the URL
    clip: Clip
    phase_frames: int = 0  # how far into the clip the camera is when the server's epoch begins
    auth: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"expected a camera name of a-z, 0-9 and inner hyphens, got {self.name[:80]!r}")
        if self.auth is not None and (":" not in self.auth or self.auth.startswith(":")):
            raise ValueError(f"expected auth of camera {self.name} as user:password, got another form")


class Feed:
    """A camera's clock, pictures and faults. Not thread-safe: it lives on the server's event loop."""

    def __init__(self, spec: CameraSpec, epoch_s: float) -> None:
        """`epoch_s`: unix time at which frame `spec.phase_frames` begins."""
        self.spec = spec
        self.name = spec.name
        self.clip = spec.clip
        self.fps = spec.clip.fps
        self.epoch_s = epoch_s - spec.phase_frames / self.fps
        self.faults = FaultLog()
        self._jpegs = spec.clip.jpegs
        self._frame_count = spec.clip.frame_count
        self._halved: dict[int, bytes] = {}
        self._black = b""
        self._broken: dict[FaultKind, Callable[[int, bytes], bytes]] = {
            FaultKind.BLACK: self._black_picture,
            FaultKind.RESIZE: self._half_picture,
            FaultKind.TRUNCATED: lambda frame, jpeg: truncated_jpeg(jpeg),
            FaultKind.HUGE: lambda frame, jpeg: boastful_jpeg(jpeg),
            FaultKind.GARBAGE: lambda frame, jpeg: self._noise(frame),
        }

    def frame_at(self, now_s: float) -> int:
        """Number of the frame shown at a unix time."""
        return math.floor((now_s - self.epoch_s) * self.fps + ROUNDING_FRAMES)

    def frame_position(self, time_s: float) -> float:
        """The same between the frames: what truth's windows are made of."""
        return (time_s - self.epoch_s) * self.fps

    def time_of(self, frame: float) -> float:
        """Unix time at which a frame (or a crossing between two) happens."""
        return self.epoch_s + frame / self.fps

    def part(self, frame: int, fault: Fault | None) -> bytes | None:
        """What goes down a stream for a frame, next boundary included; None when nothing does."""
        if fault is None:
            jpeg = self._jpegs[frame % self._frame_count]
        elif fault.kind is FaultKind.GARBAGE:
            return self._noise(frame)
        else:
            if fault.kind is FaultKind.SLOW and frame % SLOW_FACTOR:
                return None
            broken = self.picture(frame, fault)
            if broken is None:
                return None
            jpeg = broken
        header = _PART_HEADER % (len(jpeg), self.epoch_s + frame / self.fps, frame)
        return b"".join((header, jpeg, NEXT_PART))

    def picture(self, frame: int, fault: Fault | None) -> bytes | None:
        """The picture the camera gives for a frame under a fault; None when it gives none."""
        kind = None if fault is None else fault.kind
        if fault is not None and kind is FaultKind.FREEZE:
            frame = self.frame_at(fault.from_s)
        elif kind is FaultKind.SLOW:
            frame -= frame % SLOW_FACTOR
        jpeg = self._jpegs[frame % self._frame_count]
        if kind is None or kind in (FaultKind.FREEZE, FaultKind.SLOW):
            return jpeg
        make = self._broken.get(kind)
        return None if make is None else make(frame, jpeg)

    def _black_picture(self, frame: int, jpeg: bytes) -> bytes:
        if not self._black:
            self._black = black_jpeg(self.clip.settings.width, self.clip.settings.height)
        return self._black

    def _half_picture(self, frame: int, jpeg: bytes) -> bytes:
        at = frame % self._frame_count
        if at not in self._halved:
            self._halved[at] = halved_jpeg(jpeg)
        return self._halved[at]

    def _noise(self, frame: int) -> bytes:
        """Random bytes as long as the frame's picture, the same ones for the same frame."""
        return random.Random(frame).randbytes(len(self._jpegs[frame % self._frame_count]))
