"""The binary COPY encoding, against psycopg's own dumpers, and what it refuses."""

import math
import struct
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from framegrid_store.encode import POSTGRES_EPOCH_S
from framegrid_store.facts import FACTS, columns_of
from framegrid_store.rows import CountRow, CoverageRow, CrossingRow, DetectionRow, EventRow, TrackRow
from hypothesis import given
from hypothesis import strategies as st

TRACK_ID = "0b5f9d0a-7f0d-4f6e-9f53-0c8a6a2d9a11"
BOX = (0.1, 0.2, 0.3, 0.4)
COUNT = CountRow(1_700_000_000.25, 0.25, "north", "person", "", "m@1", 5, 10, 22, 1, 3, 1, 0.5)
COVERAGE = CoverageRow(1_700_000_000.0, 1.0, "north", 0.9, 10, 5, 1, 1, 1, 1, 1)
CROSSING = CrossingRow(1_700_000_000.0, "north", "door", "person", TRACK_ID, "out", "m@1")
TRACK = TrackRow(TRACK_ID, "north", "person", "m@1", 1_700_000_000.0, 1_700_000_009.5, 90, 0.875, BOX, BOX)
DETECTION = DetectionRow(1_700_000_000.0, "north", 7, "person", "m@1", "", 0.875, -0.01, 0.2, 0.5, 1.01)
EVENT = EventRow(1_700_000_000.0, TRACK_ID, "north", "camera.lost", "warning", "no frames: ä", {"after_s": 5})
ROWS = [COUNT, COVERAGE, CROSSING, TRACK, DETECTION, EVENT]


def encode(rows: Sequence[Any]) -> bytearray:
    fact = FACTS[type(rows[0])]
    ids = np.tile(np.arange(1, len(fact.names) + 1), (len(rows), 1))
    return fact.encode(columns_of(type(rows[0]), rows), ids, 77)


def fields(data: bytearray) -> list[list[bytes]]:
    """Parse COPY data the way the server does."""
    rows, place = [], 0
    while place < len(data):
        (count,) = struct.unpack_from(">h", data, place)
        place += 2
        row = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", data, place)
            row.append(bytes(data[place + 4 : place + 4 + length]))
            place += 4 + length
        rows.append(row)
    return rows


def as_dict(row: Any) -> dict[str, bytes]:
    (found,) = fields(encode([row]))
    return dict(zip(FACTS[type(row)].columns, found, strict=True))


def whole(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_every_kind_of_row_has_all_its_columns(row: Any) -> None:
    parsed = fields(encode([row] * 3))
    assert len(parsed) == 3
    assert {len(found) for found in parsed} == {len(FACTS[type(row)].columns)}


def test_a_count_becomes_integers_that_add_up_exactly() -> None:
    found = {name: whole(value) for name, value in as_dict(COUNT).items()}
    assert found == {
        "time": round((1_700_000_000.25 - POSTGRES_EPOCH_S) * 1e6),
        "camera_id": 1,
        "class_id": 2,
        "model_id": 3,
        "zone_id": 4,
        "interval_ms": 250,
        "samples": 5,
        "n_sum": 10,
        "n_sumsq": 22,
        "score_milli_sum": 5000,
        "n_min": 1,
        "n_max": 3,
        "uniques": 1,
        "batch_no": 77,
    }


def test_a_detection_outside_every_track_has_a_track_of_zeros_and_keeps_its_overhang() -> None:
    found = as_dict(DETECTION)
    assert found["track_id"] == bytes(16)
    assert [whole(found[f"{c}_e4"]) for c in ("x1", "y1", "x2", "y2")] == [-100, 2000, 5000, 10_100]
    assert whole(found["score_milli"]) == 875


def test_an_event_carries_text_and_json() -> None:
    found = as_dict(EVENT)
    assert whole(found["time"]) == round((EVENT.time_s - POSTGRES_EPOCH_S) * 1e6)
    assert whole(found["camera_id"]) == 1
    assert found["message"].decode() == "no frames: ä"
    assert found["payload"] == b'\x01{"after_s":5}'
    assert uuid.UUID(bytes=found["event_id"]) == uuid.UUID(TRACK_ID)


def test_directions_and_uuids_are_kept() -> None:
    found = as_dict(CROSSING)
    assert whole(found["direction"]) == -1
    assert uuid.UUID(bytes=found["track_id"]) == uuid.UUID(TRACK_ID)


@pytest.mark.parametrize(
    "row",
    [
        COUNT._replace(time_s=math.nan),
        COUNT._replace(time_s=1_700_000_000_000.0),
        COUNT._replace(samples=2.5),
        COUNT._replace(samples=2**31),
        COUNT._replace(n_sum=2**63),
        COUNT._replace(samples=None),
        COUNT._replace(score_mean=math.inf),
        COUNT._replace(interval_s=1e9),
        COVERAGE._replace(observed_s=math.nan),
        CROSSING._replace(direction="up"),
        CROSSING._replace(track_id="not-a-uuid"),
        CROSSING._replace(track_id="0b5f"),
        TRACK._replace(first_box=(0.1, 0.2, 0.3)),
        TRACK._replace(score_max=math.nan),
        DETECTION._replace(x1=4.0),
        EVENT._replace(severity="loud"),
        EVENT._replace(message="nul \0"),
        EVENT._replace(payload={"value": math.nan}),
        EVENT._replace(payload={"value": object()}),
    ],
    ids=str,
)
def test_what_a_column_cannot_hold_is_refused(row: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError, AttributeError)):
        encode([row])


@given(st.lists(st.tuples(st.floats(0, 4e9), st.integers(0, 2**31 - 1), st.integers(0, 2**62)), min_size=1))
def test_numbers_come_back_as_they_went(values: list[tuple[float, int, int]]) -> None:
    rows = [COUNT._replace(time_s=t, samples=n, n_sumsq=q, score_mean=0.0) for t, n, q in values]
    for parsed, (time_s, samples, n_sumsq) in zip(fields(encode(rows)), values, strict=True):
        found = dict(zip(FACTS[CountRow].columns, map(whole, parsed), strict=True))
        assert abs(found["time"] / 1e6 + POSTGRES_EPOCH_S - time_s) < 2e-6
        assert (found["samples"], found["n_sumsq"]) == (samples, n_sumsq)
