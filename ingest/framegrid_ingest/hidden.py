"""What a partly hidden object's box would be if nothing hid it."""

from framegrid_ingest.motion import Motion
from framegrid_ingest.track import BoxTuple, TrackerSettings


def unhidden(
    box: BoxTuple, motion: Motion, settings: TrackerSettings, *, bottom_anchor: bool
) -> tuple[BoxTuple, bool]:
    """The whole box, and whether a part of it is hidden.

    A box that became much narrower or lower than its track while one of its edges is where it was expected
    has lost the other edge behind something: the anchor must not jump with it. Not so at the picture's
    border.
    """
    x1, y1, x2, y2 = box
    share = settings.hidden_share
    if x2 - x1 >= share * motion.w and y2 - y1 >= share * motion.h:
        return box, False
    bottom = motion.y if bottom_anchor else motion.y + motion.h / 2
    vertical = _stretched(y1, y2, bottom - motion.h, bottom, settings)
    left = motion.x - motion.w / 2
    horizontal = _stretched(x1, x2, left, left + motion.w, settings)
    if vertical is None and horizontal is None:
        return box, False
    y1, y2 = vertical or (y1, y2)
    x1, x2 = horizontal or (x1, x2)
    return (x1, y1, x2, y2), True


def _stretched(
    low: float, high: float, expected_low: float, expected_high: float, settings: TrackerSettings
) -> tuple[float, float] | None:
    """The interval with its hidden end put back, or None when it is whole."""
    length = expected_high - expected_low
    if high - low >= settings.hidden_share * length:
        return None
    if low <= settings.border or high >= 1.0 - settings.border:
        return None
    low_moved, high_moved = abs(low - expected_low), abs(high - expected_high)
    if min(low_moved, high_moved) >= settings.hidden_edge * length:
        return None
    return (low, low + length) if low_moved < high_moved else (high - length, high)
