"""A detector made of truth and errors, so that tracking and counting can be tested without a model.

It misses what is small or hidden, jitters boxes, now and then sees what is not there, and scores what it sees
with more or less confidence. Deterministic by seed and frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framegrid_sim.truth import CLASSES, FrameTruth, ObjectTruth


@dataclass(frozen=True)
class NoiseSettings:
    """How bad the detector is. The defaults are a little worse than `street-sim` on held-out streets."""

    miss: float = 0.02  # probability to miss a fully visible, big object in a frame
    hidden_from: float = 0.5  # below this visible share misses grow, to certainty at `blind_at`
    blind_at: float = 0.15
    small_px: float = 28.0  # below this height (pixels of 640) misses grow
    jitter: float = 0.02  # standard deviation of each box edge, as a share of the box's size
    false_per_frame: float = 0.02  # boxes of nothing
    wrong_class: float = 0.01  # of the vehicles: another vehicle's class
    score_mean: float = 0.85
    score_noise: float = 0.08

    @classmethod
    def perfect(cls) -> NoiseSettings:
        """Everything countable, boxed exactly."""
        return cls(0, 0, 0, 0, 0, 0, 0, 1.0, 0)


@dataclass(frozen=True)
class NoisyDetections:
    """Detections of one frame, highest score first; boxes relative to the picture."""

    boxes_xyxy: NDArray[np.float32]  # (n, 4)
    scores: NDArray[np.float32]  # (n,)
    class_ids: NDArray[np.int16]  # (n,) into truth.CLASSES


def render_detections(truth: FrameTruth, noise: NoiseSettings, seed: int) -> NoisyDetections:
    """What the noisy detector sees in a frame. The same frame and seed give the same detections."""
    rng = np.random.default_rng((seed, truth.frame_index))
    boxes: list[NDArray[np.float64]] = []
    scores: list[float] = []
    ids: list[int] = []
    for item in truth.objects:
        # Drawn for every object, found or not, so that one object's fate does not change another's.
        luck, edges, doubt, mistake = rng.random(), rng.normal(0, noise.jitter, 4), rng.normal(), rng.random()
        clear = _clearness(item, noise)
        if not item.countable and noise.hidden_from == 0:
            continue
        if luck > (1 - noise.miss) * clear:
            continue
        boxes.append(_jittered(item, edges))
        score = noise.score_mean * (0.55 + 0.45 * clear) + noise.score_noise * doubt
        scores.append(float(np.clip(score, 0.05, 1.0)))
        ids.append(_class_of(item, mistake, noise))
    for _ in range(int(rng.poisson(noise.false_per_frame))):
        x, y = rng.uniform(0, 0.95), rng.uniform(0.2, 0.85)
        w, h = rng.uniform(0.02, 0.06), rng.uniform(0.06, 0.15)
        boxes.append(np.array([x, y, min(x + w, 1), min(y + h, 1)]))
        scores.append(float(np.clip(rng.normal(0.4, 0.1), 0.05, 0.8)))
        ids.append(int(rng.integers(len(CLASSES))))
    order = np.argsort(-np.array(scores), kind="stable") if scores else np.zeros(0, int)
    return NoisyDetections(
        np.array(boxes, np.float32).reshape(-1, 4)[order],
        np.array(scores, np.float32)[order],
        np.array(ids, np.int16)[order],
    )


def _clearness(item: ObjectTruth, noise: NoiseSettings) -> float:
    """1 for what cannot be overlooked, 0 for what cannot be seen."""
    span = max(noise.hidden_from - noise.blind_at, 1e-6)
    shown = float(np.clip((item.visible_share - noise.blind_at) / span, 0, 1)) if noise.hidden_from else 1.0
    big = min(1.0, item.height_px / noise.small_px) if noise.small_px else 1.0
    return shown * big


def _jittered(item: ObjectTruth, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    x1, y1, x2, y2 = item.box_xyxy
    size = np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
    box = np.clip(np.array(item.box_xyxy) + edges * size, 0, 1)
    low, high = np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])
    return np.concatenate([low, high])


def _class_of(item: ObjectTruth, mistake: float, noise: NoiseSettings) -> int:
    index = CLASSES.index(item.cls)
    if item.group == "vehicle" and mistake < noise.wrong_class:
        return 1 + index % (len(CLASSES) - 1)
    return index
