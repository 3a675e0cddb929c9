"""Is an object that is about to be counted one that was lost before?"""

import math
from collections.abc import Sequence

from framegrid_ingest.geometry import segment_distance
from framegrid_ingest.track import BoxTuple, PathPoint, Track, TrackerSettings


def box_at_border(box: BoxTuple, border: float) -> bool:
    """Does the box touch the picture's border?"""
    return box[0] <= border or box[1] <= border or box[2] >= 1.0 - border or box[3] >= 1.0 - border


def touches_border(track: Track, settings: TrackerSettings) -> bool:
    """Was the track last seen at the border, or is it expected beyond it by now?"""
    motion = track.motion
    beyond = not (0.0 < motion.x < 1.0 and 0.0 < motion.y < 1.0 + motion.h / 2)
    return beyond or box_at_border(track.last_box, settings.border)


def _share_inside(box: BoxTuple, other: BoxTuple) -> float:
    """Which share of the box's area lies inside the other."""
    w = min(box[2], other[2]) - max(box[0], other[0])
    h = min(box[3], other[3]) - max(box[1], other[1])
    return max(w, 0.0) * max(h, 0.0) / ((box[2] - box[0]) * (box[3] - box[1]))


def best_relink(new: Track, candidates: Sequence[Track], settings: TrackerSettings) -> Track | None:
    """The lost track that `new` most plausibly continues, or None.

    Between its last sight and the birth of `new` the lost object may have walked on or have stopped anywhere
    on the way: the birth must lie near the segment from where it was to where it would be by now, nearer the
    shorter the gap, and have a similar size.
    """
    best: tuple[float, int] | None = None
    found = None
    for track in candidates:
        gap_s = new.first_seen_s - track.last_seen_s
        if gap_s <= 0.0:
            continue
        cost = _relink_cost(track, gap_s, new.path[0], new.first_box, settings)
        if cost < 1.0 and (best is None or (cost, track.order) < best):
            best, found = (cost, track.order), track
    return found


def _relink_cost(
    lost: Track, gap_s: float, birth: PathPoint, first_box: BoxTuple, settings: TrackerSettings
) -> float:
    """Below 1 when a re-link is allowed; 0 for what is left to see of an object that leaves the picture."""
    _, x, y, size = birth
    if gap_s <= settings.remnant_s and _share_inside(first_box, lost.last_box) >= settings.remnant_share:
        return 0.0
    last_x, last_y, last_size = lost.seen_at
    reach_s = settings.motion.coast_fade_s * (1.0 - math.exp(-gap_s / settings.motion.coast_fade_s))
    speed_x, speed_y = lost.seen_speed
    ahead = (last_x + speed_x * reach_s, last_y + speed_y * reach_s)
    distance = segment_distance(x, y, (last_x, last_y), ahead) / last_size
    allowed = settings.relink_base + settings.relink_slope * min(gap_s, settings.relink_slope_cap_s)
    ratio = abs(math.log(size / last_size)) / settings.relink_size
    return max(distance / allowed, ratio)
