"""Rows to the bytes of a spool file and back: nothing changes, and nothing damaged gets through."""

import math
import zlib
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from framegrid_store.rows import (
    CountRow,
    CoverageRow,
    CrossingRow,
    DetectionRow,
    EventRow,
    Row,
    TrackRow,
)
from framegrid_store.spool_format import DamagedError, decode_file, encode_file, read_contents
from hypothesis import given
from hypothesis import strategies as st

BATCH = UUID(int=7)
TRACK = str(uuid4())
BOX = (0.1, 0.2, 0.30000000000000004, 1 / 3)
COUNT = CountRow(1_700_000_000.1, 1.0, "north", "person", "", "m@1", 10, 20, 40, 2, 2, 1, 0.1)
ROWS: list[Row] = [
    COUNT,
    CoverageRow(1_700_000_000.0, 1.0, "north", 1.0, 10, 9, 1, 0, 0, 0, 0),
    TrackRow(TRACK, "north", "person", "m@1", 1.5, 2.5, 90, 0.9, BOX, BOX),
    CrossingRow(1_700_000_001.0, "north", "door", "person", TRACK, "in", "m@1"),
    EventRow(1_700_000_002.0, TRACK, "nörth 😀", "camera.lost", "warning", "a\nb", {"k": [1, None]}),
    DetectionRow(1_700_000_003.0, "north", 2**40, "person", "m@1", "", 0.875, *BOX),
]


@pytest.mark.parametrize(
    "rows", [[row] for row in ROWS] + [ROWS * 3], ids=lambda rows: type(rows[0]).__name__
)
def test_every_kind_of_row_comes_back_as_it_was(rows: list[Row]) -> None:
    contents, back = decode_file(encode_file(BATCH, rows))
    assert contents.batch_id == BATCH
    assert sorted(map(repr, back)) == sorted(map(repr, rows))
    assert {type(value) for row in back for value in row} <= {float, int, str, tuple, dict}


numbers = st.integers(-(2**63), 2**63 - 1)
counts = st.builds(
    CountRow,
    *[st.floats(allow_nan=False)] * 2,
    *[st.text()] * 4,
    *[numbers] * 6,
    st.floats(allow_nan=False),
)


@given(st.lists(counts, min_size=1, max_size=50))
def test_any_number_and_any_text_come_back(rows: list[CountRow]) -> None:
    assert decode_file(encode_file(BATCH, rows))[1] == rows


def test_order_is_the_same_at_every_read() -> None:
    data = encode_file(BATCH, ROWS * 2)
    assert decode_file(data)[1] == decode_file(data)[1]


def test_not_a_number_is_kept_for_the_database_to_refuse() -> None:
    (back,) = decode_file(encode_file(BATCH, [COUNT._replace(time_s=math.nan)]))[1]
    assert isinstance(back, CountRow)
    assert math.isnan(back.time_s)


@pytest.mark.parametrize(
    "row",
    [
        "not a row",
        COUNT._replace(camera=5),
        COUNT._replace(samples=1.5),
        COUNT._replace(samples=2**70),
        COUNT._replace(samples=np.uint64(2**63)),
        COUNT._replace(time_s="soon"),
        COUNT._replace(time_s=(1.0, 2.0)),
        ROWS[2]._replace(first_box=(0.1, 0.2)),  # type: ignore[call-arg, union-attr]
        ROWS[4]._replace(payload={"x": object()}),  # type: ignore[call-arg, union-attr]
        ROWS[4]._replace(payload={"x": math.nan}),  # type: ignore[call-arg, union-attr]
    ],
    ids=lambda row: repr(row)[:40],
)
def test_a_row_that_is_none_is_refused_when_it_is_written(row: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        encode_file(BATCH, [COUNT, row])


def test_any_cut_and_any_changed_byte_is_noticed() -> None:
    data = encode_file(BATCH, ROWS)
    for end in range(len(data)):
        with pytest.raises(DamagedError):
            decode_file(data[:end])
    for place in range(len(data)):
        with pytest.raises(DamagedError):
            decode_file(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_the_header_alone_says_what_is_in_the_file() -> None:
    other = uuid4()
    contents = read_contents(encode_file(BATCH, ROWS, replaces=[other])[:2000])
    assert contents.batch_id == BATCH
    assert contents.replaces == (other,)
    assert contents.rows == dict.fromkeys(
        ("frame_count", "coverage", "track", "line_crossing", "event", "detection"), 1
    )


def test_a_file_of_a_newer_release_is_refused_with_a_reason() -> None:
    data = bytearray(encode_file(BATCH, [COUNT]))
    data[7] = 2
    with pytest.raises(DamagedError, match="expected a spool file of version 1"):
        decode_file(bytes(data))
    unknown = encode_file(BATCH, [COUNT])[:-4].replace(b'"uniques"', b'"unknown"')
    with pytest.raises(DamagedError, match="fields that this release does not know"):
        decode_file(unknown + zlib.crc32(unknown).to_bytes(4, "little"))


def test_counts_of_a_real_batch_take_few_bytes() -> None:
    rows = [
        COUNT._replace(time_s=1_700_000_000.0 + i // 200, camera=f"camera-{i % 100}", n_sum=i * 7 % 50)
        for i in range(5000)
    ]
    assert len(encode_file(BATCH, rows)) / len(rows) < 15
