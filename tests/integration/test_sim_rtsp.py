"""RTSP cameras by GStreamer, read with PyAV over TCP; skipped where GStreamer is not installed."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg
from framegrid_sim import rtsp
from framegrid_sim.clip import Clip, SceneSettings
from framegrid_sim.clip_cache import load_clips
from framegrid_sim.feed import CameraSpec, Feed
from framegrid_sim.rtsp import RtspError, RtspServer, rtsp_problem

FPS = 10.0
SCENE = SceneSettings(seed=1, width=320, height=180, fps=FPS, duration_s=5)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    problem = rtsp_problem()
    if problem is not None:
        pytest.skip(problem)
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def clip(cache_dir: Path) -> Clip:
    return load_clips([SCENE], cache_dir)[0]


@contextmanager
def served(cache_dir: Path, *options: str) -> Iterator[list[dict[str, Any]]]:
    """`python -m framegrid_sim rtsp` with two cameras; gives what /cameras says, with the server's `url`."""
    command = [
        sys.executable,
        "-m",
        "framegrid_sim",
        "rtsp",
        "--port",
        "0",
        "--rtsp-port",
        "0",
        "--clips",
        "1",
    ]
    command += ["--cameras", "2", "--width", "320", "--height", "180", "--duration", "5", "--gop", "5"]
    command += ["--cache", str(cache_dir), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            with urllib.request.urlopen(f"{url}/cameras", timeout=5) as response:
                yield [camera | {"url": url} for camera in json.loads(response.read())["cameras"]]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
    assert process.returncode == 0


def opened(url: str) -> Any:
    return closing(
        av.open(url, options={"rtsp_transport": "tcp", "analyzeduration": "500000"}, timeout=(10.0, 6.0))
    )


def post_fault(camera: dict[str, Any], kind: str, seconds: float) -> None:
    request = urllib.request.Request(
        f"{camera['url']}{camera['fault']}?kind={kind}&seconds={seconds}", method="POST"
    )
    urllib.request.urlopen(request, timeout=5).close()


def best_match(picture: np.ndarray, clip: Clip) -> int:
    """Number of the clip's frame that differs least from a grey picture."""
    frames = [simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[:, :, 0].astype(int) for jpeg in clip.jpegs]
    return int(np.argmin([np.abs(frame - picture).mean() for frame in frames]))


def test_rtsp_shows_the_frames_that_http_shows_at_the_same_time(cache_dir: Path, clip: Clip) -> None:
    with served(cache_dir) as cameras:
        camera = cameras[1]
        assert camera["rtsp"].startswith("rtsp://127.0.0.1:")
        with opened(camera["rtsp"]) as stream:
            video = stream.streams.video[0]
            assert (video.codec_context.name, video.width, video.height) == ("h264", 320, 180)
            shown = []
            for frame in stream.decode(video):
                full_range = frame.reformat(format="gray", src_color_range=1, dst_color_range=2)
                shown.append((time.time(), full_range.to_ndarray().astype(int)))
                if len(shown) == 60:
                    break
        # The last ones came at their time (the first ones were waiting while the client probed the stream).
        for came_s, picture in shown[-5:]:
            expected = (came_s - camera["epoch_s"]) * FPS
            late_frames = (expected - best_match(picture, clip)) % clip.frame_count
            assert late_frames < 5, "half a second: pipeline, decoder and a busy machine"


def test_rtsp_wants_the_password_of_the_cameras(cache_dir: Path, clip: Clip) -> None:
    with served(cache_dir, "--auth", "bob:pw") as cameras:
        url = cameras[0]["rtsp"]
        with pytest.raises(av.error.HTTPUnauthorizedError), opened(url):
            pass
        with opened(url.replace("rtsp://", "rtsp://bob:pw@")) as stream:
            assert next(stream.decode(video=0)).width == 320


def test_a_stopped_rtsp_camera_is_gone_and_comes_back(cache_dir: Path, clip: Clip) -> None:
    with served(cache_dir) as cameras:
        url = cameras[0]["rtsp"]
        with opened(url) as stream:
            next(stream.decode(video=0))
            post_fault(cameras[0], "stop", 2.0)
            began_s = time.monotonic()
            for _ in stream.demux(video=0):  # what is on its way, then the end
                assert time.monotonic() < began_s + 1.5
        with opened(cameras[1]["rtsp"]) as other:  # the other camera goes on
            assert next(other.decode(video=0)).width == 320
        deadline_s = time.monotonic() + 10
        while True:
            try:
                with opened(url) as stream:
                    assert next(stream.decode(video=0)).width == 320
                return
            except av.error.FFmpegError:
                assert time.monotonic() < deadline_s
                time.sleep(0.2)


def test_a_frozen_rtsp_camera_repeats_one_picture(cache_dir: Path, clip: Clip) -> None:
    with served(cache_dir) as cameras:
        post_fault(cameras[0], "freeze", 60)
        with opened(cameras[0]["rtsp"]) as stream:
            frames = stream.decode(video=0)
            pictures = [next(frames).to_ndarray(format="gray").astype(int) for _ in range(15)]
        assert all(np.abs(picture - pictures[3]).mean() < 0.01 for picture in pictures[3:])


def test_a_taken_rtsp_port_is_said_with_what_to_do(cache_dir: Path, clip: Clip) -> None:
    feeds = [Feed(CameraSpec("north", clip), time.time())]
    one = RtspServer(feeds, "127.0.0.1", 0)
    one.start()
    try:
        two = RtspServer(feeds, "127.0.0.1", one.port)
        with pytest.raises(RtspError, match=r"expected a free RTSP address, got .*--rtsp-port"):
            two.start()
    finally:
        one.stop()


def test_without_gstreamer_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtsp, "SYSTEM_PYTHON", Path("/nowhere/python3"))
    with pytest.raises(RtspError, match=r"gir1\.2-gst-rtsp-server-1\.0"):
        RtspServer([], "127.0.0.1", 0).start()
    assert "python3-gi" in (rtsp_problem() or "")
