"""Pictures are scaled to fit, passed through where they fit, and refused before they cost anything."""

import av
import numpy as np
import pytest
import simplejpeg
from framegrid_ingest.errors import FrameError
from framegrid_ingest.pictures import BgrPicture, Jpeg, VideoPicture, fits_as_it_is, fitted, to_jpeg
from hypothesis import given
from hypothesis import strategies as st


def gradient(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 / width, y * 255 / height, 128 + 0 * x], axis=2)
    return np.ascontiguousarray(pixels.astype(np.uint8))


@given(st.integers(1, 8000), st.integers(1, 8000), st.sampled_from([320, 416, 640]))
def test_the_longer_side_fits_and_nothing_is_enlarged(width: int, height: int, size: int) -> None:
    w, h = fitted(width, height, size)
    assert max(w, h) == min(size, max(width, height))
    assert w <= width
    assert h <= height
    assert min(w, h) >= 1
    assert abs(w / h - width / height) * h <= width / height + 1


def test_a_jpeg_that_fits_is_passed_through_untouched(small_jpeg: bytes) -> None:
    assert fits_as_it_is(Jpeg(small_jpeg), 640)
    assert to_jpeg(Jpeg(small_jpeg), 640).data is small_jpeg


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1281, 719), (700, 1400)])
def test_a_large_jpeg_is_scaled_and_looks_the_same(width: int, height: int) -> None:
    data = simplejpeg.encode_jpeg(gradient(width, height), 95, "BGR", "420")
    sized = to_jpeg(Jpeg(data), 640)
    assert (sized.source_width, sized.source_height) == (width, height)
    pixels = simplejpeg.decode_jpeg(sized.data, "BGR")
    assert max(pixels.shape[:2]) == 640
    assert np.abs(pixels.astype(int) - gradient(pixels.shape[1], pixels.shape[0])).mean() < 3


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "nv12", "yuv422p", "bgr24"])
@pytest.mark.parametrize("size", [(768, 432), (1921, 1081), (320, 240)])
def test_video_frames_of_any_format_keep_their_colours(pixel_format: str, size: tuple[int, int]) -> None:
    frame = av.VideoFrame.from_ndarray(gradient(*size), "bgr24").reformat(format=pixel_format)
    pixels = simplejpeg.decode_jpeg(to_jpeg(VideoPicture(frame), 640).data, "BGR")
    assert max(pixels.shape[:2]) == min(640, max(size))
    assert np.abs(pixels.astype(int) - gradient(pixels.shape[1], pixels.shape[0])).mean() < 4


def test_bgr_pictures_are_encoded() -> None:
    sized = to_jpeg(BgrPicture(gradient(1280, 720)), 416)
    assert simplejpeg.decode_jpeg(sized.data).shape == (234, 416, 3)


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + jpeg[at + 9 :]


def test_a_picture_of_16k_by_16k_is_refused_before_it_is_decoded(small_jpeg: bytes) -> None:
    with pytest.raises(FrameError, match="expected a picture of 1 to 50 megapixels, got 16384 x 16384"):
        to_jpeg(Jpeg(with_size(small_jpeg, 16384, 16384)), 640)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda jpeg: b"", "do not start like one"),
        (lambda jpeg: b"<html>", "do not start like one"),
        (lambda jpeg: jpeg[:-500], "truncated"),
        (lambda jpeg: jpeg[:2] + b"\xff\xd9", "broken header"),
    ],
    ids=["empty", "html", "truncated", "no-header"],
)
def test_what_is_no_jpeg_is_told(small_jpeg: bytes, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FrameError, match=message):
        to_jpeg(Jpeg(spoil(small_jpeg)), 640)


def test_a_corrupt_scan_is_noticed_when_it_must_be_decoded(small_jpeg: bytes) -> None:
    broken = small_jpeg[:700] + b"\x00" * 400 + small_jpeg[1100:]
    with pytest.raises(FrameError, match="corrupt"):
        to_jpeg(Jpeg(broken), 160)


def test_zero_padding_after_the_end_is_allowed(small_jpeg: bytes) -> None:
    assert to_jpeg(Jpeg(small_jpeg + b"\0" * 7), 640).source_width == 320


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_error_or_a_picture(data: bytes) -> None:
    with pytest.raises(FrameError):
        to_jpeg(Jpeg(data), 640)
