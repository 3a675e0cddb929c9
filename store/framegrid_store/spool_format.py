"""A batch of rows as the bytes of one spool file, and back.

    magic and version (8) · length of the header (4) · header (JSON) · columns (zlib) · crc32 of all that (4)

Names stay names: ids belong to the database that hands them out. Each kind of row is stored by column:
numbers as little-endian int64 or float64, texts as an index into their distinct values. The bytes of a number
column are turned (all first bytes, then all second bytes, …) before zlib, which then finds little in them:
about 10 bytes a count row, 1,000,000 rows a second. The header names every field with its encoding, so a file
of an older release is readable after fields were added to `rows`. Nothing in a file is ever executed.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints
from uuid import UUID

import numpy as np

from framegrid_store.encode import Array
from framegrid_store.facts import FACTS
from framegrid_store.rows import Box, Row

MAGIC = b"FGSPOOL\x01"
_PREFIX = struct.Struct("<8sI")
_CRC = struct.Struct("<I")
_LEVEL = 1  # 3 and more cost time and save nothing on turned columns
_BOX_NUMBERS = 4
_NUMBERS = {"float": "<f8", "box": "<f8", "int": "<i8"}

_KINDS: dict[str, type[Any]] = {fact.table: kind for kind, fact in FACTS.items()}


class DamagedError(ValueError):
    """Not a spool file, or not all of it, or of a newer release."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file says about itself. `rows`: how many, by table."""

    batch_id: UUID
    replaces: tuple[UUID, ...]
    """Batches whose rows are in here, merged; their own files are obsolete."""
    rows: Mapping[str, int]
    tables: Sequence[Mapping[str, Any]]
    body_at: int


def encode_file(batch_id: UUID, rows: Sequence[Row], replaces: Iterable[UUID] = ()) -> bytes:
    """Raises TypeError, ValueError or OverflowError when a row cannot be what its fields say."""
    kinds: dict[type[Any], list[Row]] = defaultdict(list)
    for row in rows:
        kinds[type(row)].append(row)
    tables, parts = [], []
    for kind, of_kind in kinds.items():
        if kind not in FACTS:
            raise TypeError(f"expected rows of framegrid_store.rows, got {kind.__name__}")
        fields = []
        for (name, encoding), values in zip(
            _ENCODINGS[kind].items(), zip(*of_kind, strict=True), strict=True
        ):
            column = _encode_column(encoding, values)
            fields.append([name, encoding, *(len(part) for part in column)])
            parts += column
        tables.append({"table": FACTS[kind].table, "rows": len(of_kind), "fields": fields})
    header = {"batch": batch_id.hex, "replaces": [other.hex for other in replaces], "tables": tables}
    packed = json.dumps(header, separators=(",", ":")).encode()
    data = _PREFIX.pack(MAGIC, len(packed)) + packed + zlib.compress(b"".join(parts), _LEVEL)
    return data + _CRC.pack(zlib.crc32(data))


def decode_file(data: bytes) -> tuple[Contents, list[Row]]:
    """The rows, in the order of their kinds. Raises DamagedError."""
    contents = read_contents(data)
    checksum = zlib.crc32(data[: -_CRC.size])
    if len(data) < contents.body_at + _CRC.size or _CRC.pack(checksum) != data[-_CRC.size :]:
        raise DamagedError("its checksum is wrong: the file is cut short or damaged")
    try:
        return contents, list(_decode_rows(contents, zlib.decompress(data[contents.body_at : -_CRC.size])))
    except (KeyError, IndexError, TypeError, ValueError, zlib.error) as error:
        raise DamagedError(f"it cannot be read: {error!r}") from None


