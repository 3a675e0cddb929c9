"""How good detections are against the truth: average precision at IoU 0.5, COCO's 101 points of recall.

Objects marked `ignore` (too hidden or too small) are neither asked for nor held against who finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framegrid_sim.dataset import Labels

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Detections of one frame, boxes relative to the picture."""

    boxes_xyxy: NDArray[np.float32]  # (n, 4)
    scores: NDArray[np.float32]  # (n,)
    class_ids: NDArray[np.int64]  # (n,)


def box_iou(a: FloatArray | NDArray[np.float32], b: FloatArray | NDArray[np.float32]) -> FloatArray:
    """Intersection over union of (n, 4) and (m, 4) boxes -> (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1)
    result: FloatArray = inter / np.maximum(area_a[:, None] + area_b[None, :] - inter, 1e-12)
    return result


def average_precision(
    found: Sequence[Found], truth: Sequence[Labels], class_ids: Sequence[int], iou: float = 0.5
) -> float:
    """AP of the given classes taken as one. NaN when the truth has none of them."""
    scores: list[float] = []
    hits: list[bool] = []
    wanted = 0
    for f, t in zip(found, truth, strict=True):
        mine = np.isin(t.class_ids, class_ids)
        wanted += int((mine & ~t.ignore).sum())
        picked = np.isin(f.class_ids, class_ids)
        order = np.flatnonzero(picked)[np.argsort(-f.scores[picked], kind="stable")]
        overlaps = box_iou(f.boxes_xyxy[order], t.boxes_xyxy[mine])
        taken = np.zeros(int(mine.sum()), bool)
        ignore = t.ignore[mine]
        for k, detection in enumerate(order):
            hit = _match(overlaps[k], taken, ignore, iou)
            if hit is not None:
                scores.append(float(f.scores[detection]))
                hits.append(hit)
    if wanted == 0:
        return float("nan")
    ranked = (
        np.array(hits, bool)[np.argsort(-np.array(scores), kind="stable")] if scores else np.zeros(0, bool)
    )
    true = np.cumsum(ranked)
    recall = true / wanted
    precision = true / np.arange(1, len(ranked) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, 101))
    return float(np.mean([best[p] if p < len(best) else 0.0 for p in places]))


def _match(
    overlap: FloatArray, taken: NDArray[np.bool_], ignore: NDArray[np.bool_], iou: float
) -> bool | None:
    """True: found a wanted object; False: found nothing; None: found one that is ignored. Marks what it
    takes."""
    free = np.where(taken | ignore, 0.0, overlap)
    if free.size and free.max() >= iou:
        taken[int(free.argmax())] = True
        return True
    # Half-hidden bodies are boxed where one sees them, so an ignored object is met by less overlap too.
    if ignore.any() and overlap[ignore].max() >= iou / 2:
        return None
    return False
