"""How each kind of row becomes a row of its table: which names it needs ids for, and how it is encoded."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from framegrid_store.encode import (
    Array,
    Layout,
    boxes,
    directions,
    encode_variable,
    integers,
    jsonb,
    reals,
    scaled,
    times_us,
    utf8,
    uuids,
)
from framegrid_store.rows import (
    DROP_REASONS,
    SEVERITIES,
    CountRow,
    CoverageRow,
    CrossingRow,
    DetectionRow,
    EventRow,
    TrackRow,
)

Names: TypeAlias = tuple[str, ...]
Columns: TypeAlias = dict[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Fact:
    """One table of facts.

    `names`: the row's fields that hold names, in the order camera, cls, model, zone, line, as far as it has
    them. `encode`: (columns by field name, ids (n, len(names)) int64, number of the batch) -> rows of COPY
    data.
    """

    table: str
    columns: tuple[str, ...]
    names: tuple[str, ...]
    encode: Callable[[Columns, Array, int], bytearray]


_COUNT = Layout(
    "frame_count",
    {
        "time": "timestamptz",
        "camera_id": "int",
        "class_id": "smallint",
        "model_id": "int",
        "zone_id": "int",
        "interval_ms": "int",
        "samples": "int",
        "n_sum": "bigint",
        "n_sumsq": "bigint",
        "score_milli_sum": "bigint",
        "n_min": "int",
        "n_max": "int",
        "uniques": "int",
        "batch_no": "bigint",
    },
)


def _ids(ids: Array, *columns: str) -> dict[str, Array]:
    return {name: ids[:, place] for place, name in enumerate(columns)}


def _integers(layout: Layout, columns: Columns, names: Sequence[str]) -> dict[str, Array]:
    return {name: integers(columns[name], layout.types[name]) for name in names}


def _encode_counts(columns: Columns, ids: Array, batch_no: int) -> bytearray:
    found = _integers(_COUNT, columns, ("samples", "n_sum", "n_sumsq", "n_min", "n_max", "uniques"))
    score_sum = np.array(columns["score_mean"], dtype=np.float64) * found["n_sum"]
    return _COUNT.encode(
        {
            "time": times_us(columns["time_s"]),
            **_ids(ids, "camera_id", "class_id", "model_id", "zone_id"),
            "interval_ms": scaled(columns["interval_s"], 1000, "int"),
            "score_milli_sum": scaled(score_sum, 1000, "bigint"),
            "batch_no": np.full(len(ids), batch_no),
            **found,
        }
    )


_COVERAGE_INTEGERS = ("expected", "processed", *(f"dropped_{reason}" for reason in DROP_REASONS))
_COVERAGE = Layout(
    "coverage",
    {
        "time": "timestamptz",
        "camera_id": "int",
        "interval_ms": "int",
        "observed_ms": "int",
        **dict.fromkeys(_COVERAGE_INTEGERS, "int"),
        "batch_no": "bigint",
    },
)


def _encode_coverage(columns: Columns, ids: Array, batch_no: int) -> bytearray:
    return _COVERAGE.encode(
        {
            "time": times_us(columns["time_s"]),
            **_ids(ids, "camera_id"),
            "interval_ms": scaled(columns["interval_s"], 1000, "int"),
            "observed_ms": scaled(columns["observed_s"], 1000, "int"),
            "batch_no": np.full(len(ids), batch_no),
            **_integers(_COVERAGE, columns, _COVERAGE_INTEGERS),
        }
    )


_CORNERS = ("x1", "y1", "x2", "y2")
_TRACK = Layout(
    "track",
    {
        "started_at": "timestamptz",
        "ended_at": "timestamptz",
        "track_id": "uuid",
        "camera_id": "int",
        "class_id": "smallint",
        "model_id": "int",
        "frames": "int",
        "score_max": "real",
        **{f"{end}_{corner}": "real" for end in ("first", "last") for corner in _CORNERS},
    },
)


def _encode_tracks(columns: Columns, ids: Array, _: int) -> bytearray:
    ends = {"first": boxes(columns["first_box"]), "last": boxes(columns["last_box"])}
    return _TRACK.encode(
        {
            "started_at": times_us(columns["started_at_s"]),
            "ended_at": times_us(columns["ended_at_s"]),
            "track_id": uuids(columns["track_id"]),
            **_ids(ids, "camera_id", "class_id", "model_id"),
            "frames": integers(columns["frames"], "int"),
            "score_max": reals(columns["score_max"]),
            **{f"{e}_{corner}": box[:, i] for e, box in ends.items() for i, corner in enumerate(_CORNERS)},
        }
    )


_CROSSING = Layout(
    "line_crossing",
    {
        "time": "timestamptz",
        "track_id": "uuid",
        "camera_id": "int",
        "class_id": "smallint",
        "model_id": "int",
        "line_id": "int",
        "direction": "smallint",
    },
)


def _encode_crossings(columns: Columns, ids: Array, _: int) -> bytearray:
    return _CROSSING.encode(
        {
            "time": times_us(columns["time_s"]),
            "track_id": uuids(columns["track_id"]),
            **_ids(ids, "camera_id", "class_id", "model_id", "line_id"),
            "direction": directions(columns["direction"]),
        }
    )


_DETECTION = Layout(
    "detection",
    {
        "time": "timestamptz",
        "seq": "bigint",
        "track_id": "uuid",
        "camera_id": "int",
        "class_id": "smallint",
        "model_id": "int",
        "score_milli": "smallint",
        **{f"{corner}_e4": "smallint" for corner in _CORNERS},
    },
)


def _encode_detections(columns: Columns, ids: Array, _: int) -> bytearray:
    # A box may stand a little outside the picture; three times its size is a mistake and fails the range.
    corners = {f"{c}_e4": scaled(columns[c], 10_000, "smallint") for c in _CORNERS}
    return _DETECTION.encode(
        {
            "time": times_us(columns["time_s"]),
            "seq": integers(columns["seq"], "bigint"),
            "track_id": uuids(columns["track_id"]),
            **_ids(ids, "camera_id", "class_id", "model_id"),
            "score_milli": scaled(columns["score"], 1000, "smallint"),
            **corners,
        }
    )


def _encode_events(columns: Columns, ids: Array, _: int) -> bytearray:
    if not set(columns["severity"]) <= set(SEVERITIES):
        raise ValueError(f"expected a severity of {SEVERITIES}")
    return encode_variable(
        list(
            zip(
                [struct.pack(">q", value) for value in times_us(columns["time_s"])],
                [value.tobytes() for value in uuids(columns["event_id"])],
                [struct.pack(">i", value) for value in ids[:, 0]],
                [utf8(value) for value in columns["kind"]],
                [utf8(value) for value in columns["severity"]],
                [utf8(value) for value in columns["message"]],
                [jsonb(value) for value in columns["payload"]],
                strict=True,
            )
        )
    )


def _fact(layout: Layout, names: tuple[str, ...], encode: Callable[[Columns, Array, int], bytearray]) -> Fact:
    return Fact(layout.table, tuple(layout.types), names, encode)


FACTS: dict[type[Any], Fact] = {
    CountRow: _fact(_COUNT, ("camera", "cls", "model", "zone"), _encode_counts),
    CoverageRow: _fact(_COVERAGE, ("camera",), _encode_coverage),
    TrackRow: _fact(_TRACK, ("camera", "cls", "model"), _encode_tracks),
    CrossingRow: _fact(_CROSSING, ("camera", "cls", "model", "line"), _encode_crossings),
    DetectionRow: _fact(_DETECTION, ("camera", "cls", "model"), _encode_detections),
    EventRow: Fact(
        "event",
        ("time", "event_id", "camera_id", "kind", "severity", "message", "payload"),
        ("camera",),
        _encode_events,
    ),
}
"""What to do with each type of row."""


def table_of(kind: type[Any]) -> str:
    """The table that rows of a kind go to, for counters; "unknown" for what is no row."""
    return FACTS[kind].table if kind in FACTS else "unknown"


def columns_of(kind: type[Any], rows: Sequence[tuple[Any, ...]]) -> Columns:
    """The rows of one kind, turned: field name -> values. At least one row."""
    return dict(zip(kind._fields, zip(*rows, strict=True), strict=True))
