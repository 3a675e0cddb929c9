"""What the server tells about its cameras in JSON: the list, and the truth of any window of time."""

from __future__ import annotations

from typing import Any

from framegrid_sim.feed import Feed
from framegrid_sim.truth import GROUPS

MAX_WINDOW_S = 86_400.0  # a day of crossings is some megabytes of JSON


class WindowError(ValueError):
    """A window of time that truth cannot be told for."""


def parse_window(
    from_text: str | None, to_text: str | None, now_s: float, start_s: float
) -> tuple[float, float]:
    """The window asked for, unix seconds; by default from the server's start (a day ago at most) to now."""
    to_s = now_s if to_text is None else _seconds("to", to_text)
    from_s = (
        max(min(start_s, to_s), to_s - MAX_WINDOW_S) if from_text is None else _seconds("from", from_text)
    )
    if not 0 <= to_s - from_s <= MAX_WINDOW_S:
        raise WindowError(
            f"expected to - from of 0 to {MAX_WINDOW_S:.0f} s, got {to_s - from_s:.3f}; ask for less"
        )
    return from_s, to_s


def truth_json(feed: Feed, from_s: float, to_s: float, *, objects: bool = False) -> dict[str, Any]:
    """Truth of from_s <= t < to_s, and who is in the picture at to_s. `objects` adds their boxes.

    Exact for whoever saw all of the window; `faults` lists the times when nobody could.
    """
    truth, start, end = feed.clip.truth, feed.frame_position(from_s), feed.frame_position(to_s)
    crossings = truth.crossings_between(start, end)
    totals: dict[str, dict[str, dict[str, int]]] = {}
    for (line, group, direction), count in truth.crossing_totals(start, end).items():
        totals.setdefault(line, {}).setdefault(group, {})[direction] = count
    now = truth.frame(feed.frame_at(to_s))
    report: dict[str, Any] = {
        "camera": feed.name,
        "from_s": from_s,
        "to_s": to_s,
        "fps": feed.fps,
        "first_frame": feed.frame_at(from_s),
        "last_frame": feed.frame_at(to_s),
        "crossed": totals,
        "crossings": [
            {
                "time_s": round(feed.time_of(c.frame_index), 6),
                "frame": round(c.frame_index, 3),
                "line": c.line,
                "group": c.group,
                "direction": c.direction,
                "object": c.object_id,
            }
            for c in crossings
        ],
        "present": {group: now.present(group) for group in GROUPS},
        "uniques": truth.uniques_between(start, end),
        "new_uniques": truth.new_uniques_between(start, end),
        "faults": [fault.to_json() for fault in feed.faults.between(from_s, to_s)],
    }
    if objects:
        report["objects"] = [
            {
                "object": o.object_id,
                "class": o.cls,
                "group": o.group,
                "box_xyxy": o.box_xyxy,
                "visible_share": o.visible_share,
                "countable": o.countable,
            }
            for o in now.objects
        ]
    return report


def camera_json(feed: Feed, now_s: float, viewers: int, rtsp_url: str | None) -> dict[str, Any]:
    """One camera of the list: its addresses, its clock, and what `cameras.yaml` wants to know of it."""
    settings, truth = feed.clip.settings, feed.clip.truth
    fault = feed.faults.active(now_s)
    base = f"/cameras/{feed.name}"
    return {
        "name": feed.name,
        "stream": f"{base}/stream.mjpg",
        "frame": f"{base}/frame.jpg",
        "truth": f"{base}/truth",
        "fault": f"{base}/fault",
        "rtsp": rtsp_url,
        "auth": feed.spec.auth is not None,
        "width": settings.width,
        "height": settings.height,
        "fps": feed.fps,
        "frame_count": feed.clip.frame_count,
        "epoch_s": feed.epoch_s,
        "frame_now": feed.frame_at(now_s),
        "light": settings.light,
        "rain": settings.rain,
        "seed": settings.seed,
        "lines": [{"name": name, "start": start, "end": end} for name, start, end in truth.lines],
        "zones": [{"name": name, "polygon": polygon} for name, polygon in truth.zones],
        "viewers": viewers,
        "active_fault": None if fault is None else fault.to_json(),
    }


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # Beyond the year 9999 arithmetic on frames would lose its exactness; NaN fails the comparison too.
    if not 0 <= value <= 253_402_300_800:
        raise WindowError(f"expected {name} in unix seconds, got {text[:40]!r}")
    return value
