"""When a young track is an object: what speaks for it, and how much is asked for.

How much depends on where it was born. Who comes in through the border is expected. Nobody appears in the
middle of a street: there it may be a ghost, a second box of somebody (detectors draw them, of a part or with
the shadow, for seconds), or somebody who comes out from behind another. Evidence is a detection where no
surer track is.
"""

from collections.abc import Iterable, Sequence

from framegrid_ingest.border import area, at_border, is_entering
from framegrid_ingest.track import BoxTuple, Track, TrackerSettings


def upon(box: BoxTuple, tracks: Sequence[Track], settings: TrackerSettings) -> Track | None:
    """The track on whose last box `box` lies, so that it may be a second box of the same object."""
    for track in tracks:
        other = track.last_box
        w = min(box[2], other[2]) - max(box[0], other[0])
        h = min(box[3], other[3]) - max(box[1], other[1])
        if w <= 0.0 or h <= 0.0:
            continue
        shared, own_area, other_area = w * h, area(box), area(other)
        if shared >= settings.doubtful_inside * min(own_area, other_area):
            return track
        if shared >= settings.doubtful_iou * (own_area + other_area - shared):
            return track
    return None


def weigh(seen: Iterable[Track], settings: TrackerSettings) -> None:
    """Add a frame's evidence to the unconfirmed among the tracks that were seen in it."""
    surer: list[Track] = []
    young: list[Track] = []
    for track in seen:
        (surer if track.confirmed else young).append(track)
    for track in sorted(young, key=lambda t: (-t.score_max, t.order)):
        if upon(track.last_box, surer, settings) is None:
            track.evidence += 1.0
        elif track.parent is None:
            track.evidence += settings.doubtful_weight
        surer.append(track)


def is_ready(track: Track, needed: float, started_s: float, settings: TrackerSettings) -> bool:
    """Has the track been seen enough to be an object, new or one that was lost?

    `needed` is the evidence asked for, `started_s` when the camera was first seen: then everybody is new.
    """
    if track.confirmed or track.evidence < needed or track.hits < settings.confirm_share * track.frames:
        return False
    wait_s = settings.confirm_s
    if track.first_seen_s - started_s > settings.start_s and not is_entering(track, settings):
        at_edge = at_border(track.first_box, settings.border)
        wait_s = max(wait_s, settings.rest_confirm_s if at_edge else settings.middle_confirm_s)
    return track.last_seen_s - track.first_seen_s >= wait_s


def is_new(track: Track, settings: TrackerSettings) -> bool:
    """Is the evidence of a ready track enough for a new object, where there was another already?"""
    if track.parent is None or is_entering(track, settings):
        return True
    return track.evidence >= settings.upon_evidence
