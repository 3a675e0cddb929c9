"""From a network's raw output to boxes: the layouts, suppression of doubles, and back to the picture.

Sources of the formulas: Ultralytics `utils/nms.py` and `utils/ops.py` (8.4), YOLOX `utils/boxes.py` and
`models/yolo_head.py`. Class-aware suppression, at most 300 boxes a picture, as Ultralytics predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from framegrid_serve.bundle import STRIDES, Bundle, Layout
from framegrid_serve.preprocess import Letterbox

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int16]

MAX_BOXES = 300
# The best so many candidates enter the suppression, so that a very low threshold cannot stall a replica.
MAX_CANDIDATES = 30_000


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Detections of one picture, best score first. `boxes_xyxy` is relative to the picture."""

    boxes_xyxy: Floats  # (n, 4)
    scores: Floats  # (n,)
    class_ids: Ints  # (n,)


def boxes_of(output: Floats, placed: Letterbox, bundle: Bundle, min_score: float) -> Boxes:
    """Boxes of one picture from its raw output (2 dimensions). Values that are not numbers are left out."""
    manifest = bundle.manifest
    if manifest.layout is Layout.YOLOV8:
        boxes, scores, class_ids = _candidates_yolov8(output, min_score)
    elif manifest.layout is Layout.YOLO26:
        boxes, scores, class_ids = _candidates_yolo26(output, min_score)
    else:
        height, width = placed.image.shape[:2]
        raw = manifest.layout is Layout.YOLOX
        boxes, scores, class_ids = _candidates_yolox(output, min_score, (height, width) if raw else None)
    usable = np.isfinite(boxes).all(axis=1) & (class_ids >= 0) & (class_ids < len(manifest.classes))
    if not usable.all():
        boxes, scores, class_ids = boxes[usable], scores[usable], class_ids[usable]
    if manifest.layout is Layout.YOLO26:
        keep = np.argsort(-scores, kind="stable")[:MAX_BOXES]
    else:
        keep = suppress_doubles(boxes, scores, class_ids, manifest.thresholds.iou)
    return Boxes(_relative(boxes[keep], placed), scores[keep], class_ids[keep].astype(np.int16))


def suppress_doubles(
    boxes_xyxy: Floats, scores: Floats, class_ids: npt.NDArray[np.integer], iou: float
) -> npt.NDArray[np.intp]:
    """Indices of the boxes to keep, best first: greedy suppression within each class."""
    if not len(scores):
        return np.empty(0, np.intp)
    if len(scores) > MAX_CANDIDATES:
        best = np.argpartition(-scores, MAX_CANDIDATES)[:MAX_CANDIDATES]
        return best[suppress_doubles(boxes_xyxy[best], scores[best], class_ids[best], iou)]
    boxes_xywh = boxes_xyxy.copy()
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    # OpenCV's stubs ask for lists; arrays are taken as they are.
    batched: Any = cv2.dnn.NMSBoxesBatched
    kept = batched(boxes_xywh, scores, class_ids.astype(np.int32), 0.0, iou)
    keep = np.asarray(kept, np.intp).reshape(-1)
    return keep[np.argsort(-scores[keep], kind="stable")][:MAX_BOXES]


def _candidates_yolov8(output: Floats, min_score: float) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """(4+nc, n): centre x y, width, height in network pixels, then a score for each class."""
    class_scores = output[4:]
    best = class_scores.max(axis=0)
    chosen = np.flatnonzero(best >= min_score)
    class_ids = class_scores[:, chosen].argmax(axis=0)
    return _corners(output[:4, chosen].T), best[chosen], class_ids


def _candidates_yolo26(output: Floats, min_score: float) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """(n, 6): x1 y1 x2 y2 in network pixels, score, class."""
    chosen = output[output[:, 4] >= min_score]
    class_ids = np.nan_to_num(chosen[:, 5], nan=-1.0, posinf=-1.0, neginf=-1.0).astype(np.intp)
    return chosen[:, :4].copy(), chosen[:, 4].copy(), class_ids


def _candidates_yolox(
    output: Floats, min_score: float, raw_shape: tuple[int, int] | None
) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """(n, 5+nc): box, objectness, class scores. With `raw_shape` the boxes are still grid offsets."""
    best = output[:, 5:].max(axis=1) * output[:, 4]
    chosen = np.flatnonzero(best >= min_score)
    boxes = output[chosen, :4]
    if raw_shape is not None:
        grid, stride = _yolox_grid(*raw_shape)
        centre = (boxes[:, :2] + grid[chosen]) * stride[chosen]
        # exp of a garbage logit overflows to infinity, which is filtered with the other unusable boxes.
        with np.errstate(over="ignore"):
            size = np.exp(boxes[:, 2:]) * stride[chosen]
        boxes = np.concatenate([centre, size], axis=1)
    return _corners(boxes), best[chosen], output[chosen, 5:].argmax(axis=1)


@lru_cache(maxsize=16)
def _yolox_grid(height: int, width: int) -> tuple[Floats, Floats]:
    """Cell (x, y) and stride of each of YOLOX's candidates, strides 8, 16, 32 in turn."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = np.indices((height // stride, width // stride), np.float32)
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((rows.size, 1), stride, np.float32))
    return np.concatenate(cells), np.concatenate(strides)


def _corners(boxes_cxcywh: Floats) -> Floats:
    half = boxes_cxcywh[:, 2:] / 2
    centre = boxes_cxcywh[:, :2]
    return np.concatenate([centre - half, centre + half], axis=1)


def _relative(boxes: Floats, placed: Letterbox) -> Floats:
    """Network pixels to 0..1 of the picture (Ultralytics `scale_boxes`, then `clip_boxes`)."""
    offset = np.array([placed.pad_left, placed.pad_top] * 2, np.float32)
    size = np.array([placed.picture_width, placed.picture_height] * 2, np.float32)
    relative = (boxes - offset) / (size * np.float32(placed.ratio))
    clipped: Floats = np.clip(relative, 0.0, 1.0).astype(np.float32, copy=False)
    return clipped