def read_contents(data: bytes) -> Contents:
    """The header alone, of a whole file or of its beginning. Raises DamagedError."""
    if len(data) < _PREFIX.size:
        raise DamagedError("expected a spool file, got fewer bytes than its header has")
    magic, length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise DamagedError(f"expected a spool file of version {MAGIC[-1]}, got one that begins {magic!r}")
    try:
        header = json.loads(data[_PREFIX.size : _PREFIX.size + length])
        tables = header["tables"]
        return Contents(
            UUID(header["batch"]),
            tuple(UUID(other) for other in header["replaces"]),
            {table["table"]: int(table["rows"]) for table in tables},
            tables,
            _PREFIX.size + length,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"its header cannot be read: {error!r}") from None


def _encodings(kind: type[Any]) -> dict[str, str]:
    """Field -> encoding: float, int, text, box or json, by the field's type."""
    known = {float: "float", int: "int", str: "text", Box: "box"}
    return {name: known.get(hint, "json") for name, hint in get_type_hints(kind).items()}


_ENCODINGS = {kind: _encodings(kind) for kind in FACTS}


def _encode_column(encoding: str, values: Sequence[Any]) -> list[bytes]:
    if encoding == "json":
        values = [json.dumps(value, separators=(",", ":"), allow_nan=False) for value in values]
    if encoding in _NUMBERS:
        return [_turned(_numbers(encoding, values))]
    if not set(map(type, values)) <= {str}:
        raise TypeError("expected text")
    places: dict[str, int] = {}
    index = np.fromiter((places.setdefault(value, len(places)) for value in values), "<u4", len(values))
    return [_turned(index), json.dumps(list(places), separators=(",", ":")).encode()]


def _numbers(encoding: str, values: Sequence[Any]) -> Array:
    if encoding != "int":
        found = np.array(values, dtype="<f8")
        shape = (len(values), _BOX_NUMBERS) if encoding == "box" else (len(values),)
        if found.shape != shape:
            raise ValueError(f"expected numbers of shape {shape}, got {found.shape}")
        return found.reshape(-1)
    whole = np.array(values)
    if whole.dtype.kind not in "iu" or whole.ndim != 1:
        raise TypeError(f"expected whole numbers, got {whole.dtype}")
    if whole.dtype.kind == "u" and whole.max() > np.iinfo(np.int64).max:
        raise OverflowError("expected whole numbers of 64 bits")
    return whole.astype("<i8")


def _turned(numbers: Array) -> bytes:
    return bytes(numbers.view(np.uint8).reshape(len(numbers), -1).T.tobytes())


def _straight(data: bytes, dtype: str) -> Array:
    width = np.dtype(dtype).itemsize
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(width, -1).T).view(dtype).reshape(-1)


def _decode_rows(contents: Contents, body: bytes) -> Iterator[Row]:
    at = 0
    for table in contents.tables:
        kind = _KINDS[table["table"]]
        columns: dict[str, Sequence[Any]] = {}
        for name, encoding, *lengths in table["fields"]:
            parts = []
            for length in lengths:
                parts.append(body[at : at + length])
                at += length
            columns[name] = _decode_column(encoding, parts)
            if len(columns[name]) != table["rows"]:
                raise ValueError(f"expected {table['rows']} values of {name}, got {len(columns[name])}")
        if set(columns) - set(kind._fields):
            raise ValueError(f"it has fields that this release does not know: {sorted(columns)}")
        for name in kind._fields:
            if name not in columns:  # added to `rows` since: its default, or the file is of no use
                columns[name] = [kind._field_defaults[name]] * table["rows"]
        yield from map(kind._make, zip(*(columns[name] for name in kind._fields), strict=True))
    if at != len(body):
        raise ValueError(f"expected {at} bytes of columns, got {len(body)}")


def _decode_column(encoding: str, parts: Sequence[bytes]) -> Sequence[Any]:
    if encoding in _NUMBERS:
        numbers = _straight(parts[0], _NUMBERS[encoding])
        if encoding == "box":
            return list(map(tuple, numbers.reshape(-1, _BOX_NUMBERS).tolist()))
        return list(numbers.tolist())
    texts = json.loads(parts[1])
    values = [texts[place] for place in _straight(parts[0], "<u4").tolist()]
    return [json.loads(value) for value in values] if encoding == "json" else values
