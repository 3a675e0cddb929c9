"""Pictures on their way to serve: checked, scaled so that the longer side fits the model, as JPEG.

Three kinds come in: JPEG bytes (passed through untouched when they fit), decoded video frames (YUV planes are
scaled and encoded as they are: no detour through RGB), and BGR arrays. Sizes are checked before anything is
decoded. Raises FrameError for what cannot be used. CPU-bound; the libraries release the GIL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from framegrid_ingest.errors import FrameError

Pixels = npt.NDArray[np.uint8]

# 8K is 33 megapixels. 16384 x 16384 would take 800 MB to decode.
MAX_PIXELS = 50_000_000
# A picture that fits the model's size but has more bytes is encoded again (640 px at q90: 90 kB).
MAX_PASSED_BYTES = 400_000

# One thread per call: the callers are a pool of their own.
cv2.setNumThreads(1)

# Video is "limited range" (luma 16..235, chroma 16..240), JPEG is full range.
_LEVELS = np.arange(256, dtype=np.float64)
_LUMA_TO_FULL = np.clip((_LEVELS - 16) * 255 / 219 + 0.5, 0, 255).astype(np.uint8)
_CHROMA_TO_FULL = np.clip((_LEVELS - 128) * 255 / 224 + 128.5, 0, 255).astype(np.uint8)
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A camera's own JPEG."""

    data: bytes


@dataclass(frozen=True, slots=True)
class VideoPicture:
    """A decoded frame of PyAV, kept as it is until it is needed."""

    frame: Any  # av.VideoFrame


@dataclass(frozen=True, slots=True)
class BgrPicture:
    """An OpenCV picture."""

    pixels: Pixels  # (H, W, 3) uint8 BGR


Picture = Jpeg | VideoPicture | BgrPicture


@dataclass(frozen=True, slots=True)
class SizedJpeg:
    """What goes on the wire, and the size of the camera's full picture."""

    data: bytes
    source_width: int
    source_height: int


def to_jpeg(picture: Picture, input_size: int, quality: int = 90) -> SizedJpeg:
    """`picture` as a JPEG whose longer side is at most `input_size`; never enlarged, aspect kept."""
    if isinstance(picture, Jpeg):
        return _from_jpeg(picture.data, input_size, quality)
    if isinstance(picture, VideoPicture):
        return _from_video(picture.frame, input_size, quality)
    height, width = picture.pixels.shape[:2]
    check_pixels(width, height)
    return SizedJpeg(_encode_bgr(picture.pixels, input_size, quality), width, height)


def fits_as_it_is(jpeg: Jpeg, input_size: int) -> bool:
    """Whether `to_jpeg` will only look at the header. Raises nothing; what is no JPEG is quick, too."""
    try:
        width, height = jpeg_size(jpeg.data)
    except FrameError:
        return True
    return max(width, height) <= input_size and len(jpeg.data) <= MAX_PASSED_BYTES


def fitted(width: int, height: int, input_size: int) -> tuple[int, int]:
    """Width and height scaled so that the longer side is at most `input_size`, at least 1 each."""
    scale = min(1.0, input_size / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def check_pixels(width: int, height: int) -> None:
    """Raise FrameError for a picture with more than MAX_PIXELS, or none."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise FrameError(
            f"expected a picture of 1 to {MAX_PIXELS // 1_000_000} megapixels, got {width} x {height}; "
            f"choose a smaller resolution in the camera"
        )


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height from a JPEG's header. Raises FrameError for what is no complete JPEG."""
    if not data.startswith(b"\xff\xd8"):
        raise FrameError(f"expected a JPEG, got {len(data)} bytes that do not start like one")
    if data.rstrip(b"\0")[-2:] != b"\xff\xd9":  # some cameras pad with zeros
        raise FrameError(f"expected a whole JPEG, got {len(data)} bytes without its end: truncated")
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError as error:
        raise FrameError(f"expected a JPEG that can be read, got a broken header ({error})") from error
    return width, height


def _from_jpeg(data: bytes, input_size: int, quality: int) -> SizedJpeg:
    width, height = jpeg_size(data)
    check_pixels(width, height)
    if max(width, height) <= input_size and len(data) <= MAX_PASSED_BYTES:
        return SizedJpeg(data, width, height)
    target_width, target_height = fitted(width, height, input_size)
    try:  # the decoder leaves out what a halved, quartered, … picture does not need
        pixels = simplejpeg.decode_jpeg(
            data, "BGR", min_height=target_height, min_width=target_width, min_factor=1
        )
    except ValueError as error:
        raise FrameError(f"expected a JPEG that can be decoded, got a corrupt one ({error})") from error
    return SizedJpeg(_encode_bgr(pixels, input_size, quality), width, height)


def _from_video(frame: Any, input_size: int, quality: int) -> SizedJpeg:
    width, height = frame.width, frame.height
    check_pixels(width, height)
    is_full_range = frame.format.name == "yuvj420p" or frame.color_range == _FULL_RANGE
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        is_full_range = frame.format.name.startswith("yuvj") or is_full_range
        frame = frame.reformat(format="yuvj420p" if is_full_range else "yuv420p")
    target_width, target_height = fitted(width, height, input_size)
    sizes = ((target_width, target_height), *(((target_width + 1) // 2, (target_height + 1) // 2),) * 2)
    tables = (_LUMA_TO_FULL, _CHROMA_TO_FULL, _CHROMA_TO_FULL)
    planes = []
    for plane, size, table in zip(frame.planes, sizes, tables, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        scaled = _resized(rows, size)
        planes.append(np.ascontiguousarray(scaled) if is_full_range else cv2.LUT(scaled, table))
    return SizedJpeg(simplejpeg.encode_jpeg_yuv_planes(*planes, quality=quality), width, height)


def _encode_bgr(pixels: Pixels, input_size: int, quality: int) -> bytes:
    height, width = pixels.shape[:2]
    scaled = np.ascontiguousarray(_resized(pixels, fitted(width, height, input_size)))
    encoded: bytes = simplejpeg.encode_jpeg(scaled, quality, "BGR", "420")
    return encoded


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Scaled to (width, height): area from a halving on, else linear, which is half as dear and as good."""
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    interpolation = cv2.INTER_AREA if width >= 2 * size[0] else cv2.INTER_LINEAR
    resized: Pixels = cv2.resize(pixels, size, interpolation=interpolation)
    return resized
