"""The truth of a clip: what is in each frame, who crossed which line, how many different ones there were.

A clip of N frames loops for ever. Frame numbers here are therefore *loop-aware*: frame i of pass p is p * N +
i, and everything in pass p has the ids of pass 0 plus p * `ids_per_pass`. Whoever is in the picture at the
seam keeps his id through it, so that every window, across any number of seams, has an exact truth and windows
add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from framegrid_sim.settings import LineSpec, Point

Group = Literal["person", "vehicle"]
Direction = Literal["in", "out"]

CLASSES: tuple[str, ...] = ("person", "bicycle", "car", "van", "bus")
GROUPS: tuple[Group, ...] = ("person", "vehicle")

# An object counts as seen (labelled for training and evaluation, in `countable`) from these on: below them a
# person annotating the frame by hand would hesitate too. Height is in pixels of a picture 640 wide.
MIN_VISIBLE_SHARE = 0.35
MIN_HEIGHT_PX = 20.0
# It is one of the clip's unique objects when it was countable for at least this long.
MIN_SEEN_S = 0.5


def group_of(cls: str) -> Group:
    """The counted class of a model class: `person`, or `vehicle` for all others."""
    return "person" if cls == "person" else "vehicle"


@dataclass(frozen=True, slots=True)
class ObjectTruth:
    """One object in one frame. Box relative to the picture and clipped to it."""

    object_id: int
    cls: str
    box_xyxy: tuple[float, float, float, float]
    visible_share: float  # of its own pixels: neither outside the picture nor behind something
    height_px: float  # of the unclipped box, in a picture 640 wide

    @property
    def group(self) -> Group:
        return group_of(self.cls)

    @property
    def countable(self) -> bool:
        return self.visible_share >= MIN_VISIBLE_SHARE and self.height_px >= MIN_HEIGHT_PX

    @property
    def anchor(self) -> Point:
        """Middle of the bottom edge: the point that is in a zone or crosses a line."""
        return (self.box_xyxy[0] + self.box_xyxy[2]) / 2, self.box_xyxy[3]


@dataclass(frozen=True, slots=True)
class FrameTruth:
    frame_index: int  # loop-aware
    objects: tuple[ObjectTruth, ...]

    def present(self, group: Group) -> int:
        """How many of a group are countable in this frame."""
        return sum(1 for o in self.objects if o.group == group and o.countable)


@dataclass(frozen=True, slots=True)
class CrossingTruth:
    frame_index: float  # when the anchor crossed, between two frames; loop-aware
    line: str
    group: Group
    direction: Direction
    object_id: int


@dataclass(frozen=True, slots=True)
class SeenTruth:
    """An object's time in the picture: loop-aware frames of its first and last countable sight, both
    included."""

    object_id: int
    cls: str
    first_frame: int
    last_frame: int

    @property
    def group(self) -> Group:
        return group_of(self.cls)


@dataclass(frozen=True)
class ClipTruth:
    """Truth of one pass of the loop, and by arithmetic of all passes."""

    fps: float
    frames: tuple[FrameTruth, ...]
    lines: tuple[LineSpec, ...]
    zones: tuple[tuple[str, tuple[Point, ...]], ...]
    crossings: tuple[CrossingTruth, ...]  # those with 0 <= frame_index < len(frames), in order
    seen: tuple[SeenTruth, ...]  # those whose first_frame is in 0..len(frames)-1, in order
    ids_per_pass: int

    @property
    def frame_count(self) -> int:
        return len(self.frames)

    def frame(self, frame_index: int) -> FrameTruth:
        """Truth of a loop-aware frame."""
        passes, i = divmod(frame_index, self.frame_count)
        shift = passes * self.ids_per_pass
        objects = self.frames[i].objects
        if shift:
            objects = tuple(replace(o, object_id=o.object_id + shift) for o in objects)
        return FrameTruth(frame_index, objects)

    def crossings_between(self, start: float, end: float) -> list[CrossingTruth]:
        """Crossings with start <= frame_index < end, loop-aware, in order."""
        found = []
        for shift, ids in self._passes(start, end):
            for c in self.crossings:
                if start <= c.frame_index + shift < end:
                    found.append(replace(c, frame_index=c.frame_index + shift, object_id=c.object_id + ids))
        return found

    def crossing_totals(self, start: float, end: float) -> dict[tuple[str, Group, Direction], int]:
        """Crossings per line, group and direction in start <= frame_index < end; zeros included."""
        directions: tuple[Direction, ...] = ("in", "out")
        totals = {(name, g, d): 0 for name, _, _ in self.lines for g in GROUPS for d in directions}
        for c in self.crossings_between(start, end):
            totals[c.line, c.group, c.direction] += 1
        return totals

    def new_uniques_between(self, start: float, end: float) -> dict[Group, int]:
        """Objects first seen in start <= frame < end. Adds up over windows that touch."""
        totals: dict[Group, int] = dict.fromkeys(GROUPS, 0)
        for shift, _ in self._passes(start, end):
            for s in self.seen:
                if start <= s.first_frame + shift < end:
                    totals[s.group] += 1
        return totals

    def uniques_between(self, start: float, end: float) -> dict[Group, int]:
        """Different objects seen in start <= frame < end, those already there at the start included."""
        totals: dict[Group, int] = dict.fromkeys(GROUPS, 0)
        longest = max((s.last_frame - s.first_frame for s in self.seen), default=0)
        for shift, _ in self._passes(start - longest - 1, end):
            for s in self.seen:
                if s.first_frame + shift < end and s.last_frame + shift >= start:
                    totals[s.group] += 1
        return totals

    @property
    def uniques(self) -> dict[Group, int]:
        """Different objects a viewer of one single pass, from frame 0 to the last, gets to see."""
        return self.uniques_between(0, self.frame_count)

    def present_per_second(self, group: Group) -> list[float]:
        """Mean number of countable objects of the group in each whole second of one pass."""
        sums: dict[int, list[int]] = {}
        for i, frame in enumerate(self.frames):
            sums.setdefault(int(i / self.fps), []).append(frame.present(group))
        return [sum(values) / len(values) for _, values in sorted(sums.items())]

    def _passes(self, start: float, end: float) -> Iterator[tuple[int, int]]:
        n = self.frame_count
        for p in range(math.floor(start / n), math.ceil(end / n) + 1):
            yield p * n, p * self.ids_per_pass

    def to_json(self) -> dict[str, Any]:
        """Plain lists; boxes rounded to a ten-thousandth of the picture."""
        return {
            "fps": self.fps,
            "ids_per_pass": self.ids_per_pass,
            "lines": [[n, list(s), list(e)] for n, s, e in self.lines],
            "zones": [[n, [list(p) for p in polygon]] for n, polygon in self.zones],
            "crossings": [[c.frame_index, c.line, c.group, c.direction, c.object_id] for c in self.crossings],
            "seen": [[s.object_id, s.cls, s.first_frame, s.last_frame] for s in self.seen],
            "frames": [
                [
                    [o.object_id, o.cls, [round(v, 4) for v in o.box_xyxy], o.visible_share, o.height_px]
                    for o in frame.objects
                ]
                for frame in self.frames
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClipTruth:
        """Inverse of `to_json`. Raises KeyError, TypeError or ValueError for another structure."""
        return cls(
            fps=float(data["fps"]),
            ids_per_pass=int(data["ids_per_pass"]),
            lines=tuple((n, (s[0], s[1]), (e[0], e[1])) for n, s, e in data["lines"]),
            zones=tuple((n, tuple((p[0], p[1]) for p in polygon)) for n, polygon in data["zones"]),
            crossings=tuple(CrossingTruth(*row) for row in data["crossings"]),
            seen=tuple(SeenTruth(*row) for row in data["seen"]),
            frames=tuple(
                FrameTruth(i, tuple(ObjectTruth(o[0], o[1], tuple(o[2]), o[3], o[4]) for o in objects))
                for i, objects in enumerate(data["frames"])
            ),
        )


def side_of(line: LineSpec, point: Point) -> float:
    """Negative on the left hand of start->end as seen on screen, positive on the right hand, 0 on the
    line."""
    (sx, sy), (ex, ey) = line[1], line[2]
    return (ex - sx) * (point[1] - sy) - (ey - sy) * (point[0] - sx)


def find_crossings(
    line: LineSpec, path: Sequence[tuple[int, Point]], settle_frames: float
) -> list[tuple[float, Direction]]:
    """Where a path (frame, anchor) crosses a line, with the direction.

    Two opposite crossings less than `settle_frames` apart are a swaying step on the line and cancel out.
    """
    found: list[tuple[float, Direction]] = []
    for (i, a), (j, b) in pairwise(path):
        before, after = side_of(line, a), side_of(line, b)
        if (before < 0) == (after < 0):
            continue
        share = before / (before - after)
        point = a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
        if not _within(line, point):
            continue
        direction: Direction = "in" if after >= 0 else "out"
        frame = i + share * (j - i)
        if found and found[-1][1] != direction and frame - found[-1][0] < settle_frames:
            found.pop()
        else:
            found.append((frame, direction))
    return found


def _within(line: LineSpec, point: Point) -> bool:
    """Is a point of the endless line between its start and end?"""
    (sx, sy), (ex, ey) = line[1], line[2]
    along = (point[0] - sx) * (ex - sx) + (point[1] - sy) * (ey - sy)
    return 0 <= along <= (ex - sx) ** 2 + (ey - sy) ** 2
