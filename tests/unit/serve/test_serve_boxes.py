"""Letterbox, layouts and suppression: every box lands where it was in the picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from framegrid_serve.bundle import Bundle
from framegrid_serve.errors import CorruptImageError
from framegrid_serve.postprocess import MAX_BOXES, boxes_of, suppress_doubles
from framegrid_serve.preprocess import decode_and_place, decode_jpeg, letterbox, place

MakeBundle = Callable[..., Bundle]
MakeJpeg = Callable[[int, int], bytes]
V8 = np.zeros((1, 6, 3), np.float32)


def test_letterbox_centres_the_picture_on_grey() -> None:
    placed = letterbox(np.full((100, 200, 3), 7, np.uint8), 64, 64)
    assert (placed.ratio, placed.pad_left, placed.pad_top) == (0.32, 0, 16)
    assert (placed.image[:16] == 114).all()
    assert (placed.image[16:48] == 7).all()
    assert (placed.image[48:] == 114).all()


def test_an_odd_padding_puts_the_larger_half_behind_as_ultralytics_does() -> None:
    placed = letterbox(np.full((61, 64, 3), 7, np.uint8), 64, 64)
    assert placed.pad_top == 1
    assert (placed.image[:1] == 114).all()
    assert (placed.image[62:] == 114).all()
    assert (placed.image[1:62] == 7).all()


def test_a_frame_as_cameras_send_it_is_padded_and_never_resized(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(V8, size=640, dynamic=True)
    frame = np.random.default_rng(0).integers(0, 255, (360, 640, 3), np.uint8)
    placed = place(frame, bundle)
    assert placed.image.shape == (384, 640, 3)
    np.testing.assert_array_equal(placed.image[12:372], frame)


def test_a_static_network_gets_the_full_square(make_bundle: MakeBundle) -> None:
    assert place(np.zeros((36, 64, 3), np.uint8), make_bundle(V8)).image.shape == (64, 64, 3)


def test_yolox_pads_at_the_right_and_the_bottom(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(np.zeros((1, 3, 7), np.float32), layout="yolox")
    placed = place(np.full((32, 64, 3), 7, np.uint8), bundle)
    assert (placed.image[:32] == 7).all()
    assert (placed.image[32:] == 114).all()


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (1280, 720), (333, 517), (31, 900), (64, 64)])
def test_boxes_return_to_the_picture_they_came_from(make_bundle: MakeBundle, height: int, width: int) -> None:
    bundle = make_bundle(V8, size=640, dynamic=True)
    placed = place(np.zeros((height, width, 3), np.uint8), bundle)
    relative = np.array([0.25, 0.3, 0.5, 0.9])
    pixels = (
        relative * [width, height] * 1.0 if False else relative * np.array([width, height, width, height])
    )
    network = pixels * placed.ratio + np.array([placed.pad_left, placed.pad_top] * 2)
    output = np.zeros((6, 1), np.float32)
    output[:4, 0] = [*(network[:2] + network[2:]) / 2, *(network[2:] - network[:2])]
    output[5, 0] = 0.8
    boxes = boxes_of(output, placed, bundle, 0.25)
    np.testing.assert_allclose(boxes.boxes_xyxy, [relative], atol=1e-4)
    assert (boxes.class_ids.tolist(), boxes.class_ids.dtype) == ([1], np.int16)


def test_boxes_that_leave_the_picture_are_clipped_to_it(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(V8)
    placed = place(np.zeros((64, 64, 3), np.uint8), bundle)
    output = np.array([[0], [32], [40], [200], [0.9], [0.1]], np.float32)
    boxes = boxes_of(output, placed, bundle, 0.25)
    np.testing.assert_allclose(boxes.boxes_xyxy, [[0, 0, 20 / 64, 1]], atol=1e-6)


def test_low_scores_and_values_that_are_no_numbers_are_left_out(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(V8)
    placed = place(np.zeros((64, 64, 3), np.uint8), bundle)
    output = np.array(
        [[32, np.nan, 32, 32], [32] * 4, [8] * 4, [8] * 4, [0.9, 0.9, 0.1, np.nan], [0, 0, 0.2, np.nan]],
        np.float32,
    )
    assert boxes_of(output, placed, bundle, 0.25).scores.tolist() == [np.float32(0.9)]


def test_end_to_end_outputs_are_taken_as_they_are(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(np.zeros((1, 3, 6), np.float32), layout="yolo26")
    placed = place(np.zeros((64, 64, 3), np.uint8), bundle)
    rows = [[0, 0, 32, 32, 0.5, 0], [0, 0, 32, 32, 0.9, 0], [0, 0, 9, 9, 0.1, 1], [0, 0, 9, 9, 0.8, 77]]
    boxes = boxes_of(np.array(rows, np.float32), placed, bundle, 0.25)
    # Both equal boxes stay (the network suppressed already); the low score and the unknown class go.
    np.testing.assert_allclose(boxes.scores, [0.9, 0.5])
    np.testing.assert_allclose(boxes.boxes_xyxy, [[0, 0, 0.5, 0.5]] * 2)


def test_yolox_offsets_are_decoded_by_cell_and_stride(make_bundle: MakeBundle) -> None:
    # 64 x 64: 8x8 cells of stride 8, then 4x4 of 16, then 2x2 of 32.
    output = np.zeros((84, 7), np.float32)
    output[8 * 3 + 5] = [0.5, 0.5, np.log(2), np.log(3), 0.9, 0.1, 0.8]  # row 3, column 5, stride 8
    output[64 + 4 * 1 + 2] = [0, 0, 0, 0, 0.5, 1.0, 0]  # row 1, column 2, stride 16
    output[83] = [0, 0, 500, 500, 1.0, 1.0, 0]  # overflows to infinity and is left out
    bundle = make_bundle(np.zeros((1, 84, 7), np.float32), layout="yolox")
    placed = place(np.zeros((64, 64, 3), np.uint8), bundle)
    boxes = boxes_of(output, placed, bundle, 0.25)
    np.testing.assert_allclose(boxes.scores, [0.72, 0.5], rtol=1e-6)
    assert boxes.class_ids.tolist() == [1, 0]
    expected = [[44 - 8, 28 - 12, 44 + 8, 28 + 12], [32 - 8, 16 - 8, 32 + 8, 16 + 8]]
    np.testing.assert_allclose(boxes.boxes_xyxy * 64, expected, atol=1e-4)


def test_decoded_yolox_boxes_are_in_pixels_already(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(np.zeros((1, 3, 7), np.float32), layout="yolox-decoded")
    placed = place(np.zeros((64, 64, 3), np.uint8), bundle)
    output = np.array([[32, 32, 16, 32, 0.9, 1.0, 0]], np.float32)
    np.testing.assert_allclose(boxes_of(output, placed, bundle, 0.25).boxes_xyxy * 64, [[24, 16, 40, 48]])


def reference_nms(boxes: np.ndarray, scores: np.ndarray, ids: np.ndarray, iou: float) -> list[int]:
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        x1, y1, x2, y2 = boxes[index]
        for other in kept:
            a1, b1, a2, b2 = boxes[other]
            shared = max(0.0, min(x2, a2) - max(x1, a1)) * max(0.0, min(y2, b2) - max(y1, b1))
            union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared
            if ids[other] == ids[index] and shared / union > iou:
                break
        else:
            kept.append(int(index))
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_suppression_is_greedy_and_within_a_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 80, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (60, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(60).astype(np.float32) / 60 + 0.01
    ids = rng.integers(0, 3, 60)
    assert suppress_doubles(boxes, scores, ids, 0.5).tolist() == reference_nms(boxes, scores, ids, 0.5)


def test_at_most_the_best_300_boxes_are_kept() -> None:
    corner = np.stack([np.arange(500) * 10, np.zeros(500)], axis=1)
    boxes = np.concatenate([corner, corner + 5], axis=1).astype(np.float32)
    scores = np.linspace(0.1, 1, 500, dtype=np.float32)
    keep = suppress_doubles(boxes, scores, np.zeros(500, int), 0.5)
    assert keep.tolist() == list(range(499, 499 - MAX_BOXES, -1))


def test_nothing_found_is_an_empty_result(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(V8)
    boxes = boxes_of(V8[0], place(np.zeros((64, 64, 3), np.uint8), bundle), bundle, 0.25)
    assert (boxes.boxes_xyxy.shape, boxes.scores.shape, boxes.class_ids.shape) == ((0, 4), (0,), (0,))


def test_a_jpeg_is_decoded_to_its_size(jpeg: MakeJpeg) -> None:
    assert decode_jpeg(jpeg(48, 64), 640).shape == (48, 64, 3)


def test_a_far_larger_jpeg_is_decoded_smaller_but_never_below_twice_the_input(jpeg: MakeJpeg) -> None:
    height, width = decode_jpeg(jpeg(1000, 1600), 64).shape[:2]
    assert (height, width) == (125, 200) or (height >= 125 and width >= 128)
    assert height < 1000
    assert decode_jpeg(jpeg(100, 255), 64).shape == (100, 255, 3)


@pytest.mark.parametrize(
    ("height", "width"), [(360, 640), (640, 640), (640, 360), (355, 640), (90, 160), (700, 900)]
)
@pytest.mark.parametrize("dynamic", [True, False], ids=["dynamic", "static"])
def test_decoding_into_place_equals_decoding_and_placing(
    make_bundle: MakeBundle, jpeg: MakeJpeg, height: int, width: int, dynamic: bool
) -> None:
    bundle = make_bundle(V8, size=640, dynamic=dynamic)
    content = jpeg(height, width)
    direct, staged = decode_and_place(content, bundle), place(decode_jpeg(content, 640), bundle)
    np.testing.assert_array_equal(direct.image, staged.image)
    assert (direct.ratio, direct.pad_left, direct.pad_top) == (staged.ratio, staged.pad_left, staged.pad_top)
    assert (direct.picture_height, direct.picture_width) == (height, width)


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_jpeg_is_corrupt(content: bytes) -> None:
    with pytest.raises(CorruptImageError, match="expected a JPEG"):
        decode_jpeg(content, 640)


def test_a_truncated_jpeg_is_corrupt(jpeg: MakeJpeg) -> None:
    whole = jpeg(200, 300)
    with pytest.raises(CorruptImageError, match="damaged"):
        decode_jpeg(whole[: len(whole) // 2], 640)


def test_a_jpeg_that_claims_16k_by_16k_is_refused_before_decoding(jpeg: MakeJpeg) -> None:
    bomb = bytearray(jpeg(16, 16))
    at = bomb.index(b"\xff\xc0") + 5
    bomb[at : at + 4] = (16_000).to_bytes(2, "big") * 2
    with pytest.raises(CorruptImageError, match="at most 50000000 pixels and 16384 a side, got 16000x16000"):
        decode_jpeg(bytes(bomb), 640)
