"""Counting: who crossed which line in which direction, and who is in which zone.

A line is crossed when the path of an object's anchor point leaves one side, meets the line between its start
and end, and gets clear of it on the other side. Clear means further than a margin that is a share of the
object's size, so an object that stands or sways on the line counts nothing, however long, and one that turns
back counts nothing either; a later return counts in the other direction. The path may have gaps (the object
was hidden): its points are joined by straight lines.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from framegrid_ingest.geometry import FloatArray, Point, points_in_polygon
from framegrid_ingest.track import PathPoint

Direction = Literal["in", "out"]

# How far from the line an anchor must get before a crossing counts, in sizes of the object. A detector's box
# wobbles by 0.05 of its size; three times that is clear of it, and a walker is there within 0.15 s.
CLEAR_MARGIN = 0.15


class LineLike(Protocol):
    """A directed line, as in the camera's configuration."""

    @property
    def name(self) -> str: ...
    @property
    def start(self) -> Point: ...
    @property
    def end(self) -> Point: ...


class ZoneLike(Protocol):
    """A polygon, as in the camera's configuration."""

    @property
    def name(self) -> str: ...
    @property
    def polygon(self) -> Sequence[Point]: ...


@dataclass(frozen=True, slots=True)
class LineCrossing:
    """A counted crossing: `time_s` is when the path met the line, which is before it is known for sure."""

    line: str
    direction: Direction
    time_s: float


class LineWatch:
    """One object against one line. Feed it the object's path; it says when a crossing counts.

    `in` is from side < 0 to side > 0 (from the left hand to the right hand of start -> end, as seen on
    screen).
    """

    __slots__ = ("_distance", "_dx", "_dy", "_length", "_line", "_met", "_point", "_side")

    def __init__(self, line: LineLike) -> None:
        self._line = line
        self._dx, self._dy = line.end[0] - line.start[0], line.end[1] - line.start[1]
        self._length = float(np.hypot(self._dx, self._dy))
        self._side = 0  # -1 or +1: where the object last was for sure (its first sight counts as sure)
        self._distance = 0.0  # signed, of the last point
        self._point: PathPoint | None = None
        self._met: float | None = (
            None  # when the path last met the line, between start and end, on its way over
        )

    def advance(self, point: PathPoint) -> LineCrossing | None:
        """Take the next point of the path; returns the crossing that is now sure, if any."""
        _, x, y, size = point
        start = self._line.start
        distance = (self._dx * (y - start[1]) - self._dy * (x - start[0])) / self._length
        before, self._point = self._point, point
        if before is None:
            self._side = 1 if distance > 0 else -1
            self._distance = distance
            return None
        was_over, is_over = self._distance * self._side < 0, distance * self._side < 0
        if is_over and not was_over:
            self._met = self._meeting(before, self._distance, point, distance)
        elif was_over and not is_over:
            self._met = None
        self._distance = distance
        if not is_over or abs(distance) < CLEAR_MARGIN * size:
            return None
        return self._cross()

    def settle(self) -> LineCrossing | None:
        """The object is out of sight: a line it went over, if only just, was crossed."""
        if self._point is None or self._distance * self._side >= 0:
            return None
        return self._cross()

    def _cross(self) -> LineCrossing | None:
        self._side = -self._side
        met, self._met = self._met, None
        if met is None:  # it went past an end of the line
            return None
        return LineCrossing(self._line.name, "in" if self._side > 0 else "out", met)

    def _meeting(self, a: PathPoint, distance_a: float, b: PathPoint, distance_b: float) -> float | None:
        """When the straight way from a to b meets the line, or None beyond its ends."""
        share = distance_a / (distance_a - distance_b) if distance_a != distance_b else 0.0
        x, y = a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2])
        start = self._line.start
        along = (x - start[0]) * self._dx + (y - start[1]) * self._dy
        if not 0.0 <= along <= self._length * self._length:
            return None
        return a[0] + share * (b[0] - a[0])


class LineCounter:
    """All lines of a camera for all its tracks."""

    def __init__(self, lines: Sequence[LineLike]) -> None:
        self._lines = tuple(lines)
        self._watches: dict[str, tuple[LineWatch, ...]] = {}

    def advance(self, track_id: str, path: Iterable[PathPoint]) -> list[LineCrossing]:
        """Follow a track along the new points of its path."""
        if not self._lines:
            return []
        watches = self._watches.get(track_id)
        if watches is None:
            watches = self._watches[track_id] = tuple(LineWatch(line) for line in self._lines)
        found = []
        for point in path:
            for watch in watches:
                crossing = watch.advance(point)
                if crossing is not None:
                    found.append(crossing)
        return found

    def settle(self, track_id: str) -> list[LineCrossing]:
        """A track is out of sight, perhaps for good: the crossings that this makes sure."""
        watches = self._watches.get(track_id, ())
        return [crossing for watch in watches if (crossing := watch.settle()) is not None]

    def forget(self, track_id: str) -> None:
        """A track has ended."""
        self._watches.pop(track_id, None)


class ZoneCounter:
    """How many anchor points lie in each zone, and their scores; "" is the whole picture."""

    def __init__(self, zones: Sequence[ZoneLike]) -> None:
        self._zones = tuple((zone.name, tuple(zone.polygon)) for zone in zones)

    def count(self, x: FloatArray, y: FloatArray, scores: FloatArray) -> dict[str, tuple[int, float]]:
        """Points per zone and the sum of their scores, zeros included; all are (n,), x and y relative."""
        counts = {"": (len(x), float(scores.sum()))}
        for name, polygon in self._zones:
            if len(x) == 0:
                counts[name] = (0, 0.0)
                continue
            inside = points_in_polygon(x, y, polygon)
            counts[name] = (int(np.count_nonzero(inside)), float(scores[inside].sum()))
        return counts
