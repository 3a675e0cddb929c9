"""From JPEG bytes to the network's input: bounded decoding and Ultralytics' letterbox.

Pictures are BGR uint8 (H, W, 3) throughout; engines reorder and scale them (or fold that into the model).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from framegrid_serve.bundle import Bundle, Layout, rect_shape
from framegrid_serve.errors import CorruptImageError
from framegrid_serve.wire import Buffer

Image = npt.NDArray[np.uint8]

# 50 megapixels: above every camera sold for this, far below the 268 of a 16k x 16k bomb.
MAX_PIXELS = 50_000_000
MAX_SIDE = 16_384
PAD_VALUE = 114  # the grey that YOLO networks were trained with
# A picture this many times the network's input is decoded at 1/2, 1/4 or 1/8: what is lost would be lost in
# the resize. Below it the decoding is full, as Ultralytics does it.
_SCALED_DECODE_FROM = 2
_CENTRED = (Layout.YOLOV8, Layout.YOLO26)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """A picture placed in the network's input, and what is needed to place boxes back."""

    image: Image  # (H, W, 3) BGR, the network's input size
    ratio: float  # network pixels per picture pixel
    pad_left: int
    pad_top: int
    picture_height: int
    picture_width: int


def decode_and_place(jpeg: Buffer, bundle: Bundle) -> Letterbox:
    """`place(decode_jpeg(...))`, without the copy in the usual case: a frame of exactly the input's size
    that is padded above and below is decoded into its place. Raises CorruptImageError.
    """
    manifest = bundle.manifest
    size = manifest.input_size
    height, width = _bounded_size(jpeg)
    out_height, out_width = rect_shape(height, width, size) if manifest.dynamic else (size, size)
    if width != out_width or max(height, width) != size or manifest.layout not in _CENTRED:
        return place(decode_jpeg(jpeg, size), bundle)
    top = round((out_height - height) / 2 - 0.1)
    canvas = np.empty((out_height, out_width, 3), np.uint8)
    canvas[:top] = PAD_VALUE
    canvas[top + height :] = PAD_VALUE
    _decode(jpeg, (height, width), buffer=canvas[top : top + height])
    return Letterbox(canvas, 1.0, 0, top, height, width)


def decode_jpeg(jpeg: Buffer, input_size: int) -> Image:
    """The picture in `jpeg`. Its size is read and bounded before anything is decoded.

    Raises CorruptImageError for what is not a JPEG, is truncated, or has too many pixels.
    """
    height, width = _bounded_size(jpeg)
    enough = _SCALED_DECODE_FROM * input_size
    scaled = max(height, width) >= _SCALED_DECODE_FROM * enough
    least = {"min_height": min(height, enough), "min_width": min(width, enough)} if scaled else {}
    return _decode(jpeg, (height, width), **least)


def place(image: Image, bundle: Bundle) -> Letterbox:
    """The picture scaled and padded as the bundle's network wants it."""
    manifest = bundle.manifest
    height, width = image.shape[:2]
    size = manifest.input_size
    out_height, out_width = rect_shape(height, width, size) if manifest.dynamic else (size, size)
    if manifest.layout in _CENTRED:
        return letterbox(image, out_height, out_width)
    return _place_top_left(image, out_height, out_width)


def letterbox(image: Image, out_height: int, out_width: int) -> Letterbox:
    """Centred letterbox, to the pixel as `ultralytics.data.augment.LetterBox` (8.4) does it."""
    height, width = image.shape[:2]
    ratio = min(out_height / height, out_width / width)
    new_width, new_height = max(1, round(width * ratio)), max(1, round(height * ratio))
    top = round((out_height - new_height) / 2 - 0.1)
    left = round((out_width - new_width) / 2 - 0.1)
    canvas = _pasted(image, (new_height, new_width), (out_height, out_width), (top, left))
    return Letterbox(canvas, ratio, left, top, height, width)


def _bounded_size(jpeg: Buffer) -> tuple[int, int]:
    """Height and width from the header."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    except (ValueError, RuntimeError) as error:
        raise CorruptImageError(f"expected a JPEG, got {len(jpeg)} bytes that are not") from error
    if height < 1 or width < 1 or height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise CorruptImageError(
            f"expected at most {MAX_PIXELS} pixels and {MAX_SIDE} a side, got {width}x{height}; scale it down"
        )
    return height, width


def _decode(jpeg: Buffer, size: tuple[int, int], **options: Any) -> Image:
    try:
        # The exact DCT: measured equal in time to the fast one here, and it is what OpenCV's decoder does.
        decoded: Image = simplejpeg.decode_jpeg(jpeg, colorspace="BGR", fastdct=False, **options)
    except (ValueError, RuntimeError) as error:
        raise CorruptImageError(f"expected a whole JPEG, got a damaged one ({size[1]}x{size[0]})") from error
    return decoded


def _place_top_left(image: Image, out_height: int, out_width: int) -> Letterbox:
    """YOLOX's own `preproc`: sizes cut down to whole pixels, padded at the right and the bottom."""
    height, width = image.shape[:2]
    ratio = min(out_height / height, out_width / width)
    new_width, new_height = max(1, int(width * ratio)), max(1, int(height * ratio))
    canvas = _pasted(image, (new_height, new_width), (out_height, out_width), (0, 0))
    return Letterbox(canvas, ratio, 0, 0, height, width)


def _pasted(image: Image, size: tuple[int, int], out: tuple[int, int], at: tuple[int, int]) -> Image:
    """The picture resized to `size` on a grey canvas of size `out`; all (height, width) or (top, left)."""
    (height, width), (top, left) = size, at
    if image.shape[:2] != size:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    if size == out:
        return np.ascontiguousarray(image)
    canvas = np.full((*out, 3), PAD_VALUE, np.uint8)
    canvas[top : top + height, left : left + width] = image
    return canvas
