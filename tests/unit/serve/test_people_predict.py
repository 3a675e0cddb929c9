"""POST /predict: every format and way of sending, options, annotation, and what is refused how."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from framegrid_serve.wire import FrameResult, FrameStatus
from people.api import SIZE, People, form, one_person, write_bundle
from PIL import Image

MakePeople = Callable[..., People]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """Shared: compiling a network takes a while."""
    people = People(write_bundle(tmp_path_factory.mktemp("people"), one_person(), size=SIZE))
    yield people
    people.close()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not so within 10 s")


def stripes(width: int = 200, height: int = 100) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), (220, 10, 10))
    image.paste((10, 10, 220), (width // 2, 0, width, height))
    return image


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(stripes(), "JPEG", exif=exif)


def png(width: int, height: int, *, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG that says it has this size, and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


PICTURES = {
    "jpeg": (saved(stripes(), "JPEG"), []),
    "grey-jpeg": (saved(stripes().convert("L"), "JPEG"), []),
    "progressive": (saved(stripes(), "JPEG", progressive=True), []),
    "cmyk-jpeg": (saved(stripes().convert("CMYK"), "JPEG"), ["converted from CMYK"]),
    "png": (saved(stripes(), "PNG"), []),
    "palette-png": (saved(stripes().quantize(4), "PNG"), []),
    "one-bit-png": (saved(stripes().convert("1"), "PNG"), []),
    "alpha-png": (saved(stripes().convert("RGBA"), "PNG"), ["transparent places were made white"]),
    "webp": (saved(stripes(), "WEBP", lossless=True), []),
    "bmp": (saved(stripes(), "BMP"), []),
    "gif": (saved(stripes(), "GIF"), []),
    "animated-gif": (
        saved(stripes(), "GIF", save_all=True, append_images=[Image.new("RGB", (200, 100))]),
        ["an animation: its first picture was used"],
    ),
    "animated-webp": (
        saved(stripes(), "WEBP", save_all=True, append_images=[Image.new("RGB", (200, 100))]),
        ["an animation: its first picture was used"],
    ),
    "animated-png": (
        saved(stripes(), "PNG", save_all=True, append_images=[Image.new("RGB", (200, 100))]),
        ["an animation: its first picture was used"],
    ),
    "16-bit-png": (
        saved(Image.fromarray(np.full((100, 200), 40_000, np.uint16)), "PNG"),
        ["16 bits a pixel cut to 8"],
    ),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_usual_format_is_analysed_and_says_what_was_done(people: People, kind: str) -> None:
    data, notes = PICTURES[kind]
    answer = people.call("POST", "/predict", data)
    assert answer.status == 200, answer.body
    told = answer.json()
    assert told["model"] == "tiny@1"
    assert told["digest"] == people.bundle.digest
    (image,) = told["images"]
    assert (image["width"], image["height"], image["notes"]) == (200, 100, notes)
    (box,) = image["boxes"]
    assert (box["class"], box["class_id"], box["score"]) == ("person", 0, 0.75)
    assert box["box_xyxy"] == [75.0, 0.0, 125.0, 100.0]
    assert box["box_xyxy_relative"] == [0.375, 0.0, 0.625, 1.0]
    assert image["timings_ms"]["total"] >= image["timings_ms"]["infer"] > 0


@pytest.mark.parametrize("kind", [kind for kind in PICTURES if kind not in ("one-bit-png", "16-bit-png")])
def test_colours_survive_the_way_to_the_detector(people: People, kind: str) -> None:
    answer = people.call("POST", "/predict", PICTURES[kind][0], annotate="image")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    pixels = simplejpeg.decode_jpeg(answer.body, "RGB")
    left, right = pixels[50, 20].astype(int), pixels[50, 180].astype(int)
    if kind == "grey-jpeg":
        assert left[0] > right[0]
    else:
        assert left[0] > 150 > left[2] + 60
        assert right[2] > 150 > right[0] + 60


def test_sixteen_bits_keep_their_brightness(people: People) -> None:
    answer = people.call("POST", "/predict", PICTURES["16-bit-png"][0], annotate="image")
    assert abs(int(simplejpeg.decode_jpeg(answer.body, "RGB")[5, 5, 0]) - 40_000 // 256) <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_before_anything_is_looked_for(people: People, orientation: int) -> None:
    data = turned(orientation)
    told = people.call("POST", "/predict", data, annotate="base64").json()["images"][0]
    upright = (200, 100) if orientation < 5 else (100, 200)
    assert (told["width"], told["height"]) == upright
    assert bool(told["notes"]) == (orientation > 1)
    shown = simplejpeg.decode_jpeg(base64.b64decode(told["annotated"]), "BGR")
    assert shown.shape[1::-1] == upright
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # turns by EXIF, too
    corners = [(5, 5), (5, -5), (-5, 5), (-5, -5)]
    for row, column in corners:
        assert np.abs(shown[row, column].astype(int) - reference[row, column]).max() < 40


def test_what_the_detector_sees_of_a_png_is_what_it_sees_of_the_jpeg(make_people: MakePeople) -> None:
    people = make_people()
    seen: list[bytes] = []
    detector = people.registry.get("").detector
    genuine = detector.detect
    detector.detect = lambda jpegs, scores: seen.extend(jpegs) or genuine(jpegs, scores)  # type: ignore[method-assign]
    plain = saved(stripes(40, 30), "JPEG", quality=98, subsampling=0)
    people.call("POST", "/predict", plain)
    people.call("POST", "/predict", saved(stripes(400, 300), "PNG"))
    assert seen[0] == plain  # untouched
    from_png = simplejpeg.decode_jpeg(seen[1], "RGB")
    assert from_png.shape == (48, SIZE, 3)  # scaled to the network's size, aspect kept
    assert np.abs(from_png[24, 5].astype(int) - (220, 10, 10)).max() < 6


def test_several_files_are_answered_in_order_and_a_bad_one_spoils_no_other(people: People) -> None:
    body, kind = form(
        ("a.jpg", PICTURES["jpeg"][0]),
        ("notes.txt", b"dear diary"),
        ("cut.png", PICTURES["png"][0][:60]),
        ("b.webp", PICTURES["webp"][0]),
    )
    answer = people.call("POST", "/predict", body, kind=kind)
    assert answer.status == 200
    images = answer.json()["images"]
    assert [image["name"] for image in images] == ["a.jpg", "notes.txt", "cut.png", "b.webp"]
    assert [image.get("status") for image in images] == [None, 415, 422, None]
    assert [len(image["boxes"]) for image in images] == [1, 0, 0, 1]


def test_options_come_by_query_by_form_and_by_repetition(people: People) -> None:
    data = PICTURES["jpeg"][0]
    assert people.call("POST", "/predict", data, classes="car").json()["images"][0]["boxes"] == []
    assert people.call("POST", "/predict", data, min_score="0.8").json()["images"][0]["boxes"] == []
    body, kind = form(("a.jpg", data), classes="car, person", min_score="0.5", model="tiny")
    told = people.call("POST", "/predict", body, kind=kind).json()
    assert (told["min_score"], len(told["images"][0]["boxes"])) == (0.5, 1)
    repeated = people.call("POST", "/predict", data, classes=["person", "car"])
    assert len(repeated.json()["images"][0]["boxes"]) == 1


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        ({"model": "nope"}, 404, "expected a model of tiny, got 'nope'"),
        ({"classes": "goat"}, 422, "classes: expected some of person, car, got 'goat'"),
        ({"min_score": "2"}, 422, "min_score: input should be less than or equal to 1, got '2'"),
        ({"min_score": "nan"}, 422, "min_score"),
        ({"annotate": "video"}, 422, "annotate"),
        ({"minscore": "0.5"}, 422, "unknown option 'minscore'; there are model, min_score"),
        ({"timeout_s": "0"}, 422, "timeout_s"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_options_are_named(people: People, options: dict[str, str], status: int, text: str) -> None:
    answer = people.call("POST", "/predict", PICTURES["jpeg"][0], **options)
    assert answer.status == status
    assert text in answer.error
    body, kind = form(("a.jpg", PICTURES["jpeg"][0]), **options)
    assert people.call("POST", "/predict", body, kind=kind).status == status


@pytest.mark.parametrize(
    ("body", "kind", "status", "text"),
    [
        (b"", "image/jpeg", 400, "got 0 bytes"),
        (b"GIF89a", "image/gif", 415, "expected a JPEG, PNG, WebP, BMP or GIF picture"),
        (b"<svg/>", "image/svg+xml", 415, "expected a JPEG, PNG, WebP, BMP or GIF picture"),
        (b"%PDF-1.7", "application/pdf", 415, "got content type 'application/pdf'"),
        (PICTURES["jpeg"][0][:400], "image/jpeg", 422, "damaged"),
        (PICTURES["webp"][0][:-30], "image/webp", 422, "damaged"),
        (png(60_000, 60_000), "image/png", 413, "got 60000 x 60000; scale it down"),
        (png(20_000, 4), "image/png", 413, "got 20000 x 4"),
        (png(2**31 - 1, 2**31 - 1), "image/png", 413, "scale it down"),
        (png(3000, 3000), "image/png", 422, "damaged"),
        (b"{}", "application/json", 422, "got no url"),
        (b"[]", "application/json", 400, "got list"),
        (b"{", "application/json", 400, "no JSON"),
        (b"[" * 60_000, "application/json", 400, "no JSON"),
        (b"x" * 70_000, "application/json", 413, "expected JSON of at most 65536 bytes"),
        (b"x", "multipart/form-data", 400, "oundary"),
        (b"x", "multipart/form-data; boundary=y", 400, "expected multipart/form-data with pictures"),
        (form(min_score="0.5")[0], form()[1], 400, "expected a file in the form"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value)[:24],
)
def test_wrong_bodies_get_their_status_and_a_reason(
    people: People, body: bytes, kind: str, status: int, text: str
) -> None:
    before = people.service.totals.requests.get(status, 0)
    answer = people.call("POST", "/predict", body, kind=kind)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert text in answer.error
    assert people.service.totals.requests[status] == before + 1


def test_sizes_are_bounded_before_and_while_reading(make_people: MakePeople) -> None:
    people = make_people(max_image_bytes=100_000, max_images=2)
    stated = people.call("POST", "/predict", b"", headers={"Content-Length": "100001"})
    assert (stated.status, "at most 100000 bytes" in stated.error) == (413, True)
    assert people.call("POST", "/predict", [bytes(10_000)] * 1000).status == 413
    body, kind = form(("a.jpg", bytes(100_001)))
    assert "got 100001 in 'a.jpg'" in people.call("POST", "/predict", body, kind=kind).error
    body, kind = form(("a.jpg", bytes(150_000)), ("b.jpg", bytes(350_000)))
    assert people.call("POST", "/predict", body, kind=kind).status == 413
    body, kind = form(*[("a.jpg", PICTURES["jpeg"][0])] * 3)
    assert people.call("POST", "/predict", body, kind=kind).status == 400


def test_a_jpeg_with_thousands_of_scans_is_not_decoded(people: People) -> None:
    plain = saved(stripes(), "JPEG", progressive=True)
    scan_at = plain.index(b"\xff\xda")
    scan = plain[scan_at : plain.index(b"\xff\xda", scan_at + 2)]
    bomb = plain[:-2] + scan * 3000 + plain[-2:]
    answer = people.call("POST", "/predict", bomb)
    assert (answer.status, "at most 100 scans" in answer.error) == (422, True)


def test_a_client_that_is_too_slow_or_goes_away_holds_nothing(make_people: MakePeople) -> None:
    people = make_people(upload_timeout_s=0.05)
    slow = people.call("POST", "/predict", [b"x"] * 100, pause_s=0.02)
    assert (slow.status, "expected the whole body within 0.05 s" in slow.error) == (408, True)
    gone = people.call("POST", "/predict", [b"\xff\xd8"], cut_off=True)
    assert (gone.status, gone.error) == (400, "the body ended before it was whole")


def test_people_overtake_cameras_and_are_bounded_themselves(make_people: MakePeople) -> None:
    people = make_people(capacity_frames=2, max_waiting_images=2, detect_timeout_s=20)
    model = people.registry.get("")
    gate, order = threading.Event(), []

    def detect(jpegs: list[bytes], scores: list[float]) -> list[FrameResult]:
        assert gate.wait(10)
        order.extend(bytes(jpeg) for jpeg in jpegs)
        return [FrameResult.without_boxes(FrameStatus.OK, infer_ms=1.0) for _ in jpegs]

    model.detector.detect = detect  # type: ignore[method-assign]
    data = PICTURES["jpeg"][0]

    async def run() -> list[int]:
        first = people.batcher.submit(model.detector, [b"running"], min_score=0, timeout_s=20)
        await until(lambda: people.batcher.stats().queued_frames == 0)
        cameras = people.batcher.submit(model.detector, [b"camera", b"camera"], min_score=0, timeout_s=20)
        asked = [asyncio.create_task(people.ask("POST", "/predict", data)) for _ in range(3)]
        await until(lambda: people.batcher.stats().queued_frames == 4)
        gate.set()
        answers = [await task for task in asked]
        await asyncio.wrap_future(first)
        await asyncio.wrap_future(cameras)
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.headers["retry-after"] == "1"
        assert "at most 2 pictures at a time" in refused.error
        return sorted(answer.status for answer in answers)

    assert people.loop.run_until_complete(run()) == [200, 200, 429]
    assert order == [b"running", data, data, b"camera", b"camera"]


def test_a_request_past_its_deadline_is_told_to_come_back(make_people: MakePeople) -> None:
    people = make_people()
    model = people.registry.get("")
    gate = threading.Event()
    genuine = model.detector.detect
    model.detector.detect = lambda jpegs, scores: (gate.wait(10), genuine(jpegs, scores))[1]  # type: ignore[method-assign]

    async def run() -> Any:
        blocking = people.batcher.submit(model.detector, [PICTURES["jpeg"][0]], min_score=0, timeout_s=20)
        await until(lambda: people.batcher.stats().queued_frames == 0)  # the engine has it
        late = asyncio.create_task(people.ask("POST", "/predict", PICTURES["jpeg"][0], timeout_s="0.02"))
        await until(lambda: late.done() or people.batcher.stats().queued_frames == 1)
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.wrap_future(blocking)
        return await late

    answer = people.loop.run_until_complete(run())
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert "no engine was free in time" in answer.error


def test_an_engine_that_fails_is_said_without_a_500(make_people: MakePeople) -> None:
    people = make_people()
    people.registry.get("").detector.detect = lambda jpegs, scores: [  # type: ignore[method-assign]
        FrameResult.without_boxes(FrameStatus.FAILED) for _ in jpegs
    ]
    answer = people.call("POST", "/predict", PICTURES["jpeg"][0])
    assert (answer.status, "the engine failed" in answer.error) == (503, True)


def test_a_thousand_boxes_come_back_and_are_drawn(make_people: MakePeople) -> None:
    side = 32
    output = np.zeros((1, 6, side * side), np.float32)
    rows, columns = np.divmod(np.arange(side * side), side)
    output[0, 0], output[0, 1] = columns * 2 + 1, rows * 2 + 1
    output[0, 2], output[0, 3] = 1.5, 1.5
    output[0, 4] = np.linspace(0.3, 0.9, side * side)
    people = make_people(output)
    answer = people.call("POST", "/predict", saved(stripes(2000, 2000), "PNG"), annotate="base64")
    image = answer.json()["images"][0]
    assert len(image["boxes"]) == 300  # what the detector gives at most
    scores = [box["score"] for box in image["boxes"]]
    assert scores == sorted(scores, reverse=True)
    assert simplejpeg.decode_jpeg(base64.b64decode(image["annotated"])).shape == (2000, 2000, 3)
    assert answer.json()["images"][0]["timings_ms"]["annotate"] > 0


def test_an_annotated_picture_comes_for_one_picture_alone(people: People) -> None:
    body, kind = form(("a.jpg", PICTURES["jpeg"][0]), ("b.jpg", PICTURES["jpeg"][0]))
    answer = people.call("POST", "/predict", body, kind=kind, annotate="image")
    assert (answer.status, "expected base64 with several pictures" in answer.error) == (422, True)
