"""Tracks of one counted class: who is who from frame to frame, and who is new.

A multi-object tracker in the manner of ByteTrack (confident detections first, then weak ones for the tracks
still without) and OC-SORT (what was observed counts more than what was extrapolated), but over *time*: frames
may be irregular, dropped or slow. It keeps these promises:

- a track is confirmed once, after enough detections, and only then is it a new unique object;
- an object that comes back from behind another (or behind a pole, or from a stop there) is linked to its lost
  track before it is confirmed, so it is not counted again;
- whoever left through the border of the picture is gone: who comes in there next is somebody else;
- time that nobody watched (dropped frames) is no evidence that an object has gone.

Run by one camera's analysis, in one thread; pure, no clock of its own.
Sources: Zhang et al., "ByteTrack", ECCV 2022; Cao et al., "Observation-Centric SORT", CVPR 2023.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from framegrid_ingest.association import assign, pair_costs
from framegrid_ingest.border import at_border, has_turned, is_entering, is_leaving, note_exit
from framegrid_ingest.geometry import FloatArray, overlap
from framegrid_ingest.hidden import unhidden
from framegrid_ingest.motion import Motion
from framegrid_ingest.relinking import best_relink, upon
from framegrid_ingest.track import BoxTuple, Track, TrackerSettings


@dataclass(frozen=True, slots=True)
class Observations:
    """One frame's detections of one counted class, duplicates removed."""

    boxes_xyxy: FloatArray  # (n, 4) float64, relative
    scores: FloatArray  # (n,)
    class_names: tuple[str, ...]  # of the model


@dataclass(frozen=True, slots=True)
class Step:
    """What one frame changed."""

    confirmed: list[Track]  # new unique objects
    seen: list[Track]  # tracks with a detection in this frame, unconfirmed ones too
    lost: list[Track]  # confirmed tracks out of sight for long; a later one may turn out to continue them
    closed: list[Track]  # confirmed tracks that ended
    weak_used: list[int]  # weak detections that continue a confirmed track


