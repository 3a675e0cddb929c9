"""A real Ray Serve in HAProxy mode, started as a user starts it, around networks made here."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import simplejpeg
from framegrid_serve.wire import (
    CONTENT_TYPE,
    MAX_BODY_BYTES,
    DetectRequest,
    Frame,
    FrameStatus,
    decode_response,
    encode_request,
)
from people.served import SIZE, START_TIMEOUT_S, Served, write_bundle

pytestmark = pytest.mark.integration

HEADERS = {"Content-Type": CONTENT_TYPE}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    write_bundle(folder / "one", "1", score=0.75)
    served = Served(folder, [{"name": "tiny", "path": "one"}])
    try:
        ready = served.ready_line()
        assert ready["event"] == "ready"
        assert ready["url"] == f"http://127.0.0.1:{served.port}"
        assert 0 < float(str(ready["startup_s"])) < START_TIMEOUT_S
        yield served
    finally:
        if served.process.poll() is None:
            served.stop()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{served.port}", timeout=30.0) as client:
        yield client


def picture(height: int = 360, width: int = SIZE) -> bytes:
    rows, columns = np.indices((height, width))
    planes = np.stack([rows % 256, columns % 256, (rows + columns) % 256], axis=-1).astype(np.uint8)
    return simplejpeg.encode_jpeg(planes, quality=90, colorspace="BGR")


def body(*jpegs: bytes, **fields: object) -> bytes:
    frames = tuple(Frame("gate", seq, jpeg) for seq, jpeg in enumerate(jpegs))
    return encode_request(DetectRequest(frames=frames, **fields))  # type: ignore[arg-type]


def detect(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/v1/detect", content=content, headers=HEADERS)


def test_boxes_come_back_for_every_frame_with_the_model_that_made_them(client: httpx.Client) -> None:
    answer = detect(client, body(picture(), b"not a jpeg", picture(640, 640), timeout_ms=20_000))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == CONTENT_TYPE
    response = decode_response(answer.content)
    assert (response.model, response.version) == ("tiny", "1")
    statuses = [result.status for result in response.results]
    assert statuses == [FrameStatus.OK, FrameStatus.CORRUPT, FrameStatus.OK]
    wide, _, square = response.results
    assert square.scores.tolist() == [0.75]
    np.testing.assert_allclose(square.boxes_xyxy, [[0.375, 0.25, 0.625, 0.75]], atol=1e-6)
    # The wide picture was padded above and below; its box is relative to the picture all the same.
    np.testing.assert_allclose(wide.boxes_xyxy, [[0.375, 0.5 - 160 / 360, 0.625, 0.5 + 160 / 360]], atol=1e-6)


def test_models_and_health_are_told(client: httpx.Client) -> None:
    told = client.get("/v1/models").json()
    assert told["default"] == "tiny"
    (model,) = told["models"]
    assert model["classes"] == ["person", "car"]
    assert (model["engine"], model["input_size"], model["state"]) == ("openvino", SIZE, "ready")
    assert client.get("/healthz").json() == {"status": "ok"}


def test_wrong_requests_are_answered_with_what_is_wrong(client: httpx.Client) -> None:
    malformed = detect(client, b"FGRQ\x09" + bytes(60))
    assert (malformed.status_code, malformed.json()["error"][:30]) == (400, "expected wire version 1, got 9")
    unknown = detect(client, body(picture(), model="nope"))
    assert unknown.status_code == 404
    assert unknown.json()["error"].startswith("expected a model of tiny, got 'nope'")
    large = detect(client, bytes(MAX_BODY_BYTES + 1))
    assert large.status_code == 413
    assert client.get("/v1/detect").status_code == 405
    assert client.get("/nothing").status_code == 404


def test_more_than_the_queue_holds_is_refused_with_a_time_to_retry(client: httpx.Client) -> None:
    content = body(*[picture(640, 640)] * 20, timeout_ms=30_000)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: detect(client, content), range(12)))
    codes = {answer.status_code for answer in answers}
    assert codes == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["retry_after_s"] >= 0


def test_a_broken_edit_leaves_everything_as_it_is(client: httpx.Client, served: Served) -> None:
    served.reload([{"name": "tiny", "path": "nowhere"}])
    wait_for(lambda: "everything stays as it is" in served.log.read_text())
    assert "nowhere: no such folder" in served.log.read_text()
    assert decode_response(detect(client, body(picture())).content).version == "1"


def test_models_change_under_load_without_one_failed_request(client: httpx.Client, served: Served) -> None:
    for number in range(2, 5):
        write_bundle(served.folder / f"v{number}", str(number), score=0.5 + number / 10)
    stop = threading.Event()
    seen: list[tuple[int, str, float]] = []

    def load() -> None:
        content = body(picture(), picture(), timeout_ms=20_000)
        with httpx.Client(base_url=client.base_url, timeout=30.0) as own:
            while not stop.is_set():
                answer = detect(own, content)
                version, score = "", 0.0
                if answer.status_code == 200:
                    response = decode_response(answer.content)
                    version, score = response.version, float(response.results[0].scores[0])
                seen.append((answer.status_code, version, round(score, 3)))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(2, 5):
            served.reload([{"name": "tiny", "path": f"v{number}"}])
            wait_for(lambda number=number: any(version == str(number) for _, version, _ in list(seen)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {code for code, _, _ in seen} == {200}
    # Never an answer of one version under the name of another.
    assert {pair[1:] for pair in seen} <= {(str(n), round(0.5 + n / 10, 3)) for n in range(2, 5)} | {
        ("1", 0.75)
    }
    assert len(seen) > 50


def test_sigterm_ends_everything_that_was_started(served: Served, client: httpx.Client) -> None:
    assert client.get("/healthz").status_code == 200
    assert len(served.processes()) > 3
    assert served.stop() == 0
    wait_for(lambda: not served.processes(), timeout_s=10.0)


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    write_bundle(tmp_path / "one", "1", score=0.75)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        served = Served(tmp_path, [{"name": "tiny", "path": "one"}], http_port=port)
        assert served.process.wait(60) == 1
        assert served.process.stdout is not None
        served.process.stdout.close()
    assert f"http_port {port} on 127.0.0.1: Address already in use" in served.log.read_text()


def wait_for(condition: object, timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError(f"not so within {timeout_s} s")
