"""Plane geometry of boxes, polygons and directed lines, in coordinates relative to the picture.

Relative means 0..1, x to the right, y down. Pure functions of numbers; nothing here knows of cameras.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Point = tuple[float, float]

FEW_POINTS = 24  # up to so many, plain Python beats numpy's cost of a call
TINY = 1e-12  # below any area or length a picture can hold; keeps divisions finite


def overlap(a_xyxy: FloatArray, b_xyxy: FloatArray) -> FloatArray:
    """Intersection over union of all pairs: (n, 4) and (m, 4) -> (n, m)."""
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    sides = np.maximum(high - low, 0.0)
    shared = sides[..., 0] * sides[..., 1]
    area_a = (a_xyxy[:, 2] - a_xyxy[:, 0]) * (a_xyxy[:, 3] - a_xyxy[:, 1])
    area_b = (b_xyxy[:, 2] - b_xyxy[:, 0]) * (b_xyxy[:, 3] - b_xyxy[:, 1])
    union = area_a[:, None] + area_b[None, :] - shared
    iou: FloatArray = shared / np.maximum(union, TINY)
    return iou


def points_in_polygon(x: FloatArray, y: FloatArray, polygon: Sequence[Point]) -> BoolArray:
    """Which of the points (x, y), each (n,), lie inside the polygon (even-odd rule).

    Points on an edge belong to one side or the other, the same one each time.
    Source of the rule: W. R. Franklin, PNPOLY.
    """
    if len(x) <= FEW_POINTS:
        inside = [_point_in_polygon(a, b, polygon) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        return np.array(inside, dtype=np.bool_)
    result = np.zeros(x.shape, dtype=np.bool_)
    x0, y0 = polygon[-1]
    for x1, y1 in polygon:
        if y0 != y1:  # a level edge crosses no level ray
            straddles = (y1 > y) != (y0 > y)
            result ^= straddles & (x < (x0 - x1) * (y - y1) / (y0 - y1) + x1)
        x0, y0 = x1, y1
    return result


def _point_in_polygon(x: float, y: float, polygon: Sequence[Point]) -> bool:
    inside = False
    x0, y0 = polygon[-1]
    for x1, y1 in polygon:
        if (y1 > y) != (y0 > y) and x < (x0 - x1) * (y - y1) / (y0 - y1) + x1:
            inside = not inside
        x0, y0 = x1, y1
    return inside


def segment_distance(x: float, y: float, start: Point, end: Point) -> float:
    """Distance of a point from a segment, in the units given."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length_sq = dx * dx + dy * dy
    along = 0.0
    if length_sq > TINY:
        along = min(1.0, max(0.0, ((x - start[0]) * dx + (y - start[1]) * dy) / length_sq))
    return math.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
