"""Rows to PostgreSQL's binary COPY format, a whole table at once with numpy.

A table without variable-length columns is one structured array: each record is the row as it goes over the
wire (field count, then length and big-endian value of each field), so encoding is a few vector assignments.
Format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".

Every function raises ValueError, TypeError or OverflowError when a row cannot be what its column takes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from framegrid_store.rows import DIRECTIONS

Array: TypeAlias = npt.NDArray[Any]

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
POSTGRES_EPOCH_S = 946_684_800  # 2000-01-01T00:00:00Z in unix seconds
LATEST_S = 32_503_680_000  # the year 3000: beyond it a time is a mistake, e.g. milliseconds
NO_TRACK = bytes(16)

_WIRE: dict[str, tuple[str, int]] = {
    "timestamptz": (">i8", 8),
    "bigint": (">i8", 8),
    "int": (">i4", 4),
    "smallint": (">i2", 2),
    "real": (">f4", 4),
    "uuid": ("V16", 16),
}
_PYTHON: dict[str, Any] = {"bigint": np.int64, "int": np.int32, "smallint": np.int16}


@dataclass(frozen=True)
class Layout:
    """A table's columns in COPY order, with types; and the record that holds them."""

    table: str
    types: Mapping[str, str]

    @cached_property
    def empty(self) -> Array:
        """One row on the wire, () structured: count and lengths are filled in, values are zero."""
        fields: list[tuple[str, str]] = [("fields", ">i2")]
        for name, type_ in self.types.items():
            fields += [(f"{name}_length", ">i4"), (name, _WIRE[type_][0])]
        row = np.zeros((), dtype=np.dtype(fields))
        row["fields"] = len(self.types)
        for name, type_ in self.types.items():
            row[f"{name}_length"] = _WIRE[type_][1]
        return row

    def encode(self, columns: Mapping[str, Array]) -> bytearray:
        """The rows, between SIGNATURE and TRAILER. Columns are equally long, their values fit."""
        data = bytearray(self.empty.tobytes() * len(next(iter(columns.values()))))
        out = np.frombuffer(data, dtype=self.empty.dtype)
        for name in self.types:
            out[name] = columns[name]
        return data


def times_us(times_s: Sequence[float]) -> Array:
    """Unix seconds to microseconds since PostgreSQL's epoch."""
    times = np.array(times_s, dtype=np.float64)
    if not ((times >= 0) & (times < LATEST_S)).all():
        raise ValueError("expected times in unix seconds, between 1970 and 3000")
    return np.rint((times - POSTGRES_EPOCH_S) * 1e6).astype(np.int64)


def integers(values: Sequence[int], type_: str) -> Array:
    """Whole numbers that fit the column; a float, even 1.0, is refused rather than cut."""
    found = np.array(values)
    if found.dtype.kind not in "iu":
        raise TypeError(f"expected whole numbers for a column of type {type_}, got {found.dtype}")
    limits = np.iinfo(_PYTHON[type_])
    if len(found) and (found.min() < limits.min or found.max() > limits.max):
        raise OverflowError(f"expected numbers between {limits.min} and {limits.max}")
    return found


def reals(values: Any) -> Array:
    """Finite float32."""
    found = np.array(values, dtype=np.float32)
    if not np.isfinite(found).all():
        raise ValueError("expected finite numbers, got NaN or infinity")
    return found


def scaled(values: Sequence[float] | Array, factor: int, type_: str) -> Array:
    """Numbers times a factor, rounded to whole ones that fit the column."""
    found = np.rint(np.array(values, dtype=np.float64) * factor)
    limits = np.iinfo(_PYTHON[type_])
    if not ((found >= limits.min) & (found < limits.max)).all():
        raise ValueError(f"expected numbers that fit a column of type {type_}, got NaN or too large ones")
    return found.astype(np.int64)


def uuids(values: Sequence[str]) -> Array:
    """UUIDs in text form to 16 bytes each; the empty text to zeros."""
    packed = b"".join([bytes.fromhex(value.replace("-", "")) if value else NO_TRACK for value in values])
    if len(packed) != 16 * len(values):
        raise ValueError("expected UUIDs of 32 hexadecimal digits")
    return np.frombuffer(packed, dtype="V16")


def directions(values: Sequence[str]) -> Array:
    """`in` to 1, `out` to -1."""
    known = {DIRECTIONS[0]: 1, DIRECTIONS[1]: -1}
    try:
        return np.array([known[value] for value in values], dtype=np.int16)
    except KeyError as error:
        raise ValueError(f"expected a direction of {DIRECTIONS}, got {error}") from None


def boxes(values: Sequence[Sequence[float]]) -> Array:
    """(n, 4) float32."""
    found = reals(list(chain.from_iterable(values)))
    if found.size != 4 * len(values):
        raise ValueError("expected boxes of four numbers")
    return found.reshape(-1, 4)


def encode_variable(rows: Sequence[Sequence[bytes]]) -> bytearray:
    """Rows whose fields are already in PostgreSQL's binary form, as `Layout.encode` makes them."""
    out = bytearray()
    for row in rows:
        out += struct.pack(">h", len(row))
        for field in row:
            out += struct.pack(">i", len(field)) + field
    return out


def utf8(value: str) -> bytes:
    """Text as PostgreSQL takes it: UTF-8 without NUL."""
    if "\0" in value:
        raise ValueError("expected text without NUL characters")
    return value.encode()


def jsonb(value: Mapping[str, Any]) -> bytes:
    """A jsonb value: version 1, then the text."""
    return b"\x01" + utf8(json.dumps(value, separators=(",", ":"), allow_nan=False))
