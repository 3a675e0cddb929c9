"""RTSP, HLS and files, read by PyAV (FFmpeg) on one thread per camera.

Slowly sampled cameras decode keyframes only, and of these only the ones that are wanted. Sizes are checked
before the first frame is decoded. FFmpeg gets one thread: a hundred cameras are a hundred threads, not a
thousand.
"""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import FrameError, SourceError, SourceFault
from framegrid_ingest.intake import Intake, StreamFacts
from framegrid_ingest.pictures import MAX_PIXELS, VideoPicture, check_pixels
from framegrid_ingest.sources.diagnosis import why_not_http, why_not_rtsp
from framegrid_ingest.sources.faults import av_error, not_video, stalled, too_large
from framegrid_ingest.sources.keyframes import KeyframePolicy
from framegrid_ingest.sources.media_clock import ArrivalClock, PacedClock
from framegrid_ingest.sources.reader import OPEN_TIMEOUT_S, ThreadedReader

# A live stream that is joined in the middle of a group gives a few broken frames; this many is none at all.
MAX_BROKEN_PACKETS = 300
# Native pace: a frame later than this shifts the ones after it (the machine was busy, the network slow).
LATE_S = 1.0

# A file that ends before this share of what its header says has been cut.
MIN_READ_SHARE = 0.9

_VAGUE = frozenset({SourceFault.NOT_VIDEO, SourceFault.OTHER, SourceFault.UNREACHABLE, SourceFault.TRUNCATED})


class VideoReader(ThreadedReader):
    """What RTSP, HLS and files have in common."""

    kind = "video"

    def __init__(self, camera: CameraConfig) -> None:
        super().__init__(camera.url)
        self._camera = camera
        self._policy = KeyframePolicy(camera.decode, 1.0 / camera.fps)
        self._broken = 0

    @abstractmethod
    def release(self, intake: Intake, frame: Any, media_s: float, stop: threading.Event) -> None:
        """Show a decoded frame to the intake at its time."""

    def options(self) -> dict[str, str]:
        """FFmpeg's options for opening."""
        return {}

    def run(self, intake: Intake, stop: threading.Event) -> None:
        with self._open() as container:
            self._read_container(container, intake, stop)

    def _open(self) -> Any:
        url = self.url.reveal()
        try:
            container = av.open(url, options=self.options(), timeout=(OPEN_TIMEOUT_S, self._camera.stall_s))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise av_error(error, self.url, was_open=False) from None
        if not container.streams.video:
            container.close()
            raise not_video(self.url, "a file or stream without a video track")
        return container

    def _read_container(self, container: Any, intake: Intake, stop: threading.Event) -> float:
        """Read to the end. Returns the stream time (s) at which the next frame would have come."""
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"
        codec = stream.codec_context
        codec.thread_count = 1
        self._check_size(codec.width, codec.height)
        codec.options = {**codec.options, "max_pixels": str(MAX_PIXELS)}
        rate = float(stream.average_rate or 0)
        gap_s = _indexed_keyframe_gap_s(stream)
        if gap_s is not None:
            self._policy.known(gap_s)
        self._tell(intake, stream, codec.width, codec.height, rate)
        end_s = 0.0
        frame_s = 1.0 / rate if rate else 0.0
        for packet in self._packets(container, stream):
            if stop.is_set():
                break
            media_s = _time_of(packet, end_s)
            if not self._is_wanted(packet, intake, media_s):
                if packet.size:
                    end_s = max(end_s, media_s + frame_s)
                continue
            for frame in self._decode(packet, codec, intake):
                at_s = float(frame.pts * stream.time_base) if frame.pts is not None else media_s
                end_s = max(end_s, at_s + frame_s)
                self._tell(intake, stream, frame.width, frame.height, rate)
                self.release(intake, frame, at_s, stop)
                if stop.is_set():
                    break
        return end_s

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        try:
            yield from container.demux(stream)
        except (av.error.ExitError, av.error.TimeoutError):
            raise stalled(self.url, self._camera.stall_s) from None
        except (av.error.FFmpegError, OSError) as error:
            raise av_error(error, self.url, was_open=True) from None

    def _is_wanted(self, packet: Any, intake: Intake, media_s: float) -> bool:
        if not packet.size:  # the last one, which asks the decoder for what it still holds
            return not self._policy.keyframes_only
        if not self._policy.wants(bool(packet.is_keyframe), media_s):
            return False
        return not self._policy.keyframes_only or self.may_want(intake, media_s)

    def _decode(self, packet: Any, codec: Any, intake: Intake) -> list[Any]:
        try:
            frames = list(codec.decode(packet))
            if self._policy.keyframes_only:
                # A decoder holds frames back for reordering; the next keyframe would be seconds away.
                frames += codec.decode(None)
                codec.flush_buffers()
        except (av.error.FFmpegError, ValueError) as error:
            self._note_broken(error, intake)
            return []
        if frames:
            self._broken = 0
        return frames

    def may_want(self, intake: Intake, media_s: float) -> bool:
        """Whether a keyframe at this stream time is worth decoding."""
        return True

    def _note_broken(self, error: Exception, intake: Intake) -> None:
        if self._broken == 0:
            intake.corrupt()
        self._broken += 1
        if self._broken >= MAX_BROKEN_PACKETS:
            raise av_error(error, self.url, was_open=True) from None

    def _check_size(self, width: int, height: int) -> None:
        if not width and not height:
            return  # known with the first frame
        try:
            check_pixels(width, height)
        except FrameError as error:
            raise too_large(self.url, error) from None

    def _tell(self, intake: Intake, stream: Any, width: int, height: int, rate: float) -> None:
        if width and height:
            intake.opened(StreamFacts(self.kind, stream.codec_context.name, width, height, round(rate, 3)))


