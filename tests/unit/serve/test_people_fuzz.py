"""Ten thousand damaged uploads, forms, options and wire bodies: no 500, a sentence each, and flat memory.

The same 10,000 every time (seeded), through a whole replica in this process: app, decoders, batcher, engine.
"""

from __future__ import annotations

import io
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes

import numpy as np
import pytest
from framegrid_serve.wire import DetectRequest, Frame, decode_response, encode_request
from people.api import SIZE, Answer, People, form, one_person, write_bundle
from PIL import Image

UPLOADS, FORMS, OPTIONS, WIRE = 5000, 1500, 500, 3000
# Caches of codecs and allocators settle within the first tenth of the requests.
MAX_GROWTH_BYTES = 24 * 1024 * 1024
MAX_WORDS = 700
NUMBERS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    people = People(
        write_bundle(tmp_path_factory.mktemp("fuzz"), one_person(), size=SIZE), max_pixels=4_000_000
    )
    yield people
    people.close()


def seeds() -> list[bytes]:
    rng = np.random.default_rng(6)
    image = Image.fromarray(rng.integers(0, 255, (24, 40, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 50
    wanted = [
        (image, "JPEG", {"exif": exif}),
        (image, "JPEG", {"progressive": True, "quality": 60}),
        (image.convert("CMYK"), "JPEG", {}),
        (image.convert("L"), "JPEG", {}),
        (image, "PNG", {}),
        (image.convert("RGBA"), "PNG", {"exif": exif}),
        (image.quantize(8), "PNG", {"transparency": 1}),
        (Image.fromarray(rng.integers(0, 65535, (20, 20), np.uint16)), "PNG", {}),
        (image, "PNG", {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]}),
        (image, "WEBP", {"lossless": True}),
        (image, "WEBP", {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]}),
        (image, "BMP", {}),
        (image.quantize(8), "BMP", {}),
        (image, "GIF", {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]}),
    ]
    made = []
    for picture, kind, options in wanted:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        made.append(buffer.getvalue())
    return made


def damaged(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """One to four random damages."""
    body = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(body)) if body else 0
        kind = rng.randrange(8)
        if kind == 0:
            del body[at:]
        elif kind == 1:
            del body[at : at + rng.randint(1, 64)]
        elif kind == 2 and body:
            body[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            body[at:at] = rng.randbytes(rng.randint(1, 64))
        elif kind == 4:  # lengths and sizes live near the beginning
            at = rng.randrange(min(64, len(body)) or 1)
            body[at : at + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1")
            )
        elif kind == 5:
            other = rng.choice(others)
            body[at:] = other[rng.randrange(len(other)) :]
        elif kind == 6:
            body[at : at + 8] = body[at : at + 8] * rng.randint(1, 40)
        elif kind == 7:
            for _ in range(rng.randint(1, 20)):
                if body:
                    body[rng.randrange(len(body))] = rng.randrange(256)
    return bytes(body)


def check(answer: Answer, seen: Counter[int]) -> None:
    """No status that is not stated; an error is one sentence of ours."""
    seen[answer.status] += 1
    if answer.status == 200:
        return
    assert answer.status in (400, 404, 413, 415, 422), (answer.status, answer.body[:300])
    text = json.loads(answer.body)["error"]
    assert 10 < len(text) < MAX_WORDS, text
    assert text.isprintable(), text


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(count: int, ask: Callable[[], Answer]) -> Counter[int]:
    """Ask `count` times; fails when memory grows after the first tenth."""
    seen: Counter[int] = Counter()
    settled = 0
    for number in range(count):
        if number == count // 10:
            settled = rss_bytes()
        check(ask(), seen)
    grown = rss_bytes() - settled
    assert grown < MAX_GROWTH_BYTES, f"memory grew by {grown} bytes"
    return seen


def test_damaged_pictures(people: People) -> None:
    rng, pictures = random.Random(61), seeds()

    def ask() -> Answer:
        body = damaged(rng, rng.choice(pictures), pictures)
        kind = rng.choice(("image/jpeg", "image/png", "application/octet-stream", ""))
        return people.call("POST", "/predict", body, kind=kind, annotate=rng.choice(("none", "base64")))

    seen = run(UPLOADS, ask)
    # Neither all refused at the door nor all harmless.
    assert min(seen[200], seen[415], seen[422]) > UPLOADS // 50, seen
    assert seen[413] > 0


def test_damaged_forms(people: People) -> None:
    rng, pictures = random.Random(62), seeds()
    whole, kind = form(("a.png", pictures[4]), ("b.jpg", pictures[0]), min_score="0.5", classes="person")

    def ask() -> Answer:
        body = damaged(rng, whole, [whole])
        damaged_kind = (
            damaged(rng, kind.encode(), [kind.encode()]).decode("latin-1") if rng.random() < 0.2 else kind
        )
        chunks = [body[at : at + 700] for at in range(0, len(body), 700)] or [b""]
        return people.call("POST", "/predict", chunks, kind=damaged_kind)

    seen = run(FORMS, ask)
    assert min(seen[200], seen[400]) > FORMS // 50, seen


def test_wrong_options_and_json(people: People) -> None:
    rng, picture = random.Random(63), seeds()[0]
    query = b"model=tiny&min_score=0.5&classes=person,car&annotate=base64&timeout_s=5"
    text = b'{"url": "https://media.example.org/a.jpg", "min_score": 0.5, "classes": ["person"], "model": ""}'

    def ask() -> Answer:
        if rng.random() < 0.5:
            safe = quote_from_bytes(damaged(rng, query, [query]), safe="=&%,.")
            return people.call("POST", "/predict", picture, query=safe)
        return people.call("POST", "/predict", damaged(rng, text, [text]), kind="application/json")

    def expect_403(answer: Answer) -> Answer:  # a whole URL in the JSON: fetching is off
        if answer.status == 403:
            answer.status = 404
        return answer

    seen = run(OPTIONS, lambda: expect_403(ask()))
    assert min(seen[200], seen[422], seen[400]) > 5, seen


def test_damaged_wire_bodies(people: People) -> None:
    rng, pictures = random.Random(64), seeds()
    jpegs = [picture for picture in pictures if picture.startswith(b"\xff\xd8")]
    frames = tuple(Frame("gate", number, jpeg) for number, jpeg in enumerate(jpegs))
    whole = encode_request(DetectRequest(frames, model="tiny", timeout_ms=20_000))

    def ask() -> Answer:
        answer = people.call("POST", "/v1/detect", damaged(rng, whole, [whole, *jpegs]))
        if answer.status == 200:
            assert decode_response(answer.body).model == "tiny"
        return answer

    seen = run(WIRE, ask)
    assert min(seen[200], seen[400]) > WIRE // 50, seen
    assert sum(people.service.totals.requests.values()) >= WIRE
    assert not set(people.service.totals.requests) & {500, 503}
