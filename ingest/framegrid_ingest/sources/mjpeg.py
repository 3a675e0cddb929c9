"""MJPEG over HTTP: multipart/x-mixed-replace, or JPEGs one after the other.

Only JPEGs that claim a tick are ever looked at; none is decoded here. A part's `X-Timestamp` header (unix
seconds) is the time of capture when it is there and believable, else the time of arrival.
"""

from __future__ import annotations

import asyncio
import math

from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import FrameError, SourceError, SourceFault
from framegrid_ingest.http1 import HttpError
from framegrid_ingest.intake import Intake, StreamFacts
from framegrid_ingest.jpeg_stream import JpegSplitter, MultipartSplitter, Part, boundary_of
from framegrid_ingest.pictures import Jpeg, check_pixels, jpeg_size
from framegrid_ingest.sources.faults import describe_bytes, network_error, not_video, stalled, too_large
from framegrid_ingest.sources.http import HttpCamera, Opened

# So many parts that are no JPEG in a row mean that the stream is none.
MAX_BAD_PARTS = 25


class MjpegReader:
    """One MJPEG stream."""

    def __init__(self, camera: CameraConfig, source: HttpCamera | None = None) -> None:
        self._camera = camera
        self._source = source or HttpCamera(camera.url, camera.tls_verify)
        self.pictures = 0
        self._bad_parts = 0
        self._is_stalled = False

    async def read(self, intake: Intake) -> None:
        """Open the stream and read it until it breaks."""
        try:
            await self.read_opened(intake, await self._source.get())
        finally:
            self._source.close()

    async def read_opened(self, intake: Intake, opened: Opened) -> None:
        """Read a stream that is already open."""
        content_type = opened.head.headers.get("content-type", "")
        boundary = boundary_of(content_type) if content_type.lower().startswith("multipart/") else b""
        splitter = MultipartSplitter(boundary) if boundary else JpegSplitter()
        watch = asyncio.create_task(self._watch(intake, opened))
        first = b""
        try:
            async for data in opened.connection.chunks():
                first = first or data[:64]
                for part in splitter.feed(data):
                    self._show(intake, part)
        except FrameError as error:
            raise not_video(self._camera.url, f"a stream without pictures ({error})") from None
        except (OSError, asyncio.IncompleteReadError, HttpError) as error:
            if self._is_stalled:
                raise stalled(self._camera.url, self._camera.stall_s) from None
            raise network_error(error, self._camera.url, "more pictures") from None
        finally:
            watch.cancel()
        if self._is_stalled:
            raise stalled(self._camera.url, self._camera.stall_s)
        raise self._ended(first)

    def _show(self, intake: Intake, part: Part) -> None:
        """Offer a part. Its size is looked at when it is wanted, so others cost a copy of their bytes."""
        captured_at_s = timestamp_of(part.headers)
        if not part.data.startswith(b"\xff\xd8"):
            self._bad_parts += 1
            if self._bad_parts >= MAX_BAD_PARTS:
                raise not_video(self._camera.url, f"parts that start with {describe_bytes(part.data)}")
            intake.corrupt(captured_at_s)
            return
        self.pictures += 1
        self._bad_parts = 0
        if intake.offer(Jpeg(part.data), captured_at_s):
            self._tell_size(intake, part.data)

    def _tell_size(self, intake: Intake, data: bytes) -> None:
        try:
            width, height = jpeg_size(data)
        except FrameError:
            return  # counted where it is prepared for serve
        try:
            check_pixels(width, height)
        except FrameError as error:
            raise too_large(self._camera.url, error) from None
        intake.opened(StreamFacts("mjpeg", "mjpeg", width, height))

    async def _watch(self, intake: Intake, opened: Opened) -> None:
        """Abort the connection when no picture has come for `stall_s`."""
        seen = intake.frames_in
        while True:
            await asyncio.sleep(self._camera.stall_s)
            if intake.frames_in == seen:
                self._is_stalled = True
                opened.connection.close()
                return
            seen = intake.frames_in

    def _ended(self, first: bytes) -> SourceError:
        url = self._camera.url
        if self.pictures:
            return SourceError(SourceFault.RESET, f"{url}: expected more pictures, got the end of the stream")
        if not first:
            return SourceError(
                SourceFault.EMPTY, f"{url}: expected pictures, got an empty answer; check the path"
            )
        if first.startswith(b"\xff\xd8") or first.lstrip().startswith(b"--"):
            return SourceError(
                SourceFault.TRUNCATED, f"{url}: expected a whole picture, got the end in the middle"
            )
        return not_video(url, f"an answer that starts with {describe_bytes(first)}")


def timestamp_of(headers: dict[str, str]) -> float | None:
    """Unix seconds of a part's X-Timestamp, or None."""
    text = headers.get("x-timestamp", "")
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
