"""What a demo has stored, whether it is right, and its last line. Pure."""

from __future__ import annotations

from typing import Any

from framegrid_local.figures import CameraFigures, worst_p95_ms
from framegrid_local.stored import StoredRun
from framegrid_local.verdict import CountVerdict


def explain(run: StoredRun, verdict: CountVerdict) -> list[str]:
    """What was stored and how it compares, for a person."""
    lines = [
        f"{run.rows} rows in SQL; {run.expected} frames expected: "
        f"{run.processed} processed, {run.dropped} dropped",
        f"line crossings: {verdict.counted} counted, {verdict.truth} true, "
        f"{verdict.error} wrong ({verdict.count_error:.1%})",
    ]
    for cell, (counted, true) in sorted(verdict.wrong.items()):
        lines.append(
            f"  {cell.camera} {cell.line} {cell.cls} {cell.direction}: {counted} counted, {true} true"
        )
    return lines


def problems(run: StoredRun, verdict: CountVerdict) -> list[str]:
    """Why the demo failed; empty when it did not."""
    found = []
    if not run.rows or not run.processed:
        found.append("no rows arrived in SQL")
    if not run.is_accounted_for:
        found.append(f"expected {run.expected} frames, got {run.processed} processed + {run.dropped} dropped")
    if not verdict.is_right:
        found.append(f"the counts are wrong: {verdict.error} of {verdict.truth} line crossings")
    return found


def summary_of(run: StoredRun, verdict: CountVerdict, figures: list[CameraFigures]) -> dict[str, Any]:
    """The last line of a timed run."""
    return {
        "rows": run.rows,
        "frames": run.processed,
        "dropped": run.dropped,
        "expected": run.expected,
        "count_error": round(verdict.count_error, 4),
        "crossings": verdict.counted,
        "crossings_true": verdict.truth,
        "p95_ms": worst_p95_ms(figures),
        "cameras": len(figures),
    }
