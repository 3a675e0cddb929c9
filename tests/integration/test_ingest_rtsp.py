"""RTSP from the simulator's GStreamer server, where GStreamer is installed."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from framegrid_ingest.clock import Clock
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.intake import Intake, SourceFrame
from framegrid_ingest.sampler import Sampler
from framegrid_ingest.slot import Slot
from framegrid_ingest.sources.opening import reader_for
from framegrid_ingest.sources.probe import ProbeResult, probe
from framegrid_ingest.urls import CameraUrl

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host, port and path; viewer:p@ss may look."""
    command = "-m framegrid_sim serve --cameras 1 --port 0 --rtsp-port 0 --prefix cam --clips 1"
    size = "--duration 6 --fps 10 --width 320 --height 180"
    rest = f"--auth viewer:p@ss --cache {tmp_path_factory.mktemp('clips')}"
    process = subprocess.Popen(
        [sys.executable, *command.split(), *size.split(), *rest.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        try:
            line = process.stdout.readline()
            if not line:
                pytest.skip(f"the simulator serves no RTSP here: {process.stderr.read().decode()[-300:]}")
            with urllib.request.urlopen(f"{json.loads(line)['url']}/cameras", timeout=5) as answer:
                yield json.load(answer)["cameras"][0]["rtsp"].removeprefix("rtsp://")
        finally:
            process.terminate()


def camera(url: str, **keys: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "cam", "url": CameraUrl(url), **keys})


def probed(url: str) -> ProbeResult:
    return asyncio.run(probe(camera(url), 15.0))


def read(config: CameraConfig, seconds: float) -> list[SourceFrame]:
    frames: list[SourceFrame] = []

    async def scenario() -> None:
        intake = Intake(
            Sampler(config.fps, time.time()), Slot[SourceFrame](), Clock(), lambda: None, lambda facts: None
        )
        task = asyncio.create_task(reader_for(config).read(intake))
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not task.done():
            frame = intake.take()
            frames.extend([frame] if frame else [])
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    return frames


def test_a_stream_is_probed_with_its_password(stream: str) -> None:
    found = probed(f"rtsp://viewer:p%40ss@{stream}")
    assert (found.ok, found.kind, found.codec, found.width) == (True, "rtsp", "h264", 320), found
    assert found.fps == pytest.approx(10, rel=0.3)
    assert found.first_frame_s < 5.0


@pytest.mark.parametrize(
    ("login", "path", "fault"),
    [
        ("viewer:wrong@", "", "unauthorized"),
        ("", "", "unauthorized"),
        ("viewer:p%40ss@", "-none", "not_found"),
    ],
)
def test_why_a_stream_does_not_open_is_told(stream: str, login: str, path: str, fault: str) -> None:
    found = probed(f"rtsp://{login}{stream}{path}")
    assert found.fault == fault, found
    assert "wrong" not in repr(found)


def test_frames_come_at_a_steady_pace_with_capture_times_behind_no_clock(stream: str) -> None:
    frames = read(camera(f"rtsp://viewer:p%40ss@{stream}", fps=5), 7.0)
    assert len(frames) >= 15
    times = np.array([frame.captured_at_s for frame in frames])
    assert float(np.median(np.diff(times))) == pytest.approx(0.2, abs=0.02)
    assert all(frame.captured_at_s <= frame.arrived_at_s + 1e-6 for frame in frames)


def test_a_slowly_sampled_stream_decodes_keyframes_once_it_knows_them(stream: str) -> None:
    frames = read(camera(f"rtsp://viewer:p%40ss@{stream}", fps=0.5), 11.0)
    assert len(frames) >= 3
    assert all(frame.picture.frame.key_frame for frame in frames[-2:])  # type: ignore[union-attr]
