"""The simulation's outcomes as a table and a drawing for serve/AUTOSCALING.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from framegrid_local.bench.scaling.loads import FPS, Scenario
from framegrid_local.bench.scaling.policies import POLICIES, TITLES
from framegrid_local.bench.scaling.simulation import TARGET_S, Outcome

BEGIN, END = "<!-- simulation: begin -->", "<!-- simulation: end -->"
Outcomes = Mapping[tuple[str, str], Outcome]

_COLOURS = {"frames": "#0b6e4f", "ray_tuned": "#c8553d", "ray_default": "#6b7280"}
_PANEL_WIDTH, _PANEL_HEIGHT, _MARGIN, _TOP, _COLUMNS = 400, 150, 36, 58, 2
_STEP_S = 10


def table(scenarios: Sequence[Scenario], outcomes: Outcomes) -> str:
    """One row for each scenario and policy."""
    lines = [
        f"| load | policy | frames within {TARGET_S:g} s | dropped | well again after "
        "| replica-hours | changes |",
        "|---|---|---|---|---|---|---|",
    ]
    for scenario in scenarios:
        for policy in POLICIES:
            found = outcomes[scenario.name, policy]
            again = "" if found.recovered_s is None else _seconds(found.recovered_s)
            lines.append(
                f"| {scenario.title if policy == POLICIES[0] else ''} | {TITLES[policy]} "
                f"| {found.in_time / found.offered:.1%} | {found.dropped / found.offered:.1%} | {again} "
                f"| {found.replica_s / 3600:.2f} | {found.changes} |"
            )
    return "\n".join(lines)


def page(text: str, made: str) -> str:
    """The document with its table made anew. Raises ValueError without the two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected {BEGIN} and {END} in the document")
    return f"{before}{begin}\n{made}\n{end}{after}"


def drawing(scenarios: Sequence[Scenario], outcomes: Outcomes) -> str:
    """SVG: replicas over time under each policy, one panel for each scenario."""
    rows = -(-len(scenarios) // _COLUMNS)
    width = _COLUMNS * (_PANEL_WIDTH + _MARGIN) + _MARGIN
    height = rows * (_PANEL_HEIGHT + _TOP) + 64
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _legend(),
    ]
    for index, scenario in enumerate(scenarios):
        x = _MARGIN + index % _COLUMNS * (_PANEL_WIDTH + _MARGIN)
        y = 36 + _TOP / 2 + index // _COLUMNS * (_PANEL_HEIGHT + _TOP)
        parts.append(f'<g transform="translate({x:g} {y:g})">{_panel(scenario, outcomes)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> str:
    parts = ['<g transform="translate(36 22)">']
    entries = [
        ("#d9dde3", "replicas that the load needs, at 70 %"),
        *((_COLOURS[p], TITLES[p]) for p in POLICIES),
    ]
    x = 0
    for colour, text in entries:
        parts.append(f'<rect x="{x}" y="-8" width="14" height="8" fill="{colour}"/>')
        parts.append(f'<text x="{x + 19}" y="0">{escape(text)}</text>')
        x += 40 + 6 * len(text)
    return "".join([*parts, "</g>"])


def _panel(scenario: Scenario, outcomes: Outcomes) -> str:
    needed = _needed(scenario)
    series: dict[str, list[tuple[float, float]]] = {
        policy: [(s, float(r)) for s, _, r, _ in outcomes[scenario.name, policy].series]
        for policy in POLICIES
    }
    top = max(max(r for _, r in points) for points in [*series.values(), needed]) + 1
    sx, sy = _PANEL_WIDTH / scenario.length_s, _PANEL_HEIGHT / top

    def steps(points: Sequence[tuple[float, float]]) -> str:
        found: list[str] = []
        last = None
        for second, value in points:
            if value != last:
                y = _PANEL_HEIGHT - value * sy
                found.append(f"H{second * sx:.1f}V{y:.1f}" if found else f"M{second * sx:.1f} {y:.1f}")
                last = value
        return "".join(found) + f"H{_PANEL_WIDTH}"

    parts = [f'<text x="0" y="-10" font-weight="bold">{escape(scenario.title)}</text>']
    area = steps(needed).replace("M", "L", 1)
    parts.append(f'<path d="M0 {_PANEL_HEIGHT}{area}V{_PANEL_HEIGHT}Z" fill="#d9dde3"/>')
    parts += [
        f'<path d="{steps(series[policy])}" fill="none" stroke="{_COLOURS[policy]}" stroke-width="1.6"/>'
        for policy in reversed(POLICIES)
    ]
    parts.append(f'<path d="M0 0V{_PANEL_HEIGHT}H{_PANEL_WIDTH}" fill="none" stroke="#374151"/>')
    for value in range(0, int(top) + 1, max(1, int(top) // 4)):
        parts.append(
            f'<text x="-5" y="{_PANEL_HEIGHT - value * sy + 4:.1f}" text-anchor="end">{value}</text>'
        )
    for share in (0, 0.5, 1):
        x, minutes = share * _PANEL_WIDTH, share * scenario.length_s / 60
        anchor = "start" if not share else "end" if share == 1 else "middle"
        at = f'x="{x:g}" y="{_PANEL_HEIGHT + 14}" text-anchor="{anchor}"'
        parts.append(f"<text {at}>{minutes:.3g} min</text>")
    return "".join(parts)


def _needed(scenario: Scenario) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    cameras, service = list(scenario.cameras), list(scenario.service)
    now_cameras, now_service = cameras[0][1], service[0][1]
    for second in range(0, int(scenario.length_s), _STEP_S):
        now_cameras = next((n for at, n in reversed(cameras) if at <= second), now_cameras)
        now_service = next((s for at, s in reversed(service) if at <= second), now_service)
        found.append((float(second), float(math.ceil(now_cameras * FPS * now_service / 0.7 - 1e-6))))
    return found


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0f} s"
