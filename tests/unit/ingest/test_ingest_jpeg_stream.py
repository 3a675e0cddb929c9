"""Pictures come out of a stream of bytes however it is cut; hostile bytes cost no more than they are."""

import pytest
from framegrid_ingest.errors import FrameError
from framegrid_ingest.jpeg_stream import MAX_PART_BYTES, JpegSplitter, MultipartSplitter, Part, boundary_of
from hypothesis import given, settings
from hypothesis import strategies as st

SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + b"\x12\xff\x00\x34\xff\xd0\x56" * 20
THUMBNAIL = b"\xff\xd8\xff\xdb\x00\x04\x01\x02\xff\xd9"
EXIF = b"\xff\xe1" + (len(THUMBNAIL) + 2).to_bytes(2, "big") + THUMBNAIL
JPEG = b"\xff\xd8" + EXIF + b"\xff\xdb\x00\x04\x01\x02" + SCAN + b"\xff\xd9"
PROGRESSIVE = b"\xff\xd8\xff\xc2\x00\x03\x01" + SCAN + b"\xff\xc4\x00\x03\x07" + SCAN + b"\xff\xd9"


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


def feed_all(splitter: MultipartSplitter | JpegSplitter, pieces: list[bytes]) -> list[Part]:
    return [part for piece in pieces for part in splitter.feed(piece)]


CUTS = st.lists(st.integers(1, 60), max_size=80)


@given(CUTS, st.booleans())
def test_multipart_parts_come_whole_however_they_are_cut(sizes: list[int], with_length: bool) -> None:
    body = b"preamble\r\n"
    for n in range(4):
        length = f"Content-Length: {len(JPEG)}\r\n" if with_length else ""
        body += b"--frame\r\nContent-Type: image/jpeg\r\n" + length.encode()
        body += f"X-Timestamp: {n}.5\r\n\r\n".encode() + JPEG + b"\r\n"
    parts = feed_all(MultipartSplitter(b"frame"), cut(body + b"--frame--\r\n", sizes))
    assert [part.data for part in parts] == [JPEG] * 4
    assert [part.headers["x-timestamp"] for part in parts] == ["0.5", "1.5", "2.5", "3.5"]


@given(CUTS)
def test_bare_jpegs_come_whole_thumbnails_and_scans_included(sizes: list[int]) -> None:
    stream = b"noise" + JPEG + PROGRESSIVE + b"\x00\x00" + JPEG + JPEG[:20]
    assert [p.data for p in feed_all(JpegSplitter(), cut(stream, sizes))] == [JPEG, PROGRESSIVE, JPEG]


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80), st.sampled_from([JPEG, b"--b", b"\r\n\r\n", b"\xff\xd8", b"\xff\xd9"])
        )
    )
)
def test_any_bytes_are_survived(pieces: list[bytes]) -> None:
    for splitter in (MultipartSplitter(b"b"), JpegSplitter()):
        for part in feed_all(splitter, pieces):
            assert len(part.data) <= sum(map(len, pieces))


def test_a_picture_is_found_after_garbage() -> None:
    assert [p.data for p in JpegSplitter().feed(b"\xff\xd8garbage" * 3 + JPEG)] == [JPEG]


@pytest.mark.parametrize(
    "head", [b"--b\r\nContent-Length: 99999999999\r\n\r\n", b"--b\r\nContent-Length: 17000000\r\n\r\n"]
)
def test_a_part_that_is_too_large_is_refused_before_it_comes(head: bytes) -> None:
    with pytest.raises(FrameError, match="expected pictures of at most"):
        MultipartSplitter(b"b").feed(head)


def test_a_part_without_an_end_is_refused() -> None:
    splitter = MultipartSplitter(b"b")
    splitter.feed(b"--b\r\n\r\n")
    with pytest.raises(FrameError, match="without an end"):
        for _ in range(MAX_PART_BYTES // 1_000_000 + 2):
            splitter.feed(b"x" * 1_000_000)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/x-mixed-replace; boundary=frame", b"frame"),
        ("multipart/x-mixed-replace;boundary=--myboundary", b"myboundary"),
        ('multipart/x-mixed-replace; Boundary="a b"; x=1', b"a b"),
        ("multipart/x-mixed-replace", b""),
    ],
)
def test_the_boundary_is_read_as_cameras_write_it(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary
