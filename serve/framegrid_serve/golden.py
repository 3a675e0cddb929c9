"""The golden frame: a picture with the boxes that a model is known to find in it.

The workshop makes it when a model is imported, with the model as it came; every later form of that model
(quantised, on another engine, on another processor) has to find the same again before it may serve. What is
compared are class names, so that a mixed-up `classes` list is noticed too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from framegrid_serve.errors import ModelError
from framegrid_serve.evaluation import pairwise_iou
from framegrid_serve.wire import FrameStatus

if TYPE_CHECKING:
    from framegrid_serve.detector import Detector

GOLDEN_IMAGE = "golden.jpg"
# What a sound model differs by in another form. Measured on 209 boxes of YOLO11n above 0.4, INT8 against
# bfloat16: all found again, places at IoU 0.75 and more, scores 0.02 apart (median), 0.19 (p99), 0.43 (most).
SURE_BY = 0.15  # an expected box this far above the threshold has to be found
_STRANGE_BY = 0.25  # a box this far above the threshold has to be expected
_MAX_MEAN_LOSS = 0.15  # of the scores of the boxes that have to be found
_SAME_PLACE_IOU = 0.6
_MAX_BOXES = 100
_ADVICE = "the weights, `classes` or `layout` are not those that the golden frame was made with"


class GoldenBox(BaseModel):
    """One box that the model finds; relative to the picture, 0..1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str  # name of the class
    score: float = Field(ge=0.0, le=1.0)
    box: tuple[float, float, float, float]  # x1 y1 x2 y2


class Golden(BaseModel):
    """The key `golden` of `model.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = GOLDEN_IMAGE  # beside model.yaml
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    boxes: tuple[GoldenBox, ...] = Field(default=(), max_length=_MAX_BOXES)


def golden_boxes(detector: Detector, jpeg: bytes) -> tuple[GoldenBox, ...]:
    """What this model finds in the picture above its own threshold, best first.

    Raises ModelError when it answers nothing, or not with numbers.
    """
    (result,) = detector.detect([jpeg])
    if result.status is not FrameStatus.OK:
        raise ModelError(
            f"{detector.bundle.path}: expected an answer for the golden frame, got {result.status.name}"
        )
    if not (np.isfinite(result.boxes_xyxy).all() and np.isfinite(result.scores).all()):
        raise ModelError(f"{detector.bundle.path}: expected numbers for the golden frame, got NaN")
    found = zip(result.boxes_xyxy.tolist(), result.scores.tolist(), result.class_ids, strict=True)
    return tuple(
        GoldenBox(
            label=detector.bundle.classes[number],
            score=min(1.0, max(0.0, round(score, 4))),
            box=tuple(round(side, 4) for side in box),
        )
        for box, score, number in found
    )[:_MAX_BOXES]


def check_golden(detector: Detector) -> None:
    """Raise ModelError when the model no longer finds what its bundle says. Without a golden: nothing."""
    golden = detector.bundle.manifest.golden
    if golden is None:
        return
    path = detector.bundle.path / golden.image
    threshold = detector.bundle.manifest.thresholds.score
    found = golden_boxes(detector, _read(path))
    losses = []
    for box in golden.boxes:
        if box.score < threshold + SURE_BY:
            continue
        same = max((other.score for other in found if _is_same(box, other)), default=None)
        if same is None:
            raise ModelError(f"{path}: expected {_told(box)}, got {told(found)}; {_ADVICE}")
        losses.append(box.score - same)
    if losses and sum(losses) / len(losses) > _MAX_MEAN_LOSS:
        raise ModelError(
            f"{path}: expected {told(golden.boxes)}, got {told(found)}: scores are lower by "
            f"{sum(losses) / len(losses):.2f} on average; {_ADVICE}"
        )
    for other in found:
        if other.score >= threshold + _STRANGE_BY and not any(_is_same(box, other) for box in golden.boxes):
            raise ModelError(f"{path}: expected only {told(golden.boxes)}, got {_told(other)} too; {_ADVICE}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); it is the golden frame") from error


def _is_same(expected: GoldenBox, found: GoldenBox) -> bool:
    iou = pairwise_iou(np.array([expected.box]), np.array([found.box]))[0, 0]
    return expected.label == found.label and bool(iou >= _SAME_PLACE_IOU)


def _told(box: GoldenBox) -> str:
    return f"{box.label} {box.score:.2f} at {', '.join(f'{side:.2f}' for side in box.box)}"


def told(boxes: tuple[GoldenBox, ...]) -> str:
    return "; ".join(_told(box) for box in boxes[:5]) or "nothing"
