"""A person's picture: any usual format, checked by its header before it is decoded, turned upright.

An upright JPEG goes to the detector as it came. Everything else (PNG, WebP, BMP, GIF, CMYK, 16 bits,
alpha, turned by EXIF) is decoded here, scaled to the network's size, and becomes a JPEG of little loss, so
that there is one way from here on. Raises RefusedError: 413 too large, 415 no picture of these formats, 422
damaged.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError, WebPImagePlugin

from framegrid_serve.people.refusal import RefusedError
from framegrid_serve.preprocess import MAX_SIDE

logger = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]

# A JPEG of several pictures (phones, stereo) opens as MPO.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
_EXPECTED = "expected a JPEG, PNG, WebP, BMP or GIF picture"
# A progressive JPEG of ours has 10 scans. Each one more costs a pass over all pixels and a few bytes.
MAX_SCANS = 100
_SCAN = b"\xff\xda"
_ORIENTATION = 0x0112
_UPRIGHT = 1
# 4:4:4 at 95: measured to cost no detection on the pictures of the tests.
_QUALITY = 95
# What shows through transparent places: paper.
_BACKGROUND = (255, 255, 255)

# Pillow's own bound warns at 89 megapixels and raises at twice that; ours is checked right after opening.
Image.MAX_IMAGE_PIXELS = None
# Named so that it is loaded: looking for it, Pillow would load all the formats it knows.
assert WebPImagePlugin


@dataclass(slots=True)
class Picture:
    """An opened picture: its header is read and within the bounds, nothing is decoded."""

    data: bytes
    format: str
    width: int  # upright, pixels
    height: int
    is_plain: bool  # a JPEG that needs nothing done
    notes: list[str] = field(default_factory=list)  # what was done to it, for the person


def open_picture(data: bytes, max_pixels: int) -> Picture:
    """Reads the header alone."""
    if not data:
        raise RefusedError(400, f"{_EXPECTED}, got 0 bytes")
    with _damaged_is_422(), _opened(data) as image:
        width, height = image.size
        if width < 1 or height < 1 or width * height > max_pixels or max(width, height) > MAX_SIDE:
            raise RefusedError(
                413,
                f"expected at most {max_pixels} pixels and {MAX_SIDE} a side, got {width} x {height}; "
                f"scale it down",
            )
        is_jpeg = image.format in ("JPEG", "MPO")
        if is_jpeg and data.count(_SCAN) > MAX_SCANS:
            raise RefusedError(
                422, f"expected a JPEG of at most {MAX_SCANS} scans, got more; save it as a baseline JPEG"
            )
        orientation = _orientation(image)
        notes = []
        if orientation != _UPRIGHT:
            notes.append("turned upright by its EXIF orientation")
        if orientation >= 5:  # by a quarter
            width, height = height, width
        if not is_jpeg and getattr(image, "is_animated", False):
            notes.append("an animation: its first picture was used")
        if image.mode == "CMYK":
            notes.append("converted from CMYK")
        if _has_16_bits(image):
            notes.append("16 bits a pixel cut to 8")
        if _has_alpha(image):
            notes.append("transparent places were made white")
        is_plain = is_jpeg and image.mode in ("RGB", "L") and orientation == _UPRIGHT
        return Picture(data, str(image.format), width, height, is_plain, notes)


def jpeg_for(picture: Picture, input_size: int) -> bytes:
    """What the detector gets: a JPEG, upright; the picture's own where that will do."""
    if picture.is_plain:
        return picture.data
    pixels = pixels_of(picture, at_least=input_size)
    height, width = pixels.shape[:2]
    scale = min(1.0, input_size / max(height, width))
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale <= 0.5 else cv2.INTER_LINEAR)
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), _QUALITY, "BGR", "444")
    return encoded


def pixels_of(picture: Picture, at_least: int = 0) -> Pixels:
    """The decoded picture, upright, BGR uint8 (H, W, 3).

    With `at_least` it may be smaller than it is, by a power of two, as long as its longer side is twice that.
    """
    with _damaged_is_422(), _opened(picture.data) as image:
        if at_least:  # only JPEG knows how
            image.draft("RGB", (2 * at_least, 2 * at_least))
        image.load()
        upright = _turned(image)
        if _has_16_bits(upright):
            grey = np.asarray(upright).astype(np.uint32)
            return np.dstack([np.minimum(grey >> 8, 255).astype(np.uint8)] * 3)
        if _has_alpha(upright):
            upright = upright.convert("RGBA")
            paper = Image.new("RGB", upright.size, _BACKGROUND)
            paper.paste(upright, mask=upright.getchannel("A"))
            upright = paper
        rgb = np.asarray(upright.convert("RGB"))
        return np.ascontiguousarray(rgb[:, :, ::-1])


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise RefusedError(415, f"{_EXPECTED}, got {len(data)} bytes that are none; convert it") from None
    with image:
        yield image


@contextmanager
def _damaged_is_422() -> Iterator[None]:
    """Decoders of damaged files fail with whatever their parsers stumble over."""
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        logger.debug("a picture could not be decoded", exc_info=True)
        raise RefusedError(422, "expected a whole picture, got a damaged one; save it again") from error


def _orientation(image: Any) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, _UPRIGHT)
    except Exception:  # noqa: BLE001  damaged EXIF is no reason to refuse a picture
        return _UPRIGHT
    return value if isinstance(value, int) and 1 <= value <= 8 else _UPRIGHT


def _turned(image: Any) -> Any:
    return ImageOps.exif_transpose(image) if _orientation(image) != _UPRIGHT else image


def _has_16_bits(image: Any) -> bool:
    return str(image.mode).startswith("I")


def _has_alpha(image: Any) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
