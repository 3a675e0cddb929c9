"""The gate's decision to read (Markdown), to process (JSON) and to see (SVG)."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from framegrid_serve.errors import ModelError
from framegrid_serve.gate import Decision
from framegrid_serve.measurement import Measurement

JSON, MARKDOWN, CHART = "gate.json", "gate.md", "gate.svg"
_MAX_CLASSES = 20  # bars in the chart; those that changed most
_BAR, _GAP, _LEFT, _WIDTH = 14, 10, 150, 420
_CURRENT, _BETTER, _WORSE = "#9aa5b1", "#2a9d8f", "#d1495b"


def write_report(decision: Decision, folder: Path) -> list[Path]:
    """Write the three files into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        JSON: json.dumps(decision.model_dump(mode="json"), indent=2) + "\n",
        MARKDOWN: markdown(decision),
        CHART: chart(decision),
    }
    paths = []
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
        paths.append(folder / name)
    return paths


def read_decision(path: Path) -> Decision:
    """A decision written before. Raises ModelError."""
    try:
        return Decision.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); run `framegrid model gate`") from error
    except ValueError as error:
        raise ModelError(f"{path}: expected a report of `framegrid model gate`") from error


def markdown(decision: Decision) -> str:
    """One page."""
    candidate, current = decision.candidate, decision.current
    against = f" against {current.name} {current.version}" if current else ", the first of its name"
    lines = [
        f"# {'Deploy' if decision.deploy else 'Block'}: {candidate.name} {candidate.version}{against}",
        "",
        *[f"- {reason}" for reason in decision.reasons],
        *([""] if decision.reasons else []),
        f"{candidate.pictures} pictures, {candidate.cpu}, {candidate.date}. "
        f"Times are of one thread, median of one picture.",
        "",
        f"![]({CHART})",
        "",
        "| check | limit | current | candidate | |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {check.name} | {check.limit} | {check.current or '-'} | {check.candidate} | "
        f"{'ok' if check.passed else '**fails**'} |"
        for check in decision.checks
    ]
    lines += ["", *_facts(candidate, current)]
    return "\n".join(lines) + "\n"


def _facts(candidate: Measurement, current: Measurement | None) -> list[str]:
    both = [one for one in (current, candidate) if one is not None]
    rows = {
        "version": [one.version for one in both],
        "digest": [one.digest[:16] for one in both],
        "engine": [f"{one.engine} {one.precision}" for one in both],
        "input": [f"{one.input_size} px" for one in both],
        "mAP50-95 / mAP50": [
            "no labels" if one.map50_95 is None else f"{one.map50_95:.4f} / {one.map50:.4f}" for one in both
        ],
        "median / p95": [f"{one.speed.median_ms:.1f} / {one.speed.p95_ms:.1f} ms" for one in both],
        "memory": [f"{one.speed.peak_bytes / 1e6:.0f} MB" for one in both],
        "file": [f"{one.size_bytes / 1e6:.2f} MB" for one in both],
    }
    heads = [*(["current"] if current else []), "candidate"]
    return [
        f"| | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
        *[f"| {name} | {' | '.join(values)} |" for name, values in rows.items()],
    ]


def chart(decision: Decision) -> str:
    """Bars of current and candidate: mAP, then the classes that changed most."""
    rows = _rows(decision)
    height = 50 + len(rows) * (2 * _BAR + _GAP)
    total = _LEFT + _WIDTH + 70
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}" '
        f'height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{total}" height="{height}" fill="white"/>',
        f'<text x="8" y="20" font-size="14">{escape(decision.candidate.name)}: '
        f"{'deploy' if decision.deploy else 'block'} {escape(decision.candidate.version)}"
        f"{' over ' + escape(decision.current.version) if decision.current else ''} (mAP50-95)</text>",
    ]
    top = 36
    for name, before, now in rows:
        parts.append(f'<text x="{_LEFT - 8}" y="{top + _BAR + 4}" text-anchor="end">{escape(name)}</text>')
        for offset, value, colour in (
            (0, before, _CURRENT),
            (_BAR, now, _BETTER if before is None or now >= before else _WORSE),
        ):
            if value is None:
                continue
            width = round(value * _WIDTH, 1)
            y = top + offset
            parts.append(f'<rect x="{_LEFT}" y="{y}" width="{width}" height="{_BAR - 2}" fill="{colour}"/>')
            parts.append(f'<text x="{_LEFT + width + 5}" y="{y + _BAR - 3}">{value:.3f}</text>')
        top += 2 * _BAR + _GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def _rows(decision: Decision) -> list[tuple[str, float | None, float]]:
    candidate, current = decision.candidate, decision.current
    before = {} if current is None else current.per_class
    rows: list[tuple[str, float | None, float]] = []
    if candidate.map50_95 is not None:
        rows.append(("all classes", None if current is None else current.map50_95, candidate.map50_95))
    classes = sorted(
        candidate.per_class.items(), key=lambda item: -abs(item[1] - before.get(item[0], item[1]))
    )
    return rows + [(name, before.get(name), value) for name, value in classes[:_MAX_CLASSES]]
