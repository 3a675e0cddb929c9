"""Coming in and going out through the picture's border.

Nobody appears or vanishes in the middle of a street: the border is where objects begin and end, and this
module tells the two apart. A box at the border is cut by it, so it is the inner edge that moves.
"""

from framegrid_ingest.track import BoxTuple, Track, TrackerSettings


def area(box: BoxTuple) -> float:
    """Width times height, relative to the picture."""
    return (box[2] - box[0]) * (box[3] - box[1])


def depths(box: BoxTuple) -> tuple[float, float, float, float]:
    """How far the box reaches into the picture from the left, top, right and bottom border."""
    return box[2], box[3], 1.0 - box[0], 1.0 - box[1]


def sides_touched(box: BoxTuple, border: float) -> tuple[bool, bool, bool, bool]:
    """Which borders the box touches: left, top, right, bottom."""
    return box[0] <= border, box[1] <= border, box[2] >= 1.0 - border, box[3] >= 1.0 - border


def at_border(box: BoxTuple, border: float) -> bool:
    """Does the box touch the picture's border?"""
    return box[0] <= border or box[1] <= border or box[2] >= 1.0 - border or box[3] >= 1.0 - border


def is_leaving(track: Track, settings: TrackerSettings) -> bool:
    """Was the track last seen at the border, on its way out, or is it expected beyond it by now?"""
    motion = track.motion
    if not (0.0 < motion.x < 1.0 and 0.0 < motion.y < 1.0 + motion.h / 2):
        return True
    if track.last_seen_s - track.first_seen_s < settings.settle_s:
        return False  # it has just come in; its speed is not known well enough
    outward = _outward_speeds(track)
    fast = settings.leaving_speed * track.seen_at[2]
    touched = sides_touched(track.last_box, settings.border)
    if any(speed > fast for speed, at in zip(outward, touched, strict=True) if at):
        return True
    half = motion.w / 2  # unseen, it may have reached the side meanwhile
    return (motion.x - half <= 0.0 and outward[0] > fast) or (motion.x + half >= 1.0 and outward[2] > fast)


def is_entering(track: Track, settings: TrackerSettings) -> bool:
    """Was the young track born at the border, and has it come further in since?"""
    touched = sides_touched(track.first_box, settings.border)
    gain = settings.entering_gain * track.motion.scale
    return any(
        now - first > gain
        for now, first, at in zip(depths(track.last_box), depths(track.first_box), touched, strict=True)
        if at
    )


def note_exit(track: Track, settings: TrackerSettings) -> None:
    """Watch a track go out; to be called after each of its detections.

    `track.exit_side` is the border it is going out through (-1: none), `track.exit_depth` how little of it
    there was to see, `track.exit_at` the number of its hits then.
    """
    box = track.last_box
    if not at_border(box, settings.border):
        if track.exit_side < 0 or track.hits - track.exit_at > settings.exit_forget_hits:
            track.exit_side = -1
            track.free_size = (box[2] - box[0], box[3] - box[1])
        return
    side = track.exit_side
    if side < 0:
        if track.free_size is None:
            return  # it has not been whole yet
        fast = settings.leaving_speed * track.motion.scale
        speeds = _outward_speeds(track)
        for k, at in enumerate(sides_touched(box, settings.border)):
            if at and speeds[k] > fast:
                track.exit_side, track.exit_depth, track.exit_at = k, depths(box)[k], track.hits
                track.exit_time_s = track.last_seen_s
                return
    elif depths(box)[side] <= track.exit_depth:
        track.exit_depth, track.exit_at = depths(box)[side], track.hits
        track.exit_time_s = track.last_seen_s


def has_turned(track: Track, confirm_hits: int, settings: TrackerSettings) -> bool:
    """Is what comes in here somebody else than who was going out?

    Where one leaves, the next may enter in the same frame, and no motion model tells them apart. But who was
    more than half gone and then grows into the picture again is the next one.
    """
    side = track.exit_side
    if side < 0 or track.free_size is None or track.hits - track.exit_at < confirm_hits:
        return False
    length = track.free_size[side % 2]
    gained = depths(track.last_box)[side] - track.exit_depth
    return track.exit_depth < settings.exit_share * length and gained > settings.turn_share * length


def _outward_speeds(track: Track) -> tuple[float, float, float, float]:
    vx, vy = track.seen_speed
    return -vx, -vy, vx, vy
