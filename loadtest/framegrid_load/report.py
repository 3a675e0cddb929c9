"""The report: one HTML file, no script, nothing loaded from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 180, 48, 20
_STYLE = """
:root { color-scheme: light dark; --line: #2563eb; --lost: #dc2626; --grid: #8884; --band: #8881 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--grid) }
th:first-child, td:first-child { text-align: left }
.table { overflow-x: auto }
.big { font-size: 1.5rem; font-weight: 600 }
.ok { color: #16a34a } .bad { color: #dc2626 }
svg { width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: currentColor }
"""


def html_report(summary: dict[str, Any]) -> str:
    """The page for what `run_load` found."""
    about = summary["about"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>Framegrid load test, {_text(about['date'])}</title><style>{_STYLE}</style>",
        f"<h1>Framegrid load test</h1>{_verdict(summary['problems'])}",
    ]
    if "capacity" in summary:
        parts += [f"<h2>Capacity</h2><p class=big>{_text(summary['capacity']['line'])}</p>"]
        parts += [_trials(summary["capacity"]["trials"])]
    thresholds = summary["thresholds"]
    parts += [_shape(shape, thresholds["p95_ms"]) for shape in summary["shapes"]]
    parts += ["<h2>Thresholds</h2>", _pairs(thresholds), "<h2>About</h2>", _pairs(about)]
    parts += [
        "<p>Latency counts from the time at which a frame was due, fixed before the run. All frames count, "
        "the first second's too. A frame that was not answered counts as slower than every answered one.</p>"
    ]
    return "\n".join(parts) + "\n"


def _verdict(problems: Sequence[str]) -> str:
    if not problems:
        return "<p class='big ok'>Passed: every threshold was kept.</p>"
    items = "".join(f"<li>{_text(problem)}</li>" for problem in problems)
    return f"<p class='big bad'>Failed</p><ul>{items}</ul>"


def _trials(trials: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            trial["cameras"],
            f"{trial['seconds']:g}",
            trial["frames"],
            _ms(trial["p50_ms"]),
            _ms(trial["p95_ms"]),
            f"{trial['lost_share']:.2%}",
            "carried" if trial["passed"] else "too many",
        ]
        for trial in trials
    ]
    return _table(["cameras", "seconds", "frames", "p50", "p95", "lost", ""], rows)


def _shape(shape: dict[str, Any], target_ms: float) -> str:
    name = shape["shape"]
    rows = []
    for phase in shape["phases"]:
        frames = phase["frames"]
        recovery = phase.get("recovery_s", "")
        rows.append(
            [
                phase["name"],
                phase["cameras"],
                frames["offered"],
                *(_ms(frames[key]) for key in ("p50_ms", "p95_ms", "p99_ms")),
                f"{frames['lost_share']:.2%}",
                "not" if recovery is None else f"{recovery:g} s" if recovery != "" else "",
            ]
        )
    people = shape["people"]
    heads = ["phase", "cameras", "frames", "p50", "p95", "p99", "lost", "recovered after"]
    asked = (
        f"<p>People on /predict: {people['offered']} pictures, p95 {_ms(people['p95_ms'])}, "
        f"{people['refused']} refused, {people['broken']} broken.</p>"
    )
    page = f"<p><a href='locust-{name}.html'>Locust's report</a></p>"
    return f"<h2>Shape: {_text(name)}</h2>{_chart(shape, target_ms)}{_table(heads, rows)}{asked}{page}"


def _chart(shape: dict[str, Any], target_ms: float) -> str:
    """p95 of each second as a line, lost frames as bars below, phases as bands."""
    seconds = shape["seconds"]
    if not seconds:
        return ""
    last_s = float(seconds[-1]["second"] + 1)
    top_ms: float = max([1.2 * target_ms, *(one["p95_ms"] for one in seconds if one["p95_ms"] is not None)])
    plot = _HEIGHT - _BOTTOM

    def x(second: float) -> float:
        return _LEFT + (_WIDTH - _LEFT) * second / last_s

    def y(ms: float) -> float:
        return plot - (plot - 10) * min(ms, top_ms) / top_ms

    parts = [f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img aria-label='p95 by second'>"]
    for index, phase in enumerate(shape["phases"]):
        left, right = x(phase["from_s"]), x(min(phase["to_s"], last_s))
        fill = "var(--band)" if index % 2 else "none"
        parts.append(f"<rect x='{left:.1f}' y=0 width='{right - left:.1f}' height='{plot}' fill='{fill}'/>")
        parts.append(f"<text x='{left + 4:.1f}' y=12>{_text(phase['name'])}: {phase['cameras']}</text>")
    for ms in (0.0, target_ms, top_ms):
        parts.append(f"<line x1={_LEFT} x2={_WIDTH} y1={y(ms):.1f} y2={y(ms):.1f} stroke='var(--grid)'/>")
        parts.append(f"<text x=0 y={y(ms) + 4:.1f}>{ms:.0f} ms</text>")
    for one in seconds:
        if one["lost_share"]:
            high = plot * one["lost_share"]
            parts.append(
                f"<rect x='{x(one['second']):.1f}' y='{plot - high:.1f}' width='{x(1) - x(0):.1f}' "
                f"height='{high:.1f}' fill='var(--lost)' opacity=.5 />"
            )
    points = [
        f"{x(one['second'] + 0.5):.1f},{y(top_ms if one['p95_ms'] is None else one['p95_ms']):.1f}"
        for one in seconds
    ]
    parts.append(f"<polyline points='{' '.join(points)}' fill=none stroke='var(--line)' stroke-width=2 />")
    parts.append(f"<text x={_LEFT} y={_HEIGHT - 4}>0 s</text>")
    parts.append(f"<text x={_WIDTH} y={_HEIGHT - 4} text-anchor=end>{last_s:.0f} s</text></svg>")
    parts.append("<p>Line: p95 of the frames due in each second. Red: share of them that was lost.</p>")
    return "".join(parts)


def _pairs(values: dict[str, Any]) -> str:
    return _table(["", ""], [[key, _flat(value)] for key, value in values.items()])


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{_text(one)}</th>" for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=table><table><tr>{head}</tr>{body}</table></div>"


def _ms(value: float | None) -> str:
    return "lost" if value is None else f"{value:.0f} ms"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items() if one not in (None, ""))
    return str(value)


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
