"""What drawing is made of: convex polygons and strokes in pixels, with their colour."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Image = NDArray[np.uint8]

SHIFT = 4  # cv2's fixed-point bits: a sixteenth of a pixel
_ONE = 1 << SHIFT
_CAP = np.linspace(-np.pi / 2, np.pi / 2, 5)
_CAP_COS, _CAP_SIN = np.cos(_CAP), np.sin(_CAP)


class Shape(NamedTuple):
    points: NDArray[np.int32]  # (n, 2), in pixels << SHIFT
    colour: tuple[float, float, float]  # BGR 0..255
    thickness: int = 0  # 0: filled convex polygon; else a closed stroke of so many pixels


def fixed(points: FloatArray) -> NDArray[np.int32]:
    """Pixels -> cv2's fixed point."""
    return np.rint(points * _ONE).astype(np.int32)


def capsules(a: FloatArray, b: FloatArray, radius_a: FloatArray, radius_b: FloatArray) -> FloatArray:
    """Outlines (..., 10, 2) of thick rounded strokes from a to b (..., 2) with the radii (...) at both
    ends."""
    along = b - a
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    # A stroke of no length is a disc: any direction will do.
    along = np.where(length > 1e-6, along / np.maximum(length, 1e-6), (1.0, 0.0))
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    back = -_CAP_COS[:, None] * along[..., None, :] - _CAP_SIN[:, None] * across[..., None, :]
    front = _CAP_COS[:, None] * along[..., None, :] + _CAP_SIN[:, None] * across[..., None, :]
    start = a[..., None, :] + radius_a[..., None, None] * back
    end = b[..., None, :] + radius_b[..., None, None] * front
    return np.concatenate([start, end], axis=-2)


def draw(image: Image, shapes: list[Shape]) -> None:
    """Paint the shapes in order, antialiased."""
    for points, colour, thickness in shapes:
        if thickness:
            cv2.polylines(image, [points], True, colour, thickness, cv2.LINE_AA, SHIFT)
        else:
            cv2.fillConvexPoly(image, points, colour, cv2.LINE_AA, SHIFT)


def stamp(
    mask: Image, shapes: list[Shape], value: int, offset: tuple[int, int] = (0, 0), down: int = 0
) -> None:
    """Write `value` where the shapes are, without antialiasing.

    The mask's picture begins at `offset` pixels (x, y) and is 2**down times smaller.
    """
    move = np.array(offset, np.int32) << SHIFT
    for points, _, thickness in shapes:
        moved = points - move
        if thickness:
            width = max(1, thickness >> down)
            cv2.polylines(mask, [moved], True, value, width, cv2.LINE_8, SHIFT + down)
        else:
            cv2.fillConvexPoly(mask, moved, value, cv2.LINE_8, SHIFT + down)


def bounds(shapes: list[Shape]) -> tuple[float, float, float, float]:
    """The box x1, y1, x2, y2 in pixels around all the shapes."""
    lows = np.array([shape.points.min(axis=0) - shape.thickness * _ONE / 2 for shape in shapes])
    highs = np.array([shape.points.max(axis=0) + shape.thickness * _ONE / 2 for shape in shapes])
    low, high = lows.min(axis=0) / _ONE, highs.max(axis=0) / _ONE
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
