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

from framegrid_ingest.border import has_turned, is_leaving, note_exit
from framegrid_ingest.evidence import is_new, is_ready, upon, weigh
from framegrid_ingest.geometry import FloatArray
from framegrid_ingest.hidden import unhidden
from framegrid_ingest.matching import Observations, crowded_noise, match_strong, match_weak
from framegrid_ingest.motion import Motion
from framegrid_ingest.relinking import best_relink
from framegrid_ingest.track import BoxTuple, Track, TrackerSettings


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
        fitting = round(settings.confirm_s / interval_s) + 1
        self._confirm_hits = max(settings.least_confirm_hits, min(settings.confirm_hits, fitting))
        self._provisional_unseen_s = max(settings.provisional_unseen_s, 2.2 * interval_s)
        self._leaving_unseen_s = max(settings.leaving_unseen_s, 1.2 * interval_s)
        self._coast_s = max(settings.coast_s, 2.2 * interval_s)

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
        settings, bottom = self._settings, self._bottom_anchor
        is_strong = (observed.scores >= self._min_score).tolist()
        strong = [i for i, yes in enumerate(is_strong) if yes]
        weak = [i for i, yes in enumerate(is_strong) if not yes]
        tracks = [track for track in self._tracks if not track.leaving]
        pairs = match_strong(tracks, strong, observed, settings, bottom_anchor=bottom)
        taken = {index for _, index in pairs}
        if weak:
            matched = {track.order for track, _ in pairs}
            waiting = [track for track in tracks if track.order not in matched]
            pairs += match_weak(waiting, weak, observed, settings, bottom_anchor=bottom)
        noise_factors = crowded_noise(pairs, self._tracks, observed, settings, bottom_anchor=bottom)
        for (track, index), noise_factor in zip(pairs, noise_factors, strict=True):
            self._update(track, index, observed, noise_factor)
        seen = [track for track, _ in pairs]
        weak_used = [index for track, index in pairs if track.confirmed and not is_strong[index]]
        seen += [self._bear(time_s, index, observed) for index in strong if index not in taken]
        weigh(seen, settings)
        ended, confirmed = self._split(seen)
        confirmed += self._relink(seen)
        closed += ended + self._retire()
        return Step(confirmed, seen, lost, closed, weak_used)

    def close(self) -> list[Track]:
        """End all tracks; the confirmed ones are returned."""
        closed = [track for track in self._tracks + self._lost if track.confirmed]
        self._tracks, self._lost = [], []
        return closed

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

    def _update(self, track: Track, index: int, observed: Observations, noise_factor: float) -> None:
        box = _box(observed.boxes_xyxy, index)
        motion, settings = track.motion, self._settings
        whole, hidden = unhidden(box, motion, settings, bottom_anchor=self._bottom_anchor)
        x, y = self._anchor(whole)
        follow_s = settings.hidden_follow_s if hidden else settings.motion.size_follow_s
        motion.update(
            x,
            y,
            box[2] - box[0],
            box[3] - box[1],
            follow_s=follow_s,
            dt_s=motion.time_s - track.last_seen_s,
            noise_factor=noise_factor,
        )
        track.hit(float(observed.scores[index]), observed.class_names[index], box)
        note_exit(track, settings)

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

    def _relink(self, seen: list[Track]) -> list[Track]:
        """Confirm what is ready, or join it with the lost track that it continues; returns the truly new."""
        new = []
        for track in sorted(seen, key=lambda t: t.order):
            if not is_ready(track, self._confirm_hits, self._started_s, self._settings):
                continue
            candidates = [t for t in self._tracks if t.confirmed and t.unseen_s > 0.0] + self._lost
            old = best_relink(track, candidates, self._settings)
            if old is None and not is_new(track, self._settings):
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


def _box(boxes_xyxy: FloatArray, index: int) -> BoxTuple:
    x1, y1, x2, y2 = boxes_xyxy[index].tolist()
    return x1, y1, x2, y2