class Tracker:
    """Follows the objects of one counted class through the frames of one camera.

    `min_score`: from here on a detection may begin a track. `interval_s`: nominal time between samples.
    `bottom_anchor`: the point that moves is the middle of a box's bottom edge, else its centre.
    `new_id` makes the ids of confirmed tracks.
    """

    def __init__(
        self,
        settings: TrackerSettings,
        *,
        min_score: float,
        interval_s: float,
        bottom_anchor: bool,
        new_id: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._min_score = min_score
        self._bottom_anchor = bottom_anchor
        self._new_id = new_id
        self._tracks: list[Track] = []  # associated frame by frame
        self._lost: list[Track] = []  # confirmed, unseen for long; may be re-linked
        self._born = 0
        self._started_s = math.inf
        slow = interval_s > settings.slow_interval_s
        self._confirm_hits = settings.slow_confirm_hits if slow else settings.confirm_hits
        self._provisional_unseen_s = max(settings.provisional_unseen_s, 2.2 * interval_s)
        self._leaving_unseen_s = max(settings.leaving_unseen_s, 1.2 * interval_s)
        self._coast_s = max(settings.coast_s, 2.2 * interval_s)
        self._floor_variance = 2.0 * settings.motion.measurement_noise**2

    def step(self, time_s: float, watched_s: float, observed: Observations) -> Step:
        """Take one frame, captured at `time_s` (later than the one before).

        `watched_s` is how much of the time since then the camera was watched.
        """
        self._started_s = min(self._started_s, time_s)
        lost, closed = self._put_aside(time_s)
        for track in self._tracks:
            track.motion.predict(time_s, coasting=track.unseen_s > 0.0)
            track.unseen_s += watched_s
            track.frames += 1
            track.frames_unseen += 1
            # Beyond the border already: whoever appears there now is somebody else.
            track.leaving = track.leaving or not 0.0 < track.motion.x < 1.0
        seen: list[Track] = []
        weak_used: list[int] = []
        strong = np.flatnonzero(observed.scores >= self._min_score)
        waiting, free = self._match_strong(strong, observed, seen)
        if waiting and len(strong) < len(observed.scores):
            weak = np.flatnonzero(observed.scores < self._min_score)
            weak_used = self._match_weak(waiting, weak, observed, seen)
        for i in free:
            seen.append(self._bear(time_s, i, observed))
        self._weigh(seen)
        ended, confirmed = self._split(seen)
        confirmed += self._relink([track for track in seen if self._ready(track)], seen)
        closed += ended + self._retire()
        return Step(confirmed, seen, lost, closed, weak_used)

    def close(self) -> list[Track]:
        """End all tracks; the confirmed ones are returned."""
        closed = [track for track in self._tracks + self._lost if track.confirmed]
        self._tracks, self._lost = [], []
        return closed

    def _match_strong(
        self, strong: np.ndarray, observed: Observations, seen: list[Track]
    ) -> tuple[list[Track], list[int]]:
        """Assign confident detections to all tracks; returns the tracks without one and what is left over."""
        tracks = [track for track in self._tracks if not track.leaving]
        if not tracks or not len(strong):
            return list(tracks), strong.tolist()
        settings, boxes = self._settings, observed.boxes_xyxy[strong]
        cut = (boxes[:, :2] <= settings.border) | (boxes[:, 2:] >= 1.0 - settings.border)
        cost = pair_costs(
            self._predictions(tracks),
            centres(boxes),
            size_noise=np.where(cut, settings.border_size_factor, 1.0) * settings.size_noise,
            extra_variance=np.where(cut, settings.border_noise**2, 0.0),
            floor_variance=self._floor_variance,
        )
        away = np.array([track.confirmed and track.frames_unseen > 1 for track in tracks])
        if away.any():
            cost += settings.doubtful_bias * away[:, None] * self._doubtful(boxes)[None, :]
        pairs = assign(cost, self._settings.match_limit)
        taken, busy = set(), set()
        for row, column in pairs:
            self._update(tracks[row], int(strong[column]), observed)
            seen.append(tracks[row])
            busy.add(row)
            taken.add(column)
        waiting = [track for row, track in enumerate(tracks) if row not in busy]
        return waiting, [int(i) for column, i in enumerate(strong) if column not in taken]

    def _doubtful(self, boxes: FloatArray) -> FloatArray:
        """1 for each box (n, 4), best first, that may be a second box of an object that has a better one."""
        result = np.zeros(len(boxes))
        if len(boxes) > 1:
            better = np.triu(overlap(boxes, boxes), 1).max(axis=0)
            result[better >= self._settings.doubtful_iou] = 1.0
        return result

    def _match_weak(
        self, waiting: list[Track], weak: np.ndarray, observed: Observations, seen: list[Track]
    ) -> list[int]:
        """Let weak detections continue tracks that lie where they are."""
        used = []
        overlaps = overlap(self._predicted_boxes(waiting), observed.boxes_xyxy[weak])
        for row, column in assign(-overlaps, -self._settings.weak_iou):
            track, index = waiting[row], int(weak[column])
            self._update(track, index, observed)
            seen.append(track)
            if track.confirmed:
                used.append(index)
        return used

    def _predictions(self, tracks: list[Track]) -> FloatArray:
        noise = self._settings.motion.measurement_noise**2
        bias = self._settings.provisional_bias
        lift = 0.5 if self._bottom_anchor else 0.0
        return np.array(
            [
                (m.x, m.y - lift * m.h, m.w, m.h, m.p00 + noise, 0.0 if track.confirmed else bias)
                for track in tracks
                for m in (track.motion,)
            ]
        )

    def _predicted_boxes(self, tracks: list[Track]) -> FloatArray:
        lift = 0.5 if self._bottom_anchor else 0.0
        rows = []
        for track in tracks:
            m = track.motion
            cy = m.y - lift * m.h
            rows.append((m.x - m.w / 2, cy - m.h / 2, m.x + m.w / 2, cy + m.h / 2))
        return np.array(rows)

    def _anchor(self, box: BoxTuple) -> tuple[float, float]:
        return (box[0] + box[2]) / 2, box[3] if self._bottom_anchor else (box[1] + box[3]) / 2

    def _bear(self, time_s: float, index: int, observed: Observations) -> Track:
        box = _box(observed.boxes_xyxy, index)
        x, y = self._anchor(box)
        motion = Motion(time_s, x, y, box[2] - box[0], box[3] - box[1], settings=self._settings.motion)
        track = Track(self._born, motion, box)
        recent = [t for t in self._tracks if t.confirmed and t.unseen_s <= self._settings.remnant_s]
        track.parent = upon(box, recent, self._settings)
        self._born += 1
        track.hit(float(observed.scores[index]), observed.class_names[index], box)
        self._tracks.append(track)
        return track

    def _update(self, track: Track, index: int, observed: Observations) -> None:
        box = _box(observed.boxes_xyxy, index)
        motion, settings = track.motion, self._settings
        whole, hidden = unhidden(box, motion, settings, bottom_anchor=self._bottom_anchor)
        x, y = self._anchor(whole)
        follow_s = settings.hidden_follow_s if hidden else settings.motion.size_follow_s
        motion.update(
            x, y, box[2] - box[0], box[3] - box[1], follow_s=follow_s, dt_s=motion.time_s - track.last_seen_s
        )
        track.hit(float(observed.scores[index]), observed.class_names[index], box)
        note_exit(track, settings)

    def _weigh(self, seen: list[Track]) -> None:
        """Add this frame's evidence to the unconfirmed tracks in it."""
        surer = [track for track in seen if track.confirmed]
        young = [track for track in seen if not track.confirmed]
        for track in sorted(young, key=lambda t: (-t.score_max, t.order)):
            if upon(track.last_box, surer, self._settings) is None:
                track.evidence += 1.0
            elif track.parent is None:
                track.evidence += self._settings.doubtful_weight
            surer.append(track)

    def _ready(self, track: Track) -> bool:
        """Has the track been seen enough, for where it was born, to be an object?"""
        if track.confirmed or track.evidence < self._confirm_hits:
            return False
        settings = self._settings
        age_s = track.last_seen_s - track.first_seen_s
        if track.hits < settings.confirm_share * track.frames:
            return False
        wait_s = settings.confirm_s
        if track.first_seen_s - self._started_s > settings.start_s and not is_entering(track, settings):
            at_edge = at_border(track.first_box, settings.border)
            wait_s = max(wait_s, settings.rest_confirm_s if at_edge else settings.middle_confirm_s)
        return age_s >= wait_s

    def _split(self, seen: list[Track]) -> tuple[list[Track], list[Track]]:
        """Tell those apart who left and those who came in at the same place: (ended, new)."""
        ended, new = [], []
        for k, track in enumerate(seen):
            if track.confirmed and has_turned(track, self._confirm_hits, self._settings):
                follower = track.split(self._born, self._new_id())
                self._born += 1
                self._tracks[self._tracks.index(track)] = follower
                seen[k] = follower
                ended.append(track)
                new.append(follower)
        return ended, new

    def _is_enough(self, track: Track) -> bool:
        """Is the evidence enough for a new object where there is another already?"""
        if track.parent is None or is_entering(track, self._settings):
            return True
        return track.evidence >= self._settings.upon_evidence

    def _relink(self, ready: list[Track], seen: list[Track]) -> list[Track]:
        """Join tracks that are about to be confirmed with lost ones they continue; returns the truly new."""
        new = []
        for track in sorted(ready, key=lambda t: t.order):
            candidates = [t for t in self._tracks if t.confirmed and t.unseen_s > 0.0] + self._lost
            old = best_relink(track, candidates, self._settings)
            if old is None and not self._is_enough(track):
                continue
            track.parent = None
            if old is None:
                track.confirmed = True
                track.track_id = self._new_id()
                new.append(track)
                continue
            old.absorb(track)
            self._tracks.remove(track)
            if old in self._lost:
                self._lost.remove(old)
                self._tracks.append(old)
            seen[seen.index(track)] = old
        return new

    def _put_aside(self, time_s: float) -> tuple[list[Track], list[Track]]:
        """Before a frame: tracks too long out of sight (watched or not) to be predicted are lost.

        Returns the newly lost, and those lost for so long that they are closed.
        """
        settings = self._settings
        lost = []
        late = [t for t in self._tracks if time_s - t.last_seen_s > self._coast_s]
        if late:
            self._tracks = [t for t in self._tracks if t not in late]
            lost = [t for t in late if t.confirmed]
            self._lost += lost
        if not self._lost:
            return lost, []
        closed = [t for t in self._lost if time_s - t.last_seen_s > settings.relink_s]
        self._lost = [t for t in self._lost if time_s - t.last_seen_s <= settings.relink_s]
        return lost, closed

    def _retire(self) -> list[Track]:
        """After a frame: end what watching it did not find; the confirmed tracks among it."""
        closed: list[Track] = []
        kept: list[Track] = []
        for track in self._tracks:
            if track.unseen_s == 0.0:
                kept.append(track)
            elif track.confirmed:
                track.leaving = track.leaving or is_leaving(track, self._settings)
                gone = track.leaving and track.unseen_s > self._leaving_unseen_s
                (closed if gone else kept).append(track)
            elif track.unseen_s <= self._provisional_unseen_s:
                kept.append(track)
        self._tracks = kept
        return closed


def centres(boxes_xyxy: FloatArray) -> FloatArray:
    """(n, 4) x1 y1 x2 y2 -> (n, 4) centre x, centre y, width, height."""
    result = np.empty_like(boxes_xyxy)
    result[:, :2] = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) * 0.5
    result[:, 2:] = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return result


def _box(boxes_xyxy: FloatArray, index: int) -> BoxTuple:
    x1, y1, x2, y2 = boxes_xyxy[index].tolist()
    return x1, y1, x2, y2
