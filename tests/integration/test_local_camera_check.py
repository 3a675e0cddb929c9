"""`framegrid camera check` against simulated cameras with faults, broken files and absent servers."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from framegrid_ingest.recordings.drawing import VideoWriter
from framegrid_local.cli import app
from framegrid_sim.clip import Clip, SceneSettings
from framegrid_sim.feed import CameraSpec
from framegrid_sim.server import BackgroundServer
from framegrid_sim.truth import ClipTruth, FrameTruth
from typer.testing import CliRunner, Result

pytestmark = pytest.mark.integration

FPS, FRAMES, WIDTH, HEIGHT = 10.0, 50, 320, 180


def grey_clip() -> Clip:
    frames = [np.full((HEIGHT, WIDTH, 3), 3 * i, np.uint8) for i in range(FRAMES)]
    truth = ClipTruth(
        fps=FPS,
        frames=tuple(FrameTruth(i, ()) for i in range(FRAMES)),
        lines=(),
        zones=(),
        crossings=(),
        seen=(),
        ids_per_pass=0,
    )
    settings = SceneSettings(width=WIDTH, height=HEIGHT, fps=FPS, duration_s=FRAMES / FPS)
    return Clip(settings, [simplejpeg.encode_jpeg(frame, quality=80) for frame in frames], truth)


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer([CameraSpec("north", grey_clip(), auth="bob:geheim")]) as running:
        yield running


def check(url: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["camera", "check", url, "--timeout", "5", *options])


def address(server: BackgroundServer, what: str, login: str = "bob:geheim") -> str:
    return server.url.replace("://", f"://{login}@") + f"/cameras/north/{what}"


def set_fault(server: BackgroundServer, kind: str) -> None:
    request = urllib.request.Request(
        f"{server.url}/cameras/north/fault?kind={kind}&seconds=60", method="POST"
    )
    urllib.request.urlopen(request, timeout=5).close()


def test_says_codec_size_rate_and_time_of_the_first_picture(server: BackgroundServer) -> None:
    result = check(address(server, "stream.mjpg"), "--json")
    found = json.loads(result.output)
    assert result.exit_code == 0
    assert (found["kind"], found["width"], found["height"]) == ("mjpeg", WIDTH, HEIGHT)
    assert found["measured_fps"] == pytest.approx(FPS, rel=0.2)
    assert 0 < found["first_frame_s"] < 5
    assert "geheim" not in result.output


def test_a_polled_picture_is_a_camera_too(server: BackgroundServer) -> None:
    result = check(address(server, "frame.jpg"))
    assert result.exit_code == 0
    assert f"{WIDTH} x {HEIGHT}" in result.output


def test_a_wrong_password_is_said_without_showing_it(server: BackgroundServer) -> None:
    result = check(address(server, "stream.mjpg", login="bob:falsch"))
    assert result.exit_code == 1
    assert "401" in result.output
    assert "falsch" not in result.output


@pytest.mark.parametrize(
    ("kind", "said"),
    [("notvideo", "expected video or JPEG pictures"), ("stop", "503"), ("reset", ""), ("empty", "")],
)
def test_faults_of_a_camera_are_named(server: BackgroundServer, kind: str, said: str) -> None:
    set_fault(server, kind)
    try:
        result = check(address(server, "stream.mjpg"))
    finally:
        set_fault(server, "none")
    assert result.exit_code == 1
    assert "cameras/north/stream.mjpg: " in result.output
    assert said in result.output
    assert "Traceback" not in result.output


def test_nobody_listening_is_a_refused_connection() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = check(f"rtsp://127.0.0.1:{port}/stream")
    assert result.exit_code == 1
    assert "refused" in result.output


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        held: list[socket.socket] = []
        threading.Thread(target=lambda: held.append(silent.accept()[0]), daemon=True).start()
        result = check(f"http://127.0.0.1:{silent.getsockname()[1]}/video", "--timeout", "1")
        for connection in held:
            connection.close()
    assert result.exit_code == 1
    assert "no picture in 1 s" in result.output


def test_a_video_file_is_a_camera_too(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    writer = VideoWriter(path, FPS)
    for i in range(10):
        writer.write(np.full((HEIGHT, WIDTH, 3), 20 * i, np.uint8))
    writer.close()
    result = check(str(path))
    assert result.exit_code == 0
    assert "h264 320 x 180" in result.output


@pytest.mark.parametrize("content", [b"", b"\0" * 5000], ids=["empty", "zeros"])
def test_a_file_without_video_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    result = check(str(path))
    assert result.exit_code == 1
    assert "broken.mp4: " in result.output


def test_an_address_of_no_known_kind_is_a_usage_error() -> None:
    result = check("gopher://host/x")
    assert result.exit_code == 2
    assert "rtsp://" in result.output
