"""YAML documents that remember where everything was written.

`read_document` turns YAML text into plain values plus a map from each key's path to its line and column, so
that a wrong value can be reported where it stands. Refuses duplicate keys, which YAML readers usually let
pass with the last one winning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from framegrid_ingest.errors import ConfigError, Problem

Path_ = tuple[str | int, ...]

MAX_BYTES = 4 * 1024 * 1024
# Aliases multiply: a hundred bytes can stand for billions of values.
MAX_NODES = 200_000
_PLAIN_TAGS = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


@dataclass(frozen=True, slots=True)
class Document:
    """Plain values of a YAML text, and where each was written (line and column from 1)."""

    file: str
    data: Any
    positions: dict[Path_, tuple[int, int]] = field(default_factory=dict)

    def problem(self, path: Path_, message: str) -> Problem:
        """A mistake at `path`; the nearest written ancestor gives the position."""
        at = path
        while at and at not in self.positions:
            at = at[:-1]
        line, column = self.positions.get(at, (1, 1))
        return Problem(self.file, line, column, key_text(path), message)


def key_text(path: Path_) -> str:
    """`("cameras", 0, "fps")` as `cameras[0].fps`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_document(text: str, file: str) -> Document:
    """Parse one YAML document. Raises ConfigError with the line of every mistake."""
    if len(text) > MAX_BYTES:
        raise ConfigError([Problem(file, 1, 1, "", f"expected at most {MAX_BYTES} bytes, got {len(text)}")])
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            reader = _Reader(file, loader)
            data = None if node is None else reader.value(node, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError([Problem(file, line, column, "", f"not valid YAML: {what}")]) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError([Problem(file, 1, 1, "", f"not valid YAML: {type(error).__name__}")]) from None
    if reader.problems:
        raise ConfigError(reader.problems)
    return Document(file, data, reader.positions)


class _Reader:
    def __init__(self, file: str, loader: yaml.SafeLoader) -> None:
        self.file = file
        self.positions: dict[Path_, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._loader = loader
        self._nodes = 0

    def value(self, node: yaml.Node, path: Path_) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_NODES} values", problem_mark=node.start_mark)
        self.positions.setdefault(path, _position(node))
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            raise yaml.MarkedYAMLError(problem="expected plain YAML, got a tag", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)  # type: ignore[no-untyped-call]
        except ValueError:  # a date that is none, for one
            return node.value

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        written: dict[str, yaml.Node] = {}
        for key_node, _ in node.value:
            key = _key(key_node)
            if key in written and key != "<<":
                first_line = written[key].start_mark.line + 1
                line, column = _position(key_node)
                message = f"the key was already given in line {first_line}; keep one of them"
                self.problems.append(Problem(self.file, line, column, key_text((*path, key)), message))
            written[key] = key_node
        self._loader.flatten_mapping(node)  # type: ignore[no-untyped-call]
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:  # merged keys come first, so those written here win
            key = _key(key_node)
            child_path = (*path, key)
            self.positions[child_path] = _position(key_node)
            values[key] = self.value(value_node, child_path)
        return values


def _key(node: yaml.Node) -> str:
    """Keys are text: `no:` and `12:` stay what was written."""
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.MarkedYAMLError(problem="expected a plain word as key", problem_mark=node.start_mark)
    return str(node.value)


def _position(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
