"""Which tracks a frame's detections continue: the confident ones first, then the weak ones.

The order is ByteTrack's: a weak detection may be a partly hidden object that is already known, or nothing at
all, so it may continue a track that is still without a detection and lies where it is, and nothing else.
Source: Zhang et al., "ByteTrack", ECCV 2022.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from framegrid_ingest.association import assign, pair_costs
from framegrid_ingest.geometry import FloatArray, overlap
from framegrid_ingest.track import Track, TrackerSettings

Pair = tuple[Track, int]  # a track and the index of its detection


@dataclass(frozen=True, slots=True)
class Observations:
    """One frame's detections of one counted class, duplicates removed."""

    boxes_xyxy: FloatArray  # (n, 4) float64, relative
    scores: FloatArray  # (n,)
    class_names: tuple[str, ...]  # of the model


def match_strong(
    tracks: Sequence[Track],
    strong: Sequence[int],
    observed: Observations,
    settings: TrackerSettings,
    *,
    bottom_anchor: bool,
) -> list[Pair]:
    """Assign the detections `strong` (indices, best first) to tracks, by likelihood."""
    if not tracks or not strong:
        return []
    boxes = observed.boxes_xyxy[strong]
    cut = (boxes[:, :2] <= settings.border) | (boxes[:, 2:] >= 1.0 - settings.border)
    cost = pair_costs(
        _predictions(tracks, settings, bottom_anchor=bottom_anchor),
        centres(boxes),
        size_noise=np.where(cut, settings.border_size_factor, 1.0) * settings.size_noise,
        extra_variance=np.where(cut, settings.border_noise**2, 0.0),
        floor_variance=2.0 * settings.motion.measurement_noise**2,
    )
    away = [track.confirmed and track.frames_unseen > 1 for track in tracks]
    if any(away) and len(boxes) > 1:
        doubtful = np.triu(overlap(boxes, boxes), 1).max(axis=0) >= settings.doubtful_iou
        cost += settings.doubtful_bias * np.outer(away, doubtful)
    return [(tracks[row], strong[column]) for row, column in assign(cost, settings.match_limit)]


def match_weak(
    waiting: Sequence[Track],
    weak: Sequence[int],
    observed: Observations,
    settings: TrackerSettings,
    *,
    bottom_anchor: bool,
) -> list[Pair]:
    """Let the detections `weak` (indices) continue the tracks that lie where they are."""
    if not waiting or not weak:
        return []
    predicted = _predicted_boxes(waiting, settings, bottom_anchor=bottom_anchor)
    overlaps = overlap(predicted, observed.boxes_xyxy[weak])
    return [(waiting[row], weak[column]) for row, column in assign(-overlaps, -settings.weak_iou)]


def crowded_noise(
    pairs: Sequence[Pair],
    tracks: Sequence[Track],
    observed: Observations,
    settings: TrackerSettings,
    *,
    bottom_anchor: bool,
) -> list[float]:
    """For each pair the factor on the noise of its position: 1 where nobody else is expected.

    Where two people overlap, a box is that of the one in front or of both, and may change between them.
    Taken at its word it would stop the one behind or turn him round, and those who meet would part with each
    other's identity. In a crowd the way that somebody went before counts more.
    """
    others = [track for track in tracks if track.confirmed]
    if len(tracks) < 2 or not others or not pairs:
        return [1.0] * len(pairs)
    overlaps = overlap(
        observed.boxes_xyxy[[index for _, index in pairs]],
        _predicted_boxes(others, settings, bottom_anchor=bottom_anchor),
    )
    column = {track.order: k for k, track in enumerate(others)}
    for row, (track, _) in enumerate(pairs):
        if track.confirmed:
            overlaps[row, column[track.order]] = 0.0
    excess = np.maximum(overlaps.max(axis=1) - settings.crowded_iou, 0.0)
    factors: list[float] = (1.0 + settings.crowded_noise * excess).tolist()
    return factors


def _predicted_boxes(
    tracks: Sequence[Track], settings: TrackerSettings, *, bottom_anchor: bool
) -> FloatArray:
    """Where the tracks are expected, (tracks, 4) x1 y1 x2 y2."""
    x, y, w, h = _predictions(tracks, settings, bottom_anchor=bottom_anchor)[:, :4].T
    return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)


def _predictions(tracks: Sequence[Track], settings: TrackerSettings, *, bottom_anchor: bool) -> FloatArray:
    """Rows for `pair_costs`: centre x, y, width, height, variance, bias; (tracks, 6)."""
    noise = settings.motion.measurement_noise**2
    lift = 0.5 if bottom_anchor else 0.0
    return np.array(
        [
            (
                m.x,
                m.y - lift * m.h,
                m.w,
                m.h,
                m.p00 + noise,
                0.0 if t.confirmed else settings.provisional_bias,
            )
            for t in tracks
            for m in (t.motion,)
        ]
    )


def centres(boxes_xyxy: FloatArray) -> FloatArray:
    """(n, 4) x1 y1 x2 y2 -> (n, 4) centre x, centre y, width, height."""
    result = np.empty_like(boxes_xyxy)
    result[:, :2] = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) * 0.5
    result[:, 2:] = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return result
