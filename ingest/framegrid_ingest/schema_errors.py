"""Pydantic's findings in the words of somebody who edits a YAML file.

One sentence each: expected X, got Y; what is allowed; the nearest right spelling.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from framegrid_ingest.documents import Path_

MAX_SHOWN_CHARS = 60
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_TYPES = {
    "string": "text",
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping (key: value)",
    "mapping": "a mapping (key: value)",
    "model": "a mapping (key: value)",
    "model_attributes": "a mapping (key: value)",
    "finite_number": "a finite number",
}

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
WORD_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$"
_PATTERNS = {
    NAME_PATTERN: "small letters, digits and '-' (not at the ends)",
    WORD_PATTERN: "letters, digits, spaces, '_', '.' and '-', the first a letter or digit",
}


def nearest(word: str, allowed: Iterable[str]) -> str:
    """`, did you mean 'fps'?`, or "" when nothing is near."""
    by_lower = {option.lower(): option for option in allowed}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f", did you mean {by_lower[found[0]]!r}?" if found else ""


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys that a section may have, as written in YAML."""
    return tuple(info.alias or name for name, info in model.model_fields.items())


def describe(  # noqa: PLR0911  one return for each kind of mistake
    error: ErrorDetails, sections: Mapping[str, type[BaseModel]], hidden: frozenset[str]
) -> tuple[Path_, str]:
    """Path and sentence for one finding.

    `sections` says which model checks below which key ("" is the top), for the list of allowed keys. Values
    of keys in `hidden` are never shown.
    """
    path = tuple(part for part in error["loc"] if part != "[key]")
    kind, context, value = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "extra_forbidden":
        allowed = keys_of(_section(path, sections))
        word = str(path[-1])
        return path, f"unknown key{nearest(word, allowed)}; allowed: {', '.join(sorted(allowed))}"
    if kind == "missing":
        if isinstance(path[-1], int):
            return path[:-1], "expected two numbers, x and y, got fewer"
        return path, "expected this key, got nothing; add it"
    if kind == "value_error":
        return path, str(context.get("error", "not valid"))
    got = "something else" if _is_hidden(path, hidden) else show(value)
    if kind == "literal_error":
        allowed = tuple(_literals(str(context.get("expected", ""))))
        hint = nearest(str(value), allowed) if isinstance(value, str) and not _is_hidden(path, hidden) else ""
        return path, f"expected one of {', '.join(allowed)}, got {got}{hint}"
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return path, f"expected a number of {words} {_number(context[name])}, got {got}"
    if kind == "too_short":
        return path, f"expected at least {context['min_length']} entries, got {_count(value)}"
    if kind == "too_long":
        return path, f"expected at most {context['max_length']} entries, got {_count(value)}"
    if kind in ("string_too_short", "string_too_long", "string_pattern_mismatch"):
        return path, f"expected {_text_bounds(kind, context)}, got {got}"
    wanted = _TYPES.get(kind.removesuffix("_type").removesuffix("_parsing"), "")
    if wanted:
        return path, f"expected {wanted}, got {got}{_quotes_hint(wanted, value)}"
    return path, f"{error['msg']}, got {got}"


def show(value: Any) -> str:
    """A value as one would write it in YAML, cut to a bounded length."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping (key: value)"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[: MAX_SHOWN_CHARS - 1]}…"


def _section(path: Path_, sections: Mapping[str, type[BaseModel]]) -> type[BaseModel]:
    for part in reversed(path[:-1]):
        if isinstance(part, str) and part in sections:
            return sections[part]
    return sections[""]


def _count(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple, dict)) else 0


def _is_hidden(path: Path_, hidden: frozenset[str]) -> bool:
    return any(part in hidden for part in path)


def _literals(expected: str) -> list[str]:
    """Pydantic writes `'a', 'b' or 'c'`."""
    return [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",") if part.strip()]


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text_bounds(kind: str, context: Mapping[str, Any]) -> str:
    if kind == "string_too_short":
        return f"text of at least {context['min_length']} characters"
    if kind == "string_too_long":
        return f"text of at most {context['max_length']} characters"
    return _PATTERNS.get(str(context["pattern"]), f"text that matches {context['pattern']}")


def _quotes_hint(wanted: str, value: Any) -> str:
    if wanted != "text" or isinstance(value, (list, dict)) or value is None:
        return ""
    return "; YAML reads this as no text: put it in quotes"
