"""What a camera's detections mean: presence per zone, unique objects, line crossings, tracks.

`CameraAnalysis` is fed one sampled frame after the other and says what each one changed. Pure: it reads no
clock, does no I/O, and belongs to one thread. Presence is counted at any sampling rate. Unique objects and
crossings need the same object to be recognised from sample to sample: above `TrackerSettings.max_interval_s`
between samples nobody could, so none are issued (`tracked` is False, `new_uniques` empty) rather than
guessed.
"""

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from framegrid_ingest.association import without_duplicates
from framegrid_ingest.counting import Direction, LineCounter, LineCrossing, LineLike, ZoneCounter, ZoneLike
from framegrid_ingest.geometry import FloatArray
from framegrid_ingest.matching import Observations
from framegrid_ingest.track import BoxTuple, Track, TrackerSettings
from framegrid_ingest.tracking import Tracker

# A clock that steps back by less than this (seconds) means frames out of order; by more, that it was set.
CLOCK_STEP_S = 1.0
# Of the time between two processed frames, at most this many sampling intervals count as watched.
WATCHED_INTERVALS = 1.5
# The largest coordinate that is inside the picture.
INSIDE = 1.0 - 1e-9


class ClassGroupLike(Protocol):
    @property
    def of(self) -> Sequence[str]: ...
    @property
    def min_score(self) -> float: ...


class CountedCamera(Protocol):
    """What counting needs of a camera's configuration; `CameraConfig` has it."""

    @property
    def fps(self) -> float: ...
    @property
    def anchor(self) -> str: ...
    @property
    def classes(self) -> Mapping[str, ClassGroupLike]: ...
    @property
    def zones(self) -> Sequence[ZoneLike]: ...
    @property
    def lines(self) -> Sequence[LineLike]: ...


@dataclass(frozen=True, slots=True)
class Detections:
    """What the model found in one frame: boxes relative to the picture, scores 0..1, the model's class
    names."""

    boxes_xyxy: npt.NDArray[np.float32]  # (n, 4)
    scores: npt.NDArray[np.float32]  # (n,)
    class_names: Sequence[str]  # n names


@dataclass(frozen=True, slots=True)
class Crossing:
    line: str
    cls: str
    track_id: str
    direction: Direction
    captured_at_s: float  # when the line was met; up to a second before the frame that made it sure


@dataclass(frozen=True, slots=True)
class ClosedTrack:
    track_id: str
    cls: str
    model_class: str
    started_at_s: float
    ended_at_s: float
    frames: int
    score_max: float
    first_box: BoxTuple
    last_box: BoxTuple


@dataclass(frozen=True, slots=True)
class TrackView:
    """A track with a detection in this frame, for drawing. `track_id` is empty until it is confirmed."""

    track_id: str
    cls: str
    model_class: str
    box_xyxy: BoxTuple
    score: float
    confirmed: bool


@dataclass(frozen=True, slots=True)
class FrameAnalysis:
    """What one frame says. `counts` has every zone ("" = whole picture) and counted class, zeros included."""

    counts: dict[tuple[str, str], int]
    crossings: list[Crossing] = field(default_factory=list)
    new_uniques: dict[str, int] = field(default_factory=dict)
    closed: list[ClosedTrack] = field(default_factory=list)
    tracks: list[TrackView] = field(default_factory=list)
    score_sums: dict[tuple[str, str], float] = field(default_factory=dict)  # of what `counts` counted


def new_track_id() -> str:
    """An id that no other camera or run has."""
    return str(uuid.uuid4())


