"""Average precision as COCO defines it: 10 IoU thresholds, 101 recall points, greedy matching per class.

Source: pycocotools `cocoeval.py`, without crowds and area ranges, at most 300 boxes a picture. Classes
without a single true box are left out of the mean. Boxes are (n, 4) x1 y1 x2 y2 in any one unit a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Boxes of one picture with their classes; `scores` are ignored for the truth."""

    boxes_xyxy: Floats  # (n, 4)
    class_ids: npt.NDArray[np.integer]  # (n,)
    scores: Floats  # (n,)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Ratios 0..1. `per_class` holds the mean over IoU thresholds of each class that occurs in the truth."""

    map50_95: float
    map50: float
    per_class: dict[int, float]


def evaluate(found: Sequence[Labelled], truth: Sequence[Labelled]) -> Accuracy:
    """Accuracy of `found` against `truth`, picture by picture in the same order."""
    if len(found) != len(truth):
        raise ValueError(f"expected as many pictures found as true, got {len(found)} and {len(truth)}")
    classes = sorted({int(number) for picture in truth for number in picture.class_ids})
    precisions = {number: _class_precision(found, truth, number) for number in classes}
    if not precisions:
        raise ValueError("expected at least one true box, got none")
    table = np.stack(list(precisions.values()))  # (classes, thresholds)
    per_class = {number: float(row.mean()) for number, row in precisions.items()}
    return Accuracy(float(table.mean()), float(table[:, 0].mean()), per_class)


def pairwise_iou(first: Floats, second: Floats) -> Floats:
    """Intersection over union of every box in `first` (n, 4) with every one in `second` (m, 4): (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def agreeing_boxes(first: Labelled, second: Labelled, iou_threshold: float = 0.5) -> int:
    """How many boxes of `first` have their own partner in `second`: the same class, at least that IoU.

    Twice this over the number of all boxes is the F1 score of one against the other.
    """
    iou = pairwise_iou(first.boxes_xyxy, second.boxes_xyxy)
    iou = np.where(first.class_ids[:, None] == second.class_ids[None, :], iou, 0.0)
    agreeing = 0
    for row in np.argsort(-first.scores, kind="stable"):
        best = int(iou[row].argmax()) if iou.shape[1] else -1
        if best >= 0 and iou[row, best] >= iou_threshold:
            agreeing += 1
            iou[:, best] = 0.0
    return agreeing


def _class_precision(found: Sequence[Labelled], truth: Sequence[Labelled], number: int) -> Floats:
    """Average precision of one class at each IoU threshold."""
    scores: list[Floats] = []
    hits: list[npt.NDArray[np.bool_]] = []
    true_count = 0
    for picture_found, picture_true in zip(found, truth, strict=True):
        mine = picture_found.class_ids == number
        order = np.argsort(-picture_found.scores[mine], kind="stable")
        boxes = picture_found.boxes_xyxy[mine][order]
        true_boxes = picture_true.boxes_xyxy[picture_true.class_ids == number]
        true_count += len(true_boxes)
        scores.append(picture_found.scores[mine][order])
        hits.append(_matches(pairwise_iou(boxes, true_boxes)))
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    all_hits = np.concatenate(hits)[order]  # (n, thresholds)
    return np.array([_average_precision(column, true_count) for column in all_hits.T])


def _matches(iou: Floats) -> npt.NDArray[np.bool_]:
    """Which boxes (best first) find a true box not yet taken, at each threshold: (n, thresholds)."""
    count, true_count = iou.shape
    hits = np.zeros((count, len(IOU_THRESHOLDS)), bool)
    if not true_count:
        return hits
    for column, threshold in enumerate(IOU_THRESHOLDS):
        free = np.ones(true_count, bool)
        for row in range(count):
            candidates = np.where(free, iou[row], -1.0)
            best = int(candidates.argmax())
            if candidates[best] >= threshold:
                hits[row, column] = True
                free[best] = False
    return hits


def _average_precision(hits: npt.NDArray[np.bool_], true_count: int) -> float:
    if not len(hits):
        return 0.0
    true_positives = np.cumsum(hits)
    recall = true_positives / true_count
    precision = true_positives / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, _RECALL_POINTS, side="left")
    reached = at < len(envelope)
    return float(np.where(reached, envelope[np.minimum(at, len(envelope) - 1)], 0.0).mean())
