"""The table of values in the chart's README, from the comments of values.yaml: `make chart-docs`.

A comment that begins with `# --` describes the key below it; further `#` lines continue it. A key that is
described stands for all below it. Every value must be described, by itself or from above.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHART = Path(__file__).parent / "framegrid"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"
_KEY = re.compile(r"^( *)([A-Za-z_][\w]*):")
_LONGEST_DEFAULT = 100


class Row(NamedTuple):
    """A value, its default as JSON, and what it is for."""

    key: str
    default: str
    description: str


def rows(text: str) -> Iterator[Row]:
    """The rows for a values.yaml. Raises ValueError for a value without a description."""
    described = _descriptions(text)
    yield from _walk(yaml.safe_load(text), (), described)


def page(readme: str, values: str) -> str:
    """The README with its table made anew. Raises ValueError without the two marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected {BEGIN} and {END} in README.md")
    lines = ["| value | default | what |", "|---|---|---|"]
    for row in rows(values):
        cells = (row.key, row.default, row.description)
        key, default, description = (cell.replace("|", "\\|") for cell in cells)
        lines.append(f"| `{key}` | `{default}` | {description} |")
    return "\n".join([before + begin, *lines, end + after])


def _walk(node: Any, path: tuple[str, ...], described: dict[tuple[str, ...], str]) -> Iterator[Row]:
    if path in described:
        yield Row(".".join(path), _shown(node), described[path])
        return
    if not isinstance(node, dict) or not node:
        raise ValueError(f"{'.'.join(path)}: expected a comment `# -- …` above it, got none")
    for key, value in node.items():
        yield from _walk(value, (*path, key), described)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_DEFAULT else "see values.yaml"


def _descriptions(text: str) -> dict[tuple[str, ...], str]:
    found: dict[tuple[str, ...], str] = {}
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            comment = [stripped[4:].strip()]
        elif stripped.startswith("#") and comment:
            comment.append(stripped[1:].strip())
        elif match := _KEY.match(line):
            indent = len(match[1])
            path = [entry for entry in path if entry[0] < indent] + [(indent, match[2])]
            if comment:
                found[tuple(name for _, name in path)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found


def main() -> int:
    """Write README.md."""
    readme = CHART / "README.md"
    made = page(readme.read_text(encoding="utf-8"), (CHART / "values.yaml").read_text(encoding="utf-8"))
    readme.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
