"""What broken cameras send: black, halved, shrunken and boastful JPEGs."""

from __future__ import annotations

import numpy as np
import simplejpeg

QUALITY = 85
# Baseline, extended and progressive: the start-of-frame markers that hold the picture's size.
_START_OF_FRAME = (0xC0, 0xC1, 0xC2)


def black_jpeg(width: int, height: int) -> bytes:
    return _encode(np.zeros((height, width, 3), np.uint8))


def halved_jpeg(jpeg: bytes) -> bytes:
    """A picture of half the width and height (rounded up)."""
    pixels = simplejpeg.decode_jpeg(jpeg, colorspace="BGR")  # (H, W, 3) uint8
    return _encode(np.ascontiguousarray(pixels[::2, ::2]))


def truncated_jpeg(jpeg: bytes) -> bytes:
    """The first half of the bytes: the header is whole, half of the picture is missing."""
    return jpeg[: max(1, len(jpeg) // 2)]


def boastful_jpeg(jpeg: bytes, width: int = 16_384, height: int = 16_384) -> bytes:
    """The same bytes with another size in the header: a decoder that trusts it allocates 800 MB for nothing.

    Raises ValueError when there is no start-of-frame segment.
    """
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        if jpeg[at + 1] in _START_OF_FRAME:
            # Segment: marker (2), length (2), bits per sample (1), height (2), width (2), big-endian.
            size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
            return jpeg[: at + 5] + size + jpeg[at + 9 :]
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    raise ValueError(f"expected a JPEG with a start-of-frame segment, got {len(jpeg)} bytes without")


def _encode(pixels: np.ndarray) -> bytes:
    return bytes(simplejpeg.encode_jpeg(pixels, quality=QUALITY, colorspace="BGR"))
