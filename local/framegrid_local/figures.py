"""One camera's numbers of the moment, from ingest's status, and the table that shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class CameraFigures:
    """What the live table shows. Crossings are totals of all lines and classes; truth is None when
    unknown.
    """

    name: str
    state: str
    message: str
    fps: float
    p95_ms: float | None
    processed: int
    dropped: int
    persons: int
    vehicles: int
    crossed_in: int
    crossed_out: int
    true_persons: int | None = None
    true_vehicles: int | None = None
    true_in: int | None = None
    true_out: int | None = None

    def since(self, before: CameraFigures | None) -> CameraFigures:
        """The same with crossings counted from an earlier look on."""
        if before is None:
            return self
        return replace(
            self,
            crossed_in=self.crossed_in - before.crossed_in,
            crossed_out=self.crossed_out - before.crossed_out,
        )

    def with_truth(self, truth: Mapping[str, Any] | None) -> CameraFigures:
        """The same beside the simulator's answer for the window."""
        if truth is None:
            return self
        directions = [d for groups in truth["crossed"].values() for d in groups.values()]
        return replace(
            self,
            true_persons=truth["present"].get("person", 0),
            true_vehicles=truth["present"].get("vehicle", 0),
            true_in=sum(d.get("in", 0) for d in directions),
            true_out=sum(d.get("out", 0) for d in directions),
        )


def worst_p95_ms(figures: Sequence[CameraFigures]) -> float | None:
    """The slowest camera's 95th percentile from capture to stored."""
    known = [f.p95_ms for f in figures if f.p95_ms is not None]
    return round(max(known), 1) if known else None


COLUMNS = ("camera", "state", "fps", "p95 ms", "persons", "vehicles", "in", "out", "dropped", "")


def lines_of_table(figures: Iterable[CameraFigures]) -> tuple[str, list[str]]:
    """The header, and one line a camera: `counted/true` where the truth is known."""
    rows = [COLUMNS, *(_cells(f) for f in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = []
    for row in rows:
        left = [f"{cell:<{width}}" for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [f"{cell:>{width}}" for cell, width in zip(row[2:-1], widths[2:-1], strict=True)]
        lines.append("  ".join([*left, *right, row[-1]]).rstrip())
    return lines[0], lines[1:]


def _cells(f: CameraFigures) -> tuple[str, ...]:
    return (
        f.name,
        f.state,
        f"{f.fps:.1f}",
        "-" if f.p95_ms is None else f"{f.p95_ms:.0f}",
        _beside(f.persons, f.true_persons),
        _beside(f.vehicles, f.true_vehicles),
        _beside(f.crossed_in, f.true_in),
        _beside(f.crossed_out, f.true_out),
        str(f.dropped),
        f.message,
    )


def _beside(counted: int, true: int | None) -> str:
    return str(counted) if true is None else f"{counted}/{true}"


def camera_figures(status: Mapping[str, Any] | None) -> dict[str, CameraFigures]:
    """Ingest's /status by camera name; empty while it does not answer."""
    return {entry["name"]: _figures(entry) for entry in (status or {}).get("cameras", ())}


def _figures(entry: Mapping[str, Any]) -> CameraFigures:
    counts = entry["counts"]
    return CameraFigures(
        name=entry["name"],
        state=entry["state"],
        message=entry["message"],
        fps=entry["fps_processed"],
        p95_ms=entry["p95_ms"],
        processed=entry["processed"],
        dropped=sum(entry["dropped"].values()),
        persons=counts.get("person", 0),
        vehicles=counts.get("vehicle", 0),
        crossed_in=sum(line["in"] for line in entry["lines"].values()),
        crossed_out=sum(line["out"] for line in entry["lines"].values()),
    )
