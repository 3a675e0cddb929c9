"""What an analysis has found, summed up; as text, JSON or CSV."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TextIO

from framegrid_ingest.analysis import ClosedTrack, Detections, FrameAnalysis
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.intake import StreamFacts

CSV_COLUMNS = ("second", "zone", "class", "frames", "mean", "max", "uniques", "in", "out")


@dataclass(slots=True)
class Presence:
    """How many of a class were in a zone, over some frames."""

    frames: int = 0
    total: int = 0
    most: int = 0

    def add(self, number: int) -> None:
        """One more frame."""
        self.frames += 1
        self.total += number
        self.most = max(self.most, number)

    @property
    def mean(self) -> float:
        """Average number over the frames."""
        return self.total / self.frames if self.frames else 0.0


@dataclass(slots=True)
class Totals:
    """Running totals, for drawing while it runs."""

    uniques: Counter[str] = field(default_factory=Counter)
    crossings: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # line, class, direction


class Report:
    """Fed frame by frame. Times are seconds from the beginning of the recording."""

    def __init__(
        self, source: str, camera: CameraConfig, model: str, *, is_image: bool, is_tracked: bool
    ) -> None:
        """`model`: name@version. `is_tracked` False: frames too far apart to know anybody again, so nothing
        is said of visits.
        """
        self.camera = camera
        self.is_tracked = is_tracked
        self.source = source if camera.source_kind == "file" else str(camera.url)
        self.model = model
        self.is_image = is_image
        self.frames = 0
        self.damaged = 0
        self.missed = 0
        self.last_s = 0.0
        self.totals = Totals()
        self.presence: dict[tuple[str, str], Presence] = {}
        self.facts: StreamFacts | None = None
        self.tracks: list[ClosedTrack] = []
        self.crossings: list[dict[str, Any]] = []
        self.boxes: list[dict[str, Any]] = []
        self._seconds: dict[int, dict[tuple[str, str], Presence]] = {}
        self._seconds_uniques: dict[int, Counter[str]] = {}

    def add(self, at_s: float, frame: FrameAnalysis, detections: Detections) -> None:
        """One analysed frame."""
        self.frames += 1
        self.last_s = at_s
        second = self._seconds.setdefault(math.floor(at_s), {})
        for key, number in frame.counts.items():
            self.presence.setdefault(key, Presence()).add(number)
            second.setdefault(key, Presence()).add(number)
        self.totals.uniques.update(frame.new_uniques)
        self._seconds_uniques.setdefault(math.floor(at_s), Counter()).update(frame.new_uniques)
        for c in frame.crossings:
            self.totals.crossings[c.line, c.cls, c.direction] += 1
            self.crossings.append(
                {
                    "time_s": round(c.captured_at_s, 3),
                    "line": c.line,
                    "class": c.cls,
                    "direction": c.direction,
                    "track": c.track_id,
                }
            )
        self.tracks.extend(frame.closed)
        if self.is_image:
            self.boxes = boxes_of(detections)

    def end(self, closed: list[ClosedTrack], facts: StreamFacts | None, missed: int) -> None:
        """The tracks still open at the end, and how many frames were due and never came."""
        self.missed = missed
        self.tracks.extend(closed)
        self.tracks.sort(key=lambda track: track.started_at_s)
        self.facts = facts

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        found: dict[str, Any] = {"source": self.source, "model": self.model, "frames": self.frames}
        if self.is_image:
            return {**found, "counts": self._zones(), "boxes": self.boxes}
        tracks = [
            {
                "track": t.track_id,
                "class": t.cls,
                "model_class": t.model_class,
                "from_s": round(t.started_at_s, 3),
                "to_s": round(t.ended_at_s, 3),
                "frames": t.frames,
                "score_max": round(t.score_max, 4),
                "first_box": [round(v, 5) for v in t.first_box],
                "last_box": [round(v, 5) for v in t.last_box],
            }
            for t in self.tracks
        ]
        classes = self.camera.classes
        return {
            **found,
            "stream": None if self.facts is None else str(self.facts),
            "fps": self.camera.fps,
            "seconds": round(self.last_s, 3),
            "damaged": self.damaged,
            "missed": self.missed,
            "uniques": {cls: self.totals.uniques[cls] if self.is_tracked else None for cls in classes},
            "counts": self._zones(),
            "lines": self._lines() if self.is_tracked else None,
            "crossings": self.crossings,
            "tracks": tracks,
        }

    def csv_rows(self) -> list[tuple[Any, ...]]:
        """One row per second, zone and class. Uniques and crossings stand in the row of the whole
        picture.
        """
        crossed = Counter((math.floor(c["time_s"]), c["class"], c["direction"]) for c in self.crossings)
        rows: list[tuple[Any, ...]] = []
        for second, cells in sorted(self._seconds.items()):
            for (zone, cls), p in sorted(cells.items()):
                whole = zone == ""
                uniques = self._seconds_uniques[second][cls] if whole else ""
                ways = [crossed[second, cls, way] if whole else "" for way in ("in", "out")]
                rows.append((second, zone, cls, p.frames, round(p.mean, 3), p.most, uniques, *ways))
        return rows

    def _zones(self) -> dict[str, dict[str, Any]]:
        zones: dict[str, dict[str, Any]] = {}
        for (zone, cls), p in sorted(self.presence.items()):
            value: Any = p.total if self.is_image else {"mean": round(p.mean, 3), "max": p.most}
            zones.setdefault(zone, {})[cls] = value
        return zones

    def _lines(self) -> dict[str, dict[str, dict[str, int]]]:
        return {
            line.name: {
                cls: {way: self.totals.crossings[line.name, cls, way] for way in ("in", "out")}
                for cls in self.camera.classes
            }
            for line in self.camera.lines
        }


def boxes_of(detections: Detections) -> list[dict[str, Any]]:
    """Every detection of a picture, best first."""
    boxes = [
        {"class": name, "score": round(float(score), 4), "box_xyxy": [round(float(v), 5) for v in box]}
        for box, score, name in zip(
            detections.boxes_xyxy, detections.scores, detections.class_names, strict=True
        )
    ]
    return sorted(boxes, key=lambda box: -box["score"])


def write_report(report: Report, output: str, out: TextIO | None = None) -> None:
    """`output`: text, json or csv; to standard output."""
    out = out or sys.stdout
    if output == "json":
        out.write(json.dumps(report.to_json(), indent=2) + "\n")
    elif output == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        writer.writerows(report.csv_rows())
    else:
        out.writelines(f"{line}\n" for line in text_lines(report))


def text_lines(report: Report) -> list[str]:
    """For a person."""
    lines = [f"{report.source} with {report.model}"]
    if report.is_image:
        for box in report.boxes:
            corners = ", ".join(f"{v:.3f}" for v in box["box_xyxy"])
            lines.append(f"  {box['class']:<14} {box['score']:.2f}  at {corners}")
        whole = report.to_json()["counts"].get("", {})
        return [*lines, ", ".join(f"{cls}: {number}" for cls, number in whole.items())]
    stream = f" ({report.facts})" if report.facts else ""
    lines.append(f"{report.frames} frames of {report.last_s:.1f} s at {report.camera.fps:g} fps{stream}")
    for (zone, cls), p in sorted(report.presence.items()):
        where = f"in zone {zone}" if zone else "in the picture"
        uniques = f"{report.totals.uniques[cls]} different, " if report.is_tracked and not zone else ""
        lines.append(f"  {cls:<10} {uniques}{p.mean:.2f} on average, {p.most} at most, {where}")
    if not report.is_tracked:
        lines.append("  too few frames a second to follow anybody: no visits, no line crossings")
    for line, classes in (report.to_json()["lines"] or {}).items():
        for cls, ways in classes.items():
            lines.append(f"  {cls:<10} crossed {line}: {ways['in']} in, {ways['out']} out")
    if report.missed:
        lines.append(
            f"  {report.missed} frames were due and not seen: the camera or this machine was too slow"
        )
    if report.damaged:
        lines.append(f"  {report.damaged} damaged frames were left out")
    return lines
