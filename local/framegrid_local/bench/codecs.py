"""Ways to put a picture on the wire: bytes out of BGR pixels, and pixels out of bytes."""

from __future__ import annotations

import fractions
from dataclasses import dataclass
from typing import Any, Protocol

import av
import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from framegrid_ingest.pictures import fitted

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) BGR


class Codec(Protocol):
    """See the module. `name` is what tables show."""

    @property
    def name(self) -> str:
        """For the table."""
        ...

    def encode(self, picture: Pixels) -> bytes:
        """What goes over the wire."""
        ...

    def decode(self, data: bytes) -> Pixels:
        """What serve sees; the size of the picture that was encoded, or one pixel more."""
        ...


@dataclass(frozen=True, slots=True)
class Jpeg:
    """libjpeg-turbo, as ingest and serve call it. `subsampling` of the colours: 420, 422, 444."""

    quality: int
    subsampling: str = "420"

    @property
    def name(self) -> str:
        """See Codec."""
        return f"JPEG {self.quality} {':'.join(self.subsampling)}"

    def encode(self, picture: Pixels) -> bytes:
        """See Codec."""
        encoded: bytes = simplejpeg.encode_jpeg(picture, self.quality, "BGR", self.subsampling)
        return encoded

    def decode(self, data: bytes) -> Pixels:
        """See Codec."""
        decoded: Pixels = simplejpeg.decode_jpeg(data, "BGR", fastdct=False)
        return decoded


@dataclass(frozen=True, slots=True)
class WebP:
    """libwebp by OpenCV."""

    quality: int

    @property
    def name(self) -> str:
        """See Codec."""
        return f"WebP {self.quality}"

    def encode(self, picture: Pixels) -> bytes:
        """See Codec."""
        _, encoded = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, self.quality])
        return encoded.tobytes()

    def decode(self, data: bytes) -> Pixels:
        """See Codec."""
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return np.asarray(decoded, np.uint8)


@dataclass(frozen=True, slots=True)
class H264Keyframe:
    """One keyframe by x264, with its headers, so that it can be read without any other."""

    crf: int

    @property
    def name(self) -> str:
        """See Codec."""
        return f"H.264 keyframe crf {self.crf}"

    def encode(self, picture: Pixels) -> bytes:
        """See Codec. Odd sides get a line more: 4:2:0 knows no odd sides."""
        height, width = picture.shape[:2]
        even = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        context: Any = av.CodecContext.create("libx264", "w")
        context.width, context.height = even.shape[1], even.shape[0]
        context.pix_fmt, context.time_base = "yuv420p", fractions.Fraction(1, 25)
        context.thread_count = 1
        context.options = {"crf": str(self.crf), "preset": "veryfast", "tune": "zerolatency", "g": "1"}
        frame = av.VideoFrame.from_ndarray(np.asarray(even, np.uint8), format="bgr24")
        return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])

    def decode(self, data: bytes) -> Pixels:
        """See Codec."""
        context: Any = av.CodecContext.create("h264", "r")
        context.thread_count = 1
        packets = [*context.parse(data), *context.parse(None)]
        frames = [frame for packet in packets for frame in context.decode(packet)] + context.decode(None)
        return np.asarray(frames[0].to_ndarray(format="bgr24"), np.uint8)


def scaled(picture: Pixels, input_size: int) -> Pixels:
    """The picture at the size to which ingest scales it; never enlarged."""
    height, width = picture.shape[:2]
    size = fitted(width, height, input_size)
    if size == (width, height):
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


CODECS: tuple[Codec, ...] = (
    *(Jpeg(quality) for quality in (60, 70, 80, 85, 90, 95)),
    *(Jpeg(quality, "444") for quality in (80, 90, 95)),
    Jpeg(90, "422"),
    *(WebP(quality) for quality in (80, 90)),
    *(H264Keyframe(crf) for crf in (18, 23, 28)),
)
