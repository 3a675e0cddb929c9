"""Which detection belongs to which track: one cost for a pair, and the exact best assignment.

The cost is twice the negative log-likelihood of a detection under a track's prediction (position, width,
height), so a track that was just seen is preferred over one whose whereabouts have become vague, and the
price of leaving a pair apart has the same unit. Positions count in sizes of the object, not in pixels or in
overlap: at one frame a second a walker moves three times his own width, where overlap says nothing.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from framegrid_ingest.geometry import TINY, FloatArray
from framegrid_ingest.track import BoxTuple

# How much the nearer edge counts against the centre, in the squared distance between two boxes.
EDGE_WEIGHT = 0.75

# Columns of a prediction row.
PREDICTION = ("x", "y", "w", "h", "variance", "bias")


def pair_costs(
    predicted: FloatArray,
    measured: FloatArray,
    *,
    size_noise: FloatArray,
    extra_variance: FloatArray,
    floor_variance: float,
) -> FloatArray:
    """Cost of each pair, (tracks, detections).

    `predicted` rows are x, y, w, h, variance (of the position, in sizes^2), bias (added as it is);
    `measured` rows are x, y, w, h. Per detection and direction, (detections, 2): `size_noise` is the standard
    deviation of the log of width and of height between a track and this detection, `extra_variance` is added
    to the position's. `floor_variance` is the variance at which the log-determinant is taken as zero.
    """
    scale_sq = np.maximum(predicted[:, 2] * predicted[:, 3], TINY)
    variance = predicted[:, 4, None, None] + extra_variance[None, :, :]
    middle = predicted[:, None, :2] - measured[None, :, :2]
    half = 0.5 * (predicted[:, None, 2:4] - measured[None, :, 2:4])
    # Of a partly hidden object one edge stays where it was: the distance is mostly that of the nearer edge.
    delta = np.maximum(np.abs(middle) - np.abs(half), 0.0)
    delta *= delta
    delta *= EDGE_WEIGHT
    middle *= middle
    middle *= 1.0 - EDGE_WEIGHT
    delta += middle
    delta /= scale_sq[:, None, None]
    delta /= variance
    sizes = np.log(predicted[:, None, 2:4] / measured[None, :, 2:4])
    sizes /= size_noise[None, :, :]
    sizes *= sizes
    delta += sizes
    delta += np.log(np.maximum(variance / floor_variance, 1.0))
    cost: FloatArray = delta[..., 0] + delta[..., 1] + predicted[:, 5, None]
    return cost


def assign(cost: FloatArray, limit: float | FloatArray) -> list[tuple[int, int]]:
    """The pairs of least total cost, where leaving a pair apart costs `limit`.

    Exact (Hungarian method): costs are cut at the limit, and pairs at the limit are no pairs.
    """
    excess = np.minimum(cost - limit, 0.0)
    rows, columns = linear_sum_assignment(excess)
    chosen = excess[rows, columns] < 0.0
    return list(zip(rows[chosen].tolist(), columns[chosen].tolist(), strict=True))


def without_duplicates(
    boxes_xyxy: Sequence[BoxTuple],
    scores: Sequence[float],
    class_names: Sequence[str],
    *,
    same_class_iou: float,
    other_class_iou: float,
    part_inside: float,
) -> list[int]:
    """Indices of the boxes to keep, best score first.

    A van that the model also calls a truck is one vehicle: of boxes of one counted class that cover each
    other, the best scored stays; a box that lies inside a better one of its model class is a part of it. The
    order of the boxes does not matter; equal scores are settled by position. Plain Python: at the boxes of
    a street it takes a third of numpy's time.
    """
    keep: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], boxes_xyxy[i])):
        x1, y1, x2, y2 = boxes_xyxy[i]
        for k in keep:
            u1, v1, u2, v2 = boxes_xyxy[k]
            if x1 >= u2 or u1 >= x2 or y1 >= v2 or v1 >= y2:
                continue
            shared = (min(x2, u2) - max(x1, u1)) * (min(y2, v2) - max(y1, v1))
            area = (x2 - x1) * (y2 - y1)
            union = area + (u2 - u1) * (v2 - v1) - shared
            same = class_names[k] == class_names[i]
            if shared >= (same_class_iou if same else other_class_iou) * union:
                break
            if same and shared >= part_inside * area:
                break
        else:
            keep.append(i)
    return keep
