"""What the bench of frames computes: bytes on the wire, agreement, and codecs that give back the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from framegrid_local.bench.codecs import CODECS, Codec, H264Keyframe, Jpeg, scaled
from framegrid_local.bench.frames import (
    BATCH,
    HTTP_HEAD_BYTES,
    INPUT_SIZE,
    Link,
    agreement,
    wire_bytes,
)
from framegrid_serve.evaluation import Labelled
from framegrid_serve.wire import DetectRequest, Frame, encode_request


def scene(height: int = 120, width: int = 160) -> np.ndarray:
    """Soft shapes, as in photographs: (height, width, 3) BGR."""
    noise = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_every_codec_gives_back_the_picture_in_fewer_bytes(codec: Codec) -> None:
    picture = scene()
    data = codec.encode(picture)
    assert len(data) < picture.nbytes / 3
    decoded = codec.decode(data)
    assert decoded.shape == picture.shape and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - picture).mean() < 12


def test_a_keyframe_of_odd_sides_keeps_the_picture_at_its_top_left() -> None:
    picture = scene(121, 161)
    decoded = H264Keyframe(18).decode(H264Keyframe(18).encode(picture))
    assert decoded.shape == (122, 162, 3)
    assert np.abs(decoded[:121, :161].astype(int) - picture).mean() < 6


def test_names_of_codecs_differ() -> None:
    names = [codec.name for codec in CODECS]
    assert len(set(names)) == len(names) and Jpeg(90).name == "JPEG 90 4:2:0"


def test_bytes_on_the_wire_hold_the_heads_of_frame_request_and_http() -> None:
    jpegs = [b"x" * 1000] * BATCH
    frames = tuple(Frame("camera-1", index, jpeg) for index, jpeg in enumerate(jpegs))
    whole = len(encode_request(DetectRequest(frames))) + HTTP_HEAD_BYTES
    assert wire_bytes(jpegs) == whole / BATCH
    assert 1000 < wire_bytes(jpegs) < 1000 + 24 + (28 + HTTP_HEAD_BYTES) / BATCH + 1


def labelled(*boxes: tuple[float, float, float, float, int, float]) -> Labelled:
    table = np.array(boxes, float).reshape(-1, 6)
    return Labelled(table[:, :4], table[:, 4].astype(int), table[:, 5])


def test_agreement_is_the_f1_score_of_boxes_that_count() -> None:
    one, moved = (0.1, 0.1, 0.4, 0.4, 0, 0.9), (0.11, 0.1, 0.41, 0.4, 0, 0.8)
    other, weak = (0.6, 0.6, 0.9, 0.9, 2, 0.7), (0.6, 0.6, 0.9, 0.9, 2, 0.2)
    assert agreement([labelled(one, other)], [labelled(moved, other)]) == 1.0
    assert agreement([labelled(one, weak)], [labelled(one, other)]) == pytest.approx(2 / 3)
    assert agreement([labelled((*one[:4], 1, 0.9))], [labelled(one)]) == 0.0
    assert agreement([labelled()], [labelled(weak)]) == 1.0


def test_a_picture_is_scaled_down_to_the_models_size_and_never_up() -> None:
    assert scaled(np.zeros((1080, 1920, 3), np.uint8), INPUT_SIZE).shape == (360, INPUT_SIZE, 3)
    assert scaled(np.zeros((100, 200, 3), np.uint8), INPUT_SIZE).shape == (100, 200, 3)


def test_a_link_carries_more_than_the_kernel_buffers() -> None:
    data = bytes(range(256)) * 30_000
    with Link() as link:
        assert link.carry(data) == data
        assert link.carry(memoryview(b"short")) == b"short"
