"""What /status says: one JSON object for the process, one for each camera. No secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from framegrid_ingest.camera import Camera
from framegrid_ingest.latency import CaptureToStored


def camera_status(camera: Camera, latency: CaptureToStored, now_s: float) -> dict[str, Any]:
    """One camera: its state, its accounting since the start of the process, and its numbers now."""
    totals = camera.totals
    fps_in, fps_processed = camera.frame_rates()
    percentiles_s = latency.percentiles_s(camera.name, now_s)
    p50_ms, p95_ms = (round(s * 1000, 1) for s in percentiles_s) if percentiles_s else (None, None)
    facts = camera.facts
    counts = totals.counts
    return {
        "name": camera.name,
        "url": str(camera.config.url),
        "state": camera.state.value,
        "fault": camera.fault,
        "message": camera.message,
        "since_s": round(camera.since_s, 3),
        "source": {
            "kind": facts.kind if facts else camera.config.source_kind,
            "codec": facts.codec if facts else "",
            "width": facts.width if facts else 0,
            "height": facts.height if facts else 0,
            "stated_fps": facts.fps if facts else 0.0,
        },
        "reconnects": camera.reconnects,
        "fps": camera.config.fps,
        "fps_in": round(fps_in, 2),
        "fps_processed": round(fps_processed, 2),
        "expected": totals.expected,
        "processed": totals.processed,
        "dropped": {reason.value: n for reason, n in totals.dropped.items()},
        "clock_errors": camera.intake.clock_errors,
        "captured_at_s": totals.last_captured_at_s,
        "counts": counts.get("", {}),
        "zones": {zone: by_class for zone, by_class in counts.items() if zone},
        "uniques": dict(totals.uniques),
        "lines": {
            line.name: _line_status(totals.crossings.get(line.name, {})) for line in camera.config.lines
        },
        "p50_ms": p50_ms,
        "p95_ms": p95_ms,
        "model": totals.model,
    }


def _line_status(by_class: dict[str, dict[str, int]]) -> dict[str, Any]:
    return {
        "in": sum(n["in"] for n in by_class.values()),
        "out": sum(n["out"] for n in by_class.values()),
        "classes": {cls: dict(n) for cls, n in by_class.items()},
    }


def process_status(cameras: Iterable[Camera], latency: CaptureToStored, now_s: float) -> dict[str, Any]:
    """All cameras, by name in a list that keeps the configuration's order."""
    return {"time_s": round(now_s, 3), "cameras": [camera_status(c, latency, now_s) for c in cameras]}
