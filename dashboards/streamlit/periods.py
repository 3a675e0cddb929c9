"""Which stretch of time the page shows, and the grid of buckets in it. Pure; all times aware."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class ScaleChoice:
    """One entry of the scale menu: windows for the live view, and the longest range that stays readable."""

    scale: str
    label: str
    step: timedelta
    windows: dict[str, timedelta]
    longest: timedelta
    refresh_s: float


MINUTES, HOURS, DAYS = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

SCALES = {
    "5 s": ScaleChoice(
        "5s",
        "5 seconds",
        timedelta(seconds=5),
        {"5 min": 5 * MINUTES, "15 min": 15 * MINUTES, "1 h": HOURS},
        6 * HOURS,
        2.0,
    ),
    "minute": ScaleChoice(
        "minute", "minute", MINUTES, {"1 h": HOURS, "6 h": 6 * HOURS, "24 h": DAYS}, 3 * DAYS, 5.0
    ),
    "hour": ScaleChoice(
        "hour", "hour", HOURS, {"24 h": DAYS, "7 d": 7 * DAYS, "30 d": 30 * DAYS}, 90 * DAYS, 20.0
    ),
    "day": ScaleChoice(
        "day", "day", DAYS, {"30 d": 30 * DAYS, "90 d": 90 * DAYS, "1 y": 365 * DAYS}, 1830 * DAYS, 60.0
    ),
}
"""By what the menu shows."""


def zone(name: str) -> ZoneInfo:
    """The time zone; UTC when this machine does not know it though the database did."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def bucket_start(at: datetime, choice: ScaleChoice, timezone: ZoneInfo) -> datetime:
    """Start of the bucket that holds `at`, as the store cuts it: UTC multiples, but days are local."""
    if choice.scale == "day":
        return at.astimezone(timezone).replace(hour=0, minute=0, second=0, microsecond=0)
    step_s = choice.step.total_seconds()
    return datetime.fromtimestamp(at.timestamp() // step_s * step_s, tz=timezone)


def grid(start: datetime, end: datetime, choice: ScaleChoice, timezone: ZoneInfo) -> list[datetime]:
    """Starts of all buckets that touch start..end, in the camera's time zone."""
    starts = [bucket_start(start, choice, timezone)]
    while True:
        # A day is added on the wall clock, everything else in real time: wrong at a clock change otherwise.
        if choice.scale == "day":
            following = starts[-1] + choice.step
        else:
            following = datetime.fromtimestamp(
                starts[-1].timestamp() + choice.step.total_seconds(), tz=timezone
            )
        if following >= end:
            return starts
        starts.append(following)


def clipped(start: datetime, end: datetime, choice: ScaleChoice) -> tuple[datetime, bool]:
    """The start that keeps the range readable at this scale, and whether it had to move."""
    earliest = end - choice.longest
    return (earliest, True) if start < earliest else (start, False)


def spoken_age(age_s: float) -> str:
    """`3 s`, `5 min`, `2 h`, `4 d`."""
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * length_s:
            return f"{age_s / length_s:.0f} {unit}"
    return f"{max(0.0, age_s):.0f} s"
