"""Is an object that is about to be counted one that was lost before?"""

import math
from collections.abc import Sequence

from framegrid_ingest.border import area, is_entering
from framegrid_ingest.geometry import segment_distance
from framegrid_ingest.track import BoxTuple, Track, TrackerSettings


def _is_remnant(box: BoxTuple, lost: Track, settings: TrackerSettings) -> bool:
    """Does most of the box lie where the lost object was, or between there and where it went out?"""
    give = settings.border
    x1, y1, x2, y2 = lost.last_box
    if lost.leaving:
        vx, vy = lost.seen_speed
        if abs(vx) > abs(vy):
            x1, x2 = (0.0, x2) if vx < 0.0 else (x1, 1.0)
        else:
            y1, y2 = (0.0, y2) if vy < 0.0 else (y1, 1.0)
    w = min(box[2], x2 + give) - max(box[0], x1 - give)
    h = min(box[3], y2 + give) - max(box[1], y1 - give)
    return max(w, 0.0) * max(h, 0.0) >= settings.remnant_share * area(box)


def best_relink(new: Track, candidates: Sequence[Track], settings: TrackerSettings) -> Track | None:
    """The lost track that `new` most plausibly continues, or None.

    Between its last sight and the birth of `new` the lost object may have walked on or have stopped anywhere
    on the way: the birth must lie near the segment from where it was to where it would be by now, nearer the
    shorter the gap, and have a similar size. Who left through the border does not come back, but the last of
    him may be seen once more; who came in through the border is nobody's continuation.
    """
    grows = area(new.last_box) > settings.remnant_growth * area(new.first_box)
    came_in = is_entering(new, settings)
    if new.parent in candidates and not came_in:
        return new.parent  # two boxes of one object, of which this one went on
    best: tuple[float, int] | None = None
    found = None
    for track in candidates:
        gap_s = new.first_seen_s - track.last_seen_s
        if gap_s <= 0.0:
            continue
        if (
            not (grows or came_in)
            and gap_s <= settings.remnant_s
            and _is_remnant(new.first_box, track, settings)
        ):
            cost = 0.0
        elif track.leaving or (came_in and gap_s > settings.remnant_s):
            continue
        else:
            cost = _relink_cost(track, new, settings)
        if cost < 1.0 and (best is None or (cost, track.order) < best):
            best, found = (cost, track.order), track
    return found


def _relink_cost(lost: Track, new: Track, settings: TrackerSettings) -> float:
    """Below 1 when a re-link is allowed."""
    _, x, y, size = new.path[0]
    last_x, last_y, last_size = lost.seen_at
    gap_s = new.first_seen_s - lost.last_seen_s
    speed_x, speed_y = lost.cruise_speed()
    if gap_s - settings.relink_outside_s > _time_to_border(last_x, last_y, speed_x, speed_y):
        return math.inf  # it has long walked out of the picture, hidden by what hid it
    ahead = (last_x + speed_x * gap_s, last_y + speed_y * gap_s)
    far_s = settings.relink_faster * gap_s
    farthest = (last_x + speed_x * far_s, last_y + speed_y * far_s)
    aside = segment_distance(x, y, (last_x, last_y), farthest) / last_size
    along = math.hypot(x - ahead[0], y - ahead[1]) / last_size
    near = settings.relink_base + settings.relink_slope * min(gap_s, settings.relink_slope_cap_s)
    ratio = abs(math.log(size / last_size)) / settings.relink_size
    cost = max(aside / near, ratio) + settings.relink_along * min(along / (near + gap_s), 1.0)
    new_x, new_y = new.cruise_speed()
    moving = settings.relink_moving * last_size
    both_move = math.hypot(speed_x, speed_y) > moving and math.hypot(new_x, new_y) > moving
    if both_move and speed_x * new_x + speed_y * new_y < 0.0:
        cost += settings.relink_opposed
    return cost


def _time_to_border(x: float, y: float, vx: float, vy: float) -> float:
    """Seconds until a point in the picture leaves it."""
    times = [math.inf]
    for at, speed in ((x, vx), (y, vy)):
        if speed > 0.0:
            times.append((1.0 - at) / speed)
        elif speed < 0.0:
            times.append(-at / speed)
    return min(times)