class CameraAnalysis:
    """The analysis of one camera. Not thread-safe.

    `invalid_detections` counts boxes that were no boxes (NaN, infinite, empty, upside down, outside the
    picture); `out_of_order_frames` counts frames not later than the one before, which are counted for
    presence only.
    """

    def __init__(
        self,
        camera: CountedCamera,
        settings: TrackerSettings | None = None,
        new_id: Callable[[], str] = new_track_id,
    ) -> None:
        self._settings = settings or TrackerSettings()
        self._interval_s = 1.0 / camera.fps
        self._bottom = camera.anchor == "bottom"
        self._min_scores = {cls: group.min_score for cls, group in camera.classes.items()}
        self._model_classes = {cls: frozenset(group.of) for cls, group in camera.classes.items()}
        self._zones = ZoneCounter(camera.zones)
        self._lines = {cls: LineCounter(camera.lines) for cls in self._min_scores}
        self.tracked = self._interval_s <= self._settings.max_interval_s
        self.invalid_detections = 0
        self.out_of_order_frames = 0
        self._last_s = -math.inf
        self._trackers = {
            cls: Tracker(
                self._settings,
                min_score=min_score,
                interval_s=self._interval_s,
                bottom_anchor=self._bottom,
                new_id=new_id,
            )
            for cls, min_score in self._min_scores.items()
        }

    @property
    def wanted_min_score(self) -> float:
        """The score from which on detections should be asked for: weak ones keep tracks alive."""
        lowest = min(self._min_scores.values(), default=1.0)
        return min(lowest, self._settings.low_score) if self.tracked else lowest

    def process(self, captured_at_s: float, detections: Detections) -> FrameAnalysis:
        """Take the detections of the frame captured at `captured_at_s` (unix seconds)."""
        boxes, scores, names = self._valid(detections)
        result = FrameAnalysis(counts={})
        back_s = self._last_s - captured_at_s
        if back_s > CLOCK_STEP_S:  # the clock was set back: no track can be continued
            result.closed.extend(self.close(captured_at_s))
            self._last_s = -math.inf
        in_order = captured_at_s > self._last_s
        if not in_order:
            self.out_of_order_frames += 1
        since_s = captured_at_s - self._last_s
        watched_s = min(since_s, WATCHED_INTERVALS * self._interval_s)
        for cls, min_score in self._min_scores.items():
            observed = self._observed(cls, boxes, scores, names)
            counted = observed.scores >= min_score
            if self.tracked and in_order:
                weak = self._track(cls, captured_at_s, watched_s, observed, result)
                counted[weak] = True
            self._count(cls, observed, counted, result)
        if in_order:
            self._last_s = captured_at_s
        return result

    def missed(self, captured_at_s: float) -> None:
        """A tick whose frame was dropped. Nobody looked, so nothing is concluded from it: tracks wait.

        The next frame's time says how long nobody looked; calling this is allowed, not needed.
        """

    def close(self, now_s: float) -> list[ClosedTrack]:
        """End everything; the confirmed tracks that were still open.

        Who stands on a line at that moment has not crossed it. The analysis may be used on afterwards.
        """
        closed = []
        for cls, tracker in self._trackers.items():
            for track in tracker.close():
                self._lines[cls].forget(track.track_id)
                closed.append(_closed(track, cls))
        return closed

    def _valid(self, detections: Detections) -> tuple[FloatArray, FloatArray, list[str]]:
        """Boxes cut at the picture's border; what is no box is dropped and counted."""
        raw = np.asarray(detections.boxes_xyxy, dtype=np.float64).reshape(-1, 4)
        scores = np.asarray(detections.scores, dtype=np.float64)
        names = list(detections.class_names)
        if not len(raw) == len(scores) == len(names):
            raise ValueError(
                "expected as many boxes as scores and class names, "
                f"got {len(raw)}, {len(scores)} and {len(names)}"
            )
        if not names:
            return raw, scores, names
        boxes = np.clip(raw, 0.0, 1.0)
        valid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        valid &= np.isfinite(raw).all(axis=1) & np.isfinite(scores)
        if valid.all():
            return boxes, scores, names
        self.invalid_detections += int(np.count_nonzero(~valid))
        return boxes[valid], scores[valid], [name for name, good in zip(names, valid, strict=True) if good]

    def _observed(
        self, cls: str, boxes: FloatArray, scores: FloatArray, names: Sequence[str]
    ) -> Observations:
        """The detections of a counted class, best score first, without duplicates."""
        settings = self._settings
        model_classes, least = self._model_classes[cls], min(settings.low_score, self._min_scores[cls])
        score_list = scores.tolist()
        at = [i for i, name in enumerate(names) if name in model_classes and score_list[i] >= least]
        keep = without_duplicates(
            [tuple(box) for box in boxes[at].tolist()],
            [score_list[i] for i in at],
            [names[i] for i in at],
            same_class_iou=settings.same_class_iou,
            other_class_iou=settings.other_class_iou,
            part_inside=settings.part_inside,
        )
        kept = [at[i] for i in keep]
        return Observations(boxes[kept], scores[kept], tuple(names[i] for i in kept))

    def _track(
        self, cls: str, time_s: float, watched_s: float, observed: Observations, result: FrameAnalysis
    ) -> list[int]:
        step = self._trackers[cls].step(time_s, watched_s, observed)
        lines = self._lines[cls]
        result.new_uniques[cls] = len(step.confirmed)
        for track in step.seen:
            if track.confirmed:
                self._crossed(cls, track, lines.advance(track.track_id, track.path), result)
                track.path.clear()
            result.tracks.append(_view(track, cls))
        for track in step.lost + step.closed:
            self._crossed(cls, track, lines.settle(track.track_id), result)
        for track in step.closed:
            lines.forget(track.track_id)
            result.closed.append(_closed(track, cls))
        return step.weak_used

    def _crossed(self, cls: str, track: Track, found: list[LineCrossing], result: FrameAnalysis) -> None:
        for c in found:
            result.crossings.append(Crossing(c.line, cls, track.track_id, c.direction, c.time_s))

    def _count(self, cls: str, observed: Observations, counted: np.ndarray, result: FrameAnalysis) -> None:
        boxes = observed.boxes_xyxy[counted]
        # A box cut by the picture's lower edge still stands in a zone that is drawn down to it.
        y = np.minimum(boxes[:, 3], INSIDE) if self._bottom else (boxes[:, 1] + boxes[:, 3]) * 0.5
        found = self._zones.count((boxes[:, 0] + boxes[:, 2]) * 0.5, y, observed.scores[counted])
        for zone, (number, score_sum) in found.items():
            result.counts[zone, cls] = number
            result.score_sums[zone, cls] = score_sum


def _view(track: Track, cls: str) -> TrackView:
    return TrackView(
        track.track_id, cls, track.model_class, track.last_box, track.last_score, track.confirmed
    )


def _closed(track: Track, cls: str) -> ClosedTrack:
    return ClosedTrack(
        track.track_id,
        cls,
        track.model_class,
        track.first_seen_s,
        track.last_seen_s,
        track.hits,
        track.score_max,
        track.first_box,
        track.last_box,
    )
