"""A camera that gives one JPEG per request: asked at its sampling ticks, and only then."""

from __future__ import annotations

import asyncio
import time

from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import FrameError, SourceError, SourceFault
from framegrid_ingest.intake import Intake, StreamFacts
from framegrid_ingest.jpeg_stream import MAX_PART_BYTES
from framegrid_ingest.pictures import Jpeg, check_pixels, jpeg_size
from framegrid_ingest.sources.faults import describe_bytes, not_video, too_large
from framegrid_ingest.sources.http import HttpCamera
from framegrid_ingest.sources.mjpeg import timestamp_of

# A camera is not asked again sooner than this, whatever its ticks say.
MIN_PAUSE_S = 0.005
MAX_BAD_PICTURES = 5


class JpegReader:
    """One polled camera."""

    def __init__(self, camera: CameraConfig) -> None:
        self._camera = camera
        self._source = HttpCamera(camera.url, camera.tls_verify)

    async def read(self, intake: Intake) -> None:
        """Poll until the camera fails."""
        bad = 0
        try:
            while True:
                try:
                    await self._poll(intake)
                    bad = 0
                except FrameError as error:
                    intake.corrupt()
                    bad += 1
                    if bad >= MAX_BAD_PICTURES:
                        raise SourceError(SourceFault.TRUNCATED, f"{self._camera.url}: {error}") from None
                wait_s = intake.next_tick.time_s - time.time()
                await asyncio.sleep(max(MIN_PAUSE_S, wait_s))
        finally:
            self._source.close()

    async def _poll(self, intake: Intake) -> None:
        head, data = await self._source.get_body(MAX_PART_BYTES)
        if not data:
            raise SourceError(
                SourceFault.EMPTY, f"{self._camera.url}: expected a JPEG, got an empty answer; check the path"
            )
        if not data.startswith(b"\xff\xd8"):
            got = f"{head.content_type or 'no content type'} that starts with {describe_bytes(data)}"
            raise not_video(self._camera.url, got)
        width, height = jpeg_size(data)
        try:
            check_pixels(width, height)
        except FrameError as error:
            raise too_large(self._camera.url, error) from None
        intake.opened(StreamFacts("jpeg", "mjpeg", width, height))
        intake.offer(Jpeg(data), timestamp_of(head.headers))
