"""The video service as a process: uploads on real sockets, analysed by its children."""

from __future__ import annotations

import csv
import io
import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest
import yaml
from framegrid_ingest.recordings.drawing import VideoWriter
from framegrid_ingest.videos.container import container_of
from framegrid_serve.wire import (
    CONTENT_TYPE,
    DetectResponse,
    FrameResult,
    FrameStatus,
    decode_request,
    encode_response,
)

pytestmark = pytest.mark.integration

WIDTH, HEIGHT, FPS, SECONDS = 320, 240, 10, 6
MAX_BYTES = 400_000


class SmallServe(BaseHTTPRequestHandler):
    """Speaks the wire format; finds what is bright: one person. `gate` holds its answers back."""

    protocol_version = "HTTP/1.1"
    gate = threading.Event()

    def do_GET(self) -> None:
        model = {"name": "bright", "version": "3", "digest": "d" * 64, "classes": ["person", "car"]}
        models = {"default": "bright", "models": [{**model, "input_size": 320, "state": "ready"}]}
        self._send(json.dumps(models).encode(), "application/json")

    def do_POST(self) -> None:
        request = decode_request(self.rfile.read(int(self.headers["Content-Length"])))
        assert request.priority < 0  # cameras go first
        assert self.gate.wait(60)
        results = tuple(self._find(bytes(frame.jpeg)) for frame in request.frames)
        self._send(encode_response(DetectResponse("bright", "3", "d" * 64, results)), CONTENT_TYPE)

    def _find(self, jpeg: bytes) -> FrameResult:
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        ys, xs = np.nonzero(image[:, :, 1] > 180)
        if len(xs) < 50:
            return FrameResult.without_boxes(FrameStatus.OK)
        height, width = image.shape[:2]
        box = [xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height]
        return FrameResult(
            FrameStatus.OK, np.array([box], np.float32), np.array([0.9], np.float32), np.array([0], np.int16)
        )

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def serve() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SmallServe)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    SmallServe.gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Service:
    """`python -m framegrid_ingest.videos` as a process of its own."""

    def __init__(self, folder: Path, serve: str, **settings: Any) -> None:
        folder.mkdir()
        self.folder = folder / "videos"
        config = {
            "serve_url": serve,
            "folder": str(self.folder),
            "http_port": 0,
            "max_video_bytes": MAX_BYTES,
        }
        (folder / "videos.yaml").write_text(
            yaml.safe_dump({"max_video_bytes": MAX_BYTES, **config, **settings})
        )
        self.log = folder / "videos.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "framegrid_ingest.videos", "--config", str(folder / "videos.yaml")],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], 60)
        assert readable, self.log.read_text()
        self.url = str(json.loads(self.process.stdout.readline())["url"])
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def stop(self) -> int:
        self.client.close()
        self.process.terminate()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(30)

    def upload(self, data: bytes, **options: Any) -> httpx.Response:
        return self.client.post("/videos", content=data, params=options)

    def wait(self, video: str, *states: str) -> dict[str, Any]:
        for _ in range(600):
            told = dict(self.client.get(f"/videos/{video}").json())
            if told["state"] in states:
                return told
            time.sleep(0.1)
        raise AssertionError(f"{told} after a minute; {self.log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, serve: str) -> Iterator[Service]:
    SmallServe.gate.set()
    service = Service(tmp_path_factory.mktemp("videos") / "one", serve, max_video_s=30, max_waiting=2)
    yield service
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()
    assert list(service.folder.iterdir()) == []


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A bright person walks from left to right."""
    path = tmp_path_factory.mktemp("walk") / "walk.mp4"
    writer = VideoWriter(path, FPS)
    for number in range(FPS * SECONDS):
        picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        x = 10 + round(number * (WIDTH - 60) / (FPS * SECONDS))
        picture[80:200, x : x + 40] = 250
        writer.write(picture)
    writer.close()
    return path.read_bytes()


def test_a_video_is_counted_in_the_background(service: Service, walk: bytes) -> None:
    answer = service.upload(walk, name="walk <b>.mp4", fps=10, line="middle:0.5,1,0.5,0")
    assert answer.status_code == 202, answer.text
    video = answer.json()["id"]
    assert answer.headers["location"] == f"/videos/{video}"
    told = service.wait(video, "done", "failed")
    assert (told["state"], told["progress"], told["name"]) == ("done", 1.0, "walk <b>.mp4"), told
    assert told["frames"] >= FPS * SECONDS - 2
    assert told["expires_in_s"] > 80_000
    result = service.client.get(f"/videos/{video}/result.json").json()
    assert (result["model"], result["source"]) == ("bright@3", "walk <b>.mp4")
    assert result["uniques"] == {"person": 1, "vehicle": 0}
    crossings = result["lines"]["middle"]["person"]
    assert sorted(crossings.values()) == [0, 1]
    rows = list(csv.DictReader(io.StringIO(service.client.get(f"/videos/{video}/result.csv").text)))
    assert {row["class"] for row in rows} == {"person", "vehicle"}
    assert sum(int(row["uniques"]) for row in rows) == 1
    movie = service.client.get(f"/videos/{video}/annotated.mp4")
    assert movie.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(movie.content)) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(frames) == told["frames"]
    assert frames[0].shape == (HEIGHT, WIDTH, 3)
    part = service.client.get(f"/videos/{video}/annotated.mp4", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, movie.content[:10])
    assert not (service.folder / video / "upload").exists()
    assert service.client.delete(f"/videos/{video}").status_code == 204
    assert service.client.get(f"/videos/{video}").status_code == 404
    assert not (service.folder / video).exists()


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n" * 10


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"", 415, "expected an MP4"),
        (b"x" * 1000, 415, "expected an MP4"),
        (PLAYLIST, 415, "expected an MP4"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n" * 20, 415, "expected an MP4"),
        (b"\0\0\0\x18ftypmp42" + bytes(MAX_BYTES), 413, f"at most {MAX_BYTES} bytes"),
    ],
    ids=["empty", "junk", "playlist", "concat", "large"],
)
def test_what_is_no_video_is_refused_before_ffmpeg_sees_it(
    service: Service, data: bytes, status: int, text: str
) -> None:
    answer = service.upload(data)
    assert (answer.status_code, text in answer.json()["error"]) == (status, True)
    pieces = [data[at : at + 999] for at in range(0, len(data), 999)]
    chunked = service.client.post("/videos", content=iter(pieces))
    assert chunked.status_code == status
    assert list(service.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"fps": "1000"}, "fps: expected a number from 0.01 to 15, got '1000'"),
        ({"fps": "nan"}, "fps"),
        ({"line": "a:0,0,1"}, "line a: expected 4 numbers"),
        ({"line": "a:0,0,2,1"}, "lines"),
        ({"line": "${HOME}:0,0,1,1"}, "lines"),
        ({"zone": "z:0,0,1,1"}, "zone z: expected 3 or more points"),
        ({"minscore": "1"}, "unknown option 'minscore'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_options_are_named_before_anything_is_stored(
    service: Service, walk: bytes, options: dict[str, str], text: str
) -> None:
    answer = service.upload(walk, **options)
    assert (answer.status_code, text in answer.json()["error"]) == (422, True), answer.text
    assert list(service.folder.iterdir()) == []


def test_a_damaged_video_and_an_unknown_model_fail_with_a_sentence(service: Service, walk: bytes) -> None:
    cut = service.upload(walk[: len(walk) // 2]).json()["id"]
    told = service.wait(cut, "failed", "done")
    assert told["state"] == "failed"
    assert "damaged" in told["error"]
    assert str(service.folder) not in told["error"]
    wrong = service.upload(walk, model="nope").json()["id"]
    assert "expected one of bright, got 'nope'" in service.wait(wrong, "failed", "done")["error"]
    assert service.client.get(f"/videos/{wrong}/result.json").status_code == 409
    for video in (cut, wrong):
        service.client.delete(f"/videos/{video}")


def test_waiting_is_bounded_and_a_running_one_can_be_stopped(service: Service, walk: bytes) -> None:
    SmallServe.gate.clear()
    try:
        running = service.upload(walk).json()["id"]
        service.wait(running, "running")
        waiting = [service.upload(walk).json()["id"] for _ in range(2)]
        refused = service.upload(walk)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert [service.client.get(f"/videos/{video}").json()["state"] for video in waiting] == [
            "waiting"
        ] * 2
        for video in (running, *waiting):
            assert service.client.delete(f"/videos/{video}").status_code == 204
    finally:
        SmallServe.gate.set()
    after = service.upload(walk).json()["id"]
    assert service.wait(after, "done", "failed")["state"] == "done"
    service.client.delete(f"/videos/{after}")


def test_an_upload_that_is_cut_off_leaves_nothing(service: Service, walk: bytes) -> None:
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port or 80)) as client:
        head = f"POST /videos HTTP/1.1\r\nHost: x\r\nContent-Length: {len(walk)}\r\n\r\n"
        client.sendall(head.encode() + walk[:5000])
        time.sleep(0.3)
    for _ in range(50):
        if not list(service.folder.iterdir()):
            return
        time.sleep(0.1)
    raise AssertionError("the upload is still there")


def test_silence_length_disk_and_age_are_bounded(tmp_path: Path, serve: str, walk: bytes) -> None:
    small = Service(
        tmp_path / "small",
        serve,
        max_video_s=3,
        keep_s=1.5,
        upload_silence_s=0.3,
        max_stored_bytes=len(walk) + 9000,
    )
    try:
        long = small.upload(walk).json()["id"]
        assert "expected at most 3 s of video, got 6 s" in small.wait(long, "failed")["error"]
        address = httpx.URL(small.url)
        with socket.create_connection((address.host, address.port or 80), timeout=10) as client:
            client.sendall(b"POST /videos HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n" + walk[:1000])
            assert b" 408 " in client.recv(1000)
        for _ in range(100):
            if small.client.get(f"/videos/{long}").status_code == 404:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("it did not expire")
        with av.open(io.BytesIO(walk)) as container:
            assert container.duration
        padded = walk + b"\0\0\x9c\x40free" + bytes(39_992)
        assert small.upload(padded).status_code == 429
        assert list(small.folder.iterdir()) == []
    finally:
        assert small.stop() == 0


def test_containers_by_their_first_bytes(walk: bytes) -> None:
    packets = (b"\x47" + bytes(187)) * 3
    cases = {
        walk: "mp4", b"\x1a\x45\xdf\xa3" + bytes(99): "mkv", b"RIFF1234AVI LIST": "avi", packets: "ts",
        b"\0\0\1\xba" + bytes(20): "ps", b"RIFF1234WEBPVP8 ": "", PLAYLIST: "", b"": "", b"\x47" * 20: "",
    }  # fmt: skip
    for head, kind in cases.items():
        assert container_of(head[:400]) == kind


def test_wrong_settings_are_refused_with_their_key(tmp_path: Path) -> None:
    config = tmp_path / "videos.yaml"
    config.write_text("serve_url: nonsense\nsurprise: 1\n")
    run = subprocess.run(
        [sys.executable, "-m", "framegrid_ingest.videos", "--config", str(config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    for key in ("serve_url", "surprise", "folder"):
        assert key in run.stderr