class RtspReader(VideoReader):
    """RTSP over TCP (UDP loses packets, and lost packets are smeared pictures)."""

    kind = "rtsp"

    def __init__(self, camera: CameraConfig) -> None:
        super().__init__(camera)
        self._clock = ArrivalClock()

    def options(self) -> dict[str, str]:
        options = {"rtsp_transport": "tcp", "fflags": "nobuffer", "timeout": str(int(OPEN_TIMEOUT_S * 1e6))}
        # FFmpeg would watch the stream for seconds to measure a rate that nobody here needs.
        options |= {"fpsprobesize": "0", "analyzeduration": "2000000"}
        return options | _tls_options(self._camera)

    async def read(self, intake: Intake) -> None:
        try:
            await super().read(intake)
        except SourceError as error:
            if error.fault in _VAGUE and intake.facts is None:
                raise await why_not_rtsp(self.url) or error from None
            raise

    def run(self, intake: Intake, stop: threading.Event) -> None:
        super().run(intake, stop)
        if not stop.is_set():
            raise SourceError(
                SourceFault.RESET, f"{self.url}: expected more pictures, got the end of the stream"
            )

    def release(self, intake: Intake, frame: Any, media_s: float, stop: threading.Event) -> None:
        intake.offer(VideoPicture(frame), self._clock.captured_at(media_s, time.time()))

    def may_want(self, intake: Intake, media_s: float) -> bool:
        return intake.may_want(time.time())


class HlsReader(VideoReader):
    """HLS: segments come in bursts and are released at their own pace."""

    kind = "hls"

    def __init__(self, camera: CameraConfig) -> None:
        super().__init__(camera)
        self._clock = PacedClock(LATE_S)

    def options(self) -> dict[str, str]:
        return _tls_options(self._camera)

    async def read(self, intake: Intake) -> None:
        try:
            await super().read(intake)
        except SourceError as error:
            if error.fault in _VAGUE and intake.facts is None:
                raise await why_not_http(self.url, self._camera.tls_verify) or error from None
            raise

    def release(self, intake: Intake, frame: Any, media_s: float, stop: threading.Event) -> None:
        due_s = self._clock.due_at(media_s, time.time())
        wait_s = due_s - time.time()
        if wait_s > 0 and stop.wait(wait_s):
            return
        intake.offer(VideoPicture(frame), due_s)


class RecordingReader(VideoReader):
    """A file (or a video behind an http address): once or looped, at its own pace or as fast as possible.

    At `pace: fast` capture times are `start_s` + the file's own time, nothing is dropped, and the thread
    waits for whoever takes the frames.
    """

    kind = "file"

    def __init__(self, camera: CameraConfig) -> None:
        super().__init__(camera)
        self._is_fast = camera.pace == "fast"
        self._clock = PacedClock(LATE_S)
        self._start_s = time.time() if camera.start_s is None else camera.start_s
        self._looped_s = 0.0
        self._began_s = 0.0

    def options(self) -> dict[str, str]:
        return _tls_options(self._camera) if "://" in self.url.reveal() else {}

    def run(self, intake: Intake, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._open() as container:
                first = container.streams.video[0]
                self._began_s = float((first.start_time or 0) * first.time_base)
                end_s = self._read_container(container, intake, stop) - self._began_s
                stated_s = float((first.duration or 0) * first.time_base)
            if end_s < MIN_READ_SHARE * stated_s and not stop.is_set():
                raise SourceError(
                    SourceFault.TRUNCATED,
                    f"{self.url}: expected {stated_s:.1f} s of video, got {end_s:.1f} s; copy the file again",
                )
            if not self._camera.loop:
                return
            if end_s <= 0.0:
                raise SourceError(
                    SourceFault.EMPTY, f"{self.url}: expected pictures, got none; check the file"
                )
            self._looped_s += end_s

    def _open(self) -> Any:
        path = self.url.reveal()
        if "://" not in path and Path(path).is_file() and Path(path).stat().st_size == 0:
            raise SourceError(
                SourceFault.EMPTY, f"{self.url}: expected a video, got 0 bytes; copy the file again"
            )
        return super()._open()

    def release(self, intake: Intake, frame: Any, media_s: float, stop: threading.Event) -> None:
        at_s = self._looped_s + media_s - self._began_s
        if self._is_fast:
            intake.offer(VideoPicture(frame), self._start_s + at_s)
            return
        due_s = self._clock.due_at(at_s, time.time())
        wait_s = due_s - time.time()
        if wait_s > 0 and stop.wait(wait_s):
            return
        intake.offer(VideoPicture(frame), due_s)

    def may_want(self, intake: Intake, media_s: float) -> bool:
        if not self._is_fast:
            return True
        return intake.may_want(self._start_s + self._looped_s + media_s - self._began_s)


def _tls_options(camera: CameraConfig) -> dict[str, str]:
    authorities = ssl.get_default_verify_paths().cafile
    if (
        not camera.url.reveal().startswith(("https://", "rtsps://"))
        or not camera.tls_verify
        or not authorities
    ):
        return {}
    return {"tls_verify": "1", "ca_file": authorities}


def _time_of(packet: Any, otherwise_s: float) -> float:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return float(stamp * packet.time_base) if stamp is not None and packet.time_base else otherwise_s


def _indexed_keyframe_gap_s(stream: Any) -> float | None:
    """The longest gap between keyframes by a file's index; None for live streams and files without one."""
    times = [entry.timestamp for entry in stream.index_entries if entry.is_keyframe]
    if len(times) < 2 or not stream.duration:
        return None
    gaps = [later - earlier for earlier, later in itertools.pairwise([*times, times[0] + stream.duration])]
    return float(max(gaps) * stream.time_base)
