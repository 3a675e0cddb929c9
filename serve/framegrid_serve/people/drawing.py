"""Boxes with their labels drawn into a picture."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg

from framegrid_serve.people.answer import Box
from framegrid_serve.people.picture import Pixels

Colour = tuple[int, int, int]  # BGR

_QUALITY = 90
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE: Colour = (255, 255, 255)


def annotated_jpeg(pixels: Pixels, boxes: Sequence[Box]) -> bytes:
    """The picture (BGR, drawn into) with its boxes, as JPEG."""
    stroke = max(1, round(min(pixels.shape[:2]) / 360))
    for box in reversed(boxes):  # the best on top
        _draw(pixels, box, stroke)
    encoded: bytes = simplejpeg.encode_jpeg(pixels, _QUALITY, "BGR", "420")
    return encoded


def _draw(pixels: Pixels, box: Box, stroke: int) -> None:
    left, top, right, bottom = (round(value) for value in box.box_xyxy)
    colour = colour_of(box.class_name)
    cv2.rectangle(pixels, (left, top), (right, bottom), colour, stroke, cv2.LINE_AA)
    # OpenCV's fonts know ASCII alone.
    label = f"{box.class_name.encode('ascii', 'replace').decode()} {box.score:.2f}"
    scale = 0.45 * stroke
    (width, height), _ = cv2.getTextSize(label, _FONT, scale, stroke)
    base = top - 4 if top > height + 8 else min(bottom + height + 4, pixels.shape[0] - 4)
    cv2.rectangle(pixels, (left, base - height - 4), (left + width + 4, base + 4), colour, -1)
    cv2.putText(pixels, label, (left + 2, base), _FONT, scale, _WHITE, stroke, cv2.LINE_AA)


def colour_of(name: str) -> Colour:
    """A saturated colour of its own, the same for the same class."""
    hue = zlib.crc32(name.encode()) % 180
    pixel = cv2.cvtColor(np.array([[[hue, 210, 190]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])
