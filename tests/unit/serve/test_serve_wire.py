"""The wire format: golden bytes, round trips, and a parser that survives anything."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from framegrid_serve.wire import (
    MAX_BODY_BYTES,
    MAX_DETECTIONS,
    MAX_FRAMES,
    DetectRequest,
    DetectResponse,
    Frame,
    FrameResult,
    FrameStatus,
    WireError,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from hypothesis import given, settings
from hypothesis import strategies as st

REQUEST = DetectRequest(
    frames=(Frame("gate", 7, b"\xff\xd8jpeg"), Frame("é", 2**64 - 1, b"x")),
    model="m1",
    timeout_ms=250,
    min_score=0.5,
    priority=-1,
    offered_frames=9,
    dropped_frames=2,
)
# Version 1, byte for byte. A change here is a new version of the format.
REQUEST_HEX = (
    "46475251" "01" "02" "0200" "fa000000" "0000003f" "ffffffff" "09000000" "02000000" "6d31"
    "0700000000000000" "06000000" "04" "000000" "67617465" "ffd86a706567"
    "ffffffffffffffff" "01000000" "02" "000000" "c3a9" "78"
)  # fmt: skip
RESPONSE = DetectResponse(
    model="m1",
    version="v2",
    digest="ab",
    results=(
        FrameResult(
            FrameStatus.OK,
            np.array([[0.0, 0.25, 0.5, 1.0]], np.float32),
            np.array([0.75], np.float32),
            np.array([-1], np.int16),
            queue_ms=1.5,
            infer_ms=2.0,
        ),
        FrameResult.without_boxes(FrameStatus.STALE),
    ),
)
RESPONSE_HEX = (
    "46475253" "01" "02" "02" "02" "0200" "0000" "6d31" "7632" "6162"
    "00" "00" "0100" "0000c03f" "00000040"
    "00000000" "0000803e" "0000003f" "0000803f" "0000403f" "ffff"
    "01" "00" "0000" "00000000" "00000000"
)  # fmt: skip


def test_request_has_the_golden_bytes_of_version_1() -> None:
    assert encode_request(REQUEST).hex() == REQUEST_HEX


def test_response_has_the_golden_bytes_of_version_1() -> None:
    assert encode_response(RESPONSE).hex() == RESPONSE_HEX


def test_golden_request_is_read_back_as_it_was() -> None:
    assert decode_request(bytes.fromhex(REQUEST_HEX)) == REQUEST


def test_golden_response_is_read_back_as_it_was() -> None:
    response = decode_response(bytes.fromhex(RESPONSE_HEX))
    assert (response.model, response.version, response.digest) == ("m1", "v2", "ab")
    first, second = response.results
    np.testing.assert_array_equal(first.boxes_xyxy, RESPONSE.results[0].boxes_xyxy)
    assert (first.scores.tolist(), first.class_ids.tolist()) == ([0.75], [-1])
    assert (first.queue_ms, first.infer_ms) == (1.5, 2.0)
    assert (second.status, len(second.scores)) == (FrameStatus.STALE, 0)


def test_frames_are_views_into_the_body_and_not_copies() -> None:
    frame = decode_request(encode_request(REQUEST)).frames[0]
    assert isinstance(frame.jpeg, memoryview)


@given(
    frames=st.lists(
        st.builds(
            Frame,
            st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
            st.integers(0, 2**64 - 1),
            st.binary(min_size=1, max_size=50),
        ),
        min_size=1,
        max_size=MAX_FRAMES,
    ),
    timeout_ms=st.integers(1, 600_000),
    min_score=st.floats(0, 1, width=32),
)
@settings(max_examples=60, deadline=None)
def test_every_valid_request_survives_the_round_trip(
    frames: list[Frame], timeout_ms: int, min_score: float
) -> None:
    request = DetectRequest(frames=tuple(frames), timeout_ms=timeout_ms, min_score=min_score)
    assert decode_request(encode_request(request)) == request


def _mutated(rng: random.Random, seed: bytes) -> bytes:
    body = bytearray(seed)
    for _ in range(rng.randint(1, 8)):
        choice = rng.randrange(5)
        if choice == 0 and body:
            body[rng.randrange(len(body))] = rng.randrange(256)
        elif choice == 1:
            del body[rng.randrange(len(body) + 1) :]
        elif choice == 2:
            body += rng.randbytes(rng.randint(1, 40))
        elif choice == 3 and len(body) >= 4:
            at = rng.randrange(len(body) - 3)
            body[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\0\xc0\x7f"])
        else:
            body[:0] = rng.randbytes(rng.randint(0, 3))
    return bytes(body)


def test_ten_thousand_broken_bodies_raise_wire_error_only_and_cost_no_memory() -> None:
    rng = random.Random(20)
    requests, responses = bytes.fromhex(REQUEST_HEX), bytes.fromhex(RESPONSE_HEX)
    refused = 0
    tracemalloc.start()
    try:
        for index in range(10_000):
            if index % 10 == 0:
                body = rng.randbytes(rng.randrange(200))
            else:
                body = _mutated(rng, requests if index % 2 else responses)
            for decode in (decode_request, decode_response):
                try:
                    decode(body)
                except WireError:
                    refused += 1
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused > 15_000
    assert peak_bytes < 2_000_000


@pytest.mark.parametrize("at", range(0, len(REQUEST_HEX) // 2))
def test_a_request_cut_anywhere_is_refused(at: int) -> None:
    with pytest.raises(WireError):
        decode_request(bytes.fromhex(REQUEST_HEX)[:at])


@pytest.mark.parametrize("at", range(0, len(RESPONSE_HEX) // 2))
def test_a_response_cut_anywhere_is_refused(at: int) -> None:
    with pytest.raises(WireError):
        decode_response(bytes.fromhex(RESPONSE_HEX)[:at])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((0, b"JUNK"), "expected the body to start with b'FGRQ', got b'JUNK'"),
        ((4, b"\x09"), "expected wire version 1, got 9; update the older side"),
        ((6, b"\0\0"), "expected frames in 1..64, got 0"),
        ((6, b"\xff\xff"), "expected frames in 1..64, got 65535"),
        ((8, b"\0\0\0\0"), "expected timeout_ms in 1..600000, got 0"),
        ((12, b"\0\0\xc0\x7f"), "expected min_score in 0..1, got nan"),
        ((28, b"\n"), "expected model of printable characters, got control characters"),
        ((28, b"\xff"), "expected model in UTF-8, got bytes that are not"),
        ((38, b"\0\0\0\0"), "expected JPEG bytes of frame 0 in 1..8388608, got 0"),
        ((38, b"\xff\xff\xff\x7f"), "expected JPEG bytes of frame 0 in 1..8388608, got 2147483647"),
        ((43, b"\x01"), "expected reserved bytes of head of frame 0 to be zero, got 010000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_field_is_named(change: tuple[int, bytes], message: str) -> None:
    body = bytearray.fromhex(REQUEST_HEX)
    at, value = change
    body[at : at + len(value)] = value
    with pytest.raises(WireError) as caught:
        decode_request(body)
    assert str(caught.value) == message


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(WireError, match="got 1 bytes more"):
        decode_request(bytes.fromhex(REQUEST_HEX) + b"\0")


def test_a_body_over_the_bound_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match=f"at most {MAX_BODY_BYTES} bytes"):
        decode_request(b"FGRQ" + bytes(MAX_BODY_BYTES))


def test_what_cannot_be_sent_is_refused_when_encoding() -> None:
    frame = Frame("gate", 0, b"x")
    for request in (
        DetectRequest(frames=()),
        DetectRequest(frames=(frame,) * (MAX_FRAMES + 1)),
        DetectRequest(frames=(Frame("", 0, b"x"),)),
        DetectRequest(frames=(Frame("gate", -1, b"x"),)),
        DetectRequest(frames=(Frame("gate", 0, b""),)),
        DetectRequest(frames=(Frame("gate", 0, bytes(MAX_BODY_BYTES)),)),
        DetectRequest(frames=(frame,), timeout_ms=0),
        DetectRequest(frames=(frame,), min_score=float("nan")),
        DetectRequest(frames=(frame,), model="a\nb"),
        DetectRequest(frames=(frame,), model="\ud800"),
    ):
        with pytest.raises(WireError):
            encode_request(request)


def test_a_result_with_mismatched_or_too_many_arrays_is_refused() -> None:
    def response(result: FrameResult) -> DetectResponse:
        return DetectResponse("m", "1", "", (result,))

    boxes, scores, ids = np.zeros((2, 4), "f4"), np.zeros(2, "f4"), np.zeros(2, "i2")
    many = MAX_DETECTIONS + 1
    for result in (
        FrameResult(FrameStatus.OK, boxes[:1], scores, ids),
        FrameResult(FrameStatus.STALE, boxes, scores, ids),
        FrameResult(FrameStatus.OK, np.zeros((many, 4), "f4"), np.zeros(many, "f4"), np.zeros(many, "i2")),
        FrameResult(FrameStatus.OK, boxes, scores, ids, queue_ms=float("inf")),
    ):
        with pytest.raises(WireError):
            encode_response(response(result))


def test_importing_the_wire_format_loads_no_engine_and_no_ray() -> None:
    code = (
        "import sys, framegrid_serve.wire; "
        "heavy = {'ray', 'cv2', 'torch', 'openvino', 'onnxruntime', 'starlette', 'pydantic', 'simplejpeg'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"
