"""The API for people on real sockets: HAProxy, Ray Serve, a replica, and the video service behind it."""

from __future__ import annotations

import io
import json
import os
import random
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from framegrid_ingest.recordings.drawing import VideoWriter
from people.served import SIZE, Served, write_bundle
from PIL import Image

pytestmark = pytest.mark.integration

README = Path(__file__).parents[2] / "serve" / "README.md"
FUZZED = 2000
MAX_GROWTH_BYTES = 60 * 1024 * 1024
UPLOAD_TIMEOUT_S = 3.0
SLOW_CLIENTS = 40


class Videos:
    """The video service as a process; its port is chosen before serve starts, its start comes after."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, serve_url: str) -> None:
        config = {"serve_url": serve_url, "folder": str(self.folder / "videos"), "http_port": self.port}
        (self.folder / "videos.yaml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "framegrid_ingest.videos", "--config", str(self.folder / "videos.yaml")],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], 60)
        assert readable
        assert b"ready" in self.process.stdout.readline()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process.wait(30)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("people")
    write_bundle(folder / "one", "1", score=0.75)
    videos = Videos(folder)
    people = {
        "videos_url": f"http://127.0.0.1:{videos.port}",
        "upload_timeout_s": UPLOAD_TIMEOUT_S,
        "max_video_bytes": 100 * 1024 * 1024,
    }
    served = Served(folder, [{"name": "tiny", "path": "one"}], people=people)
    try:
        served.ready_line()
        videos.start(f"http://127.0.0.1:{served.port}")
        yield served
    finally:
        videos.stop()
        if served.process.poll() is None:
            served.stop()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{served.port}", timeout=60.0) as client:
        yield client


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """street.jpg, square.png and walk.mp4, as the README's commands name them."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(5)
    Image.fromarray(rng.integers(0, 255, (360, SIZE, 3), np.uint8)).save(folder / "street.jpg")
    Image.fromarray(rng.integers(0, 255, (300, 300, 3), np.uint8)).save(folder / "square.png")
    writer = VideoWriter(folder / "walk.mp4", 5)
    for number in range(15):
        writer.write(np.full((180, 320, 3), 10 * number, np.uint8))
    writer.close()
    return folder


def replica_rss_bytes(served: Served) -> int:
    """Resident memory of the replica."""
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdecimal() or served.mark.encode() not in (entry / "environ").read_bytes():
                continue
            if b"ServeReplica" in (entry / "cmdline").read_bytes():
                return int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue
    raise AssertionError(f"no replica among {served.processes()}")


def test_the_commands_of_the_readme_work_as_they_stand(served: Served, files: Path) -> None:
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## For people") : text.index("### Settings")]
    pictures, videos = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    told = []
    for line in pictures.strip().splitlines():
        told.append(_shell(line, served, files))
    assert json.loads(told[0])["default"] == "tiny"
    example = json.loads(re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL)[0])
    answer = json.loads(told[1])
    assert answer["min_score"] == example["min_score"]
    assert answer["images"][0]["boxes"] == example["images"][0]["boxes"]
    assert answer["images"][0].keys() == example["images"][0].keys()
    assert [image["name"] for image in json.loads(told[2])["images"]] == ["street.jpg", "square.png"]
    with Image.open(files / "boxes.jpg") as annotated:
        assert annotated.size == (SIZE, 360)
    result = json.loads(_shell(videos, served, files))
    assert json.loads((files / "state.json").read_text())["state"] == "done"
    assert result["model"] == "tiny@1"
    assert result["counts"][""]["person"]["max"] == 1
    assert (files / "counts.csv").read_text().startswith("second,zone,class")
    assert (files / "annotated.mp4").read_bytes()[4:8] == b"ftyp"


def _shell(commands: str, served: Served, files: Path) -> str:
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}")],
        cwd=files, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, (commands, run.stderr)
    return run.stdout


def test_the_page_comes_with_all_it_needs(client: httpx.Client) -> None:
    page = client.get("/")
    assert "Choose pictures" in page.text
    for address in re.findall(r'(?:src|href)="(static/[^"]+)"', page.text):
        assert client.get(f"/{address}").status_code == 200
    assert client.get("/limits").json()["videos"] is True
    assert "swagger" in client.get("/docs").text


