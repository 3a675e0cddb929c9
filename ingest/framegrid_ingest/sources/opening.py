"""The reader for a camera's configuration."""

from __future__ import annotations

from collections.abc import Callable

from framegrid_ingest.config import CameraConfig
from framegrid_ingest.sources.http import HttpReader
from framegrid_ingest.sources.jpeg import JpegReader
from framegrid_ingest.sources.mjpeg import MjpegReader
from framegrid_ingest.sources.reader import Reader
from framegrid_ingest.sources.video import HlsReader, RecordingReader, RtspReader
from framegrid_ingest.sources.webcam import WebcamReader

_READERS: dict[str, Callable[[CameraConfig], Reader]] = {
    "rtsp": RtspReader,
    "hls": HlsReader,
    "file": RecordingReader,
    "mjpeg": MjpegReader,
    "jpeg": JpegReader,
    "http": HttpReader,
    "webcam": WebcamReader,
}


def reader_for(camera: CameraConfig) -> Reader:
    """A reader that is not yet reading. Raises nothing: what is wrong shows when it reads."""
    return _READERS[camera.source_kind](camera)