def test_thousands_of_damaged_uploads_leave_the_replica_as_it_was(
    served: Served, client: httpx.Client, files: Path
) -> None:
    street, square = (files / "street.jpg").read_bytes(), (files / "square.png").read_bytes()
    small = [Image.effect_noise((40, 30), 60), Image.effect_noise((64, 64), 90).convert("RGBA")]
    seeds = [street, square]
    for image, kind in (
        (small[0], "JPEG"),
        (small[1], "PNG"),
        (small[1], "WEBP"),
        (small[0], "BMP"),
        (small[0], "GIF"),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        seeds.append(buffer.getvalue())

    def ask(seed: int) -> int:
        rng = random.Random(seed)
        body = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 30)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        if rng.random() < 0.5:
            del body[rng.randrange(len(body)) :]
        path = rng.choice(("/predict", "/predict?annotate=base64", "/v1/detect", "/videos"))
        answer = client.post(path, content=bytes(body), headers={"Content-Type": "image/jpeg"})
        if answer.status_code != 200:
            assert "error" in answer.json(), answer.text
        return answer.status_code

    with ThreadPoolExecutor(4) as pool:
        seen = Counter(pool.map(ask, range(FUZZED // 4)))
        settled = replica_rss_bytes(served)
        seen += Counter(pool.map(ask, range(FUZZED // 4, FUZZED)))
    assert set(seen) <= {200, 400, 413, 415, 422, 429}, seen
    assert min(seen[200], seen[400], seen[415], seen[422]) > 20, seen
    assert replica_rss_bytes(served) - settled < MAX_GROWTH_BYTES


def test_a_huge_body_is_refused_before_it_is_read(served: Served, client: httpx.Client) -> None:
    before = replica_rss_bytes(served)
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as stated:
        stated.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n")
        assert b" 413 " in stated.recv(200)
    chunk = bytes(1 << 20)
    try:
        answer = client.post("/predict", content=(chunk for _ in range(300)))
        assert answer.status_code == 413
    except httpx.WriteError:
        pass  # refused and closed while it was still being sent
    assert client.get("/healthz").status_code == 200
    assert replica_rss_bytes(served) - before < 200 * 1024 * 1024


@pytest.mark.parametrize("path", ["/predict", "/videos"])
def test_slow_and_half_closed_clients_hold_up_nobody(
    served: Served, client: httpx.Client, files: Path, path: str
) -> None:
    picture = (files / "street.jpg").read_bytes()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", served.port), timeout=20) for _ in range(SLOW_CLIENTS)]
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.2):
            for connection in slow:
                try:
                    connection.send(b"x")
                except OSError:
                    continue

    for connection in slow:
        connection.sendall(head.encode())
    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        started_s = time.monotonic()
        for _ in range(5):
            assert client.post("/predict", content=picture).status_code == 200
        assert time.monotonic() - started_s < 20
        if path == "/predict":
            answers = Counter(connection.recv(100)[9:12] for connection in slow)
            assert set(answers) == {b"408"}, answers
    finally:
        stop.set()
        thread.join()
        for connection in slow:
            connection.close()
    for _ in range(10):  # sends all, says that nothing more comes, and goes
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as half:
            whole = head.replace("100000", str(len(picture))).encode() + picture
            half.sendall(whole)
            half.shutdown(socket.SHUT_WR)
            half.recv(100)
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as cut:
            cut.sendall(head.encode() + picture[:500])
    assert client.post("/predict", content=picture).status_code == 200


def test_requests_past_their_deadline_are_told_so(client: httpx.Client, files: Path) -> None:
    picture = (files / "street.jpg").read_bytes()

    def ask(_: int) -> httpx.Response:
        return client.post("/predict?timeout_s=0.001", content=picture)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    codes = Counter(answer.status_code for answer in answers)
    assert set(codes) <= {200, 429}, codes
    assert codes[429] > 0, codes
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_nothing_went_wrong_inside(served: Served, client: httpx.Client) -> None:
    assert client.get("/healthz").status_code == 200
    assert served.stop() == 0
    logs = served.log.read_text() + "".join(
        path.read_text(errors="replace")
        for path in (served.folder / "state" / "logs").rglob("*replica*detector*")
    )
    assert "Traceback" not in logs, logs[logs.index("Traceback") :][:3000]
