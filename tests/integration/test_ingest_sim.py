"""Ingest's sources against the simulator's cameras and its faults on command."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from framegrid_ingest.clock import Clock
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import SourceError
from framegrid_ingest.intake import Intake, SourceFrame, StreamFacts
from framegrid_ingest.sampler import Sampler
from framegrid_ingest.slot import Slot
from framegrid_ingest.sources.opening import reader_for
from framegrid_ingest.sources.probe import ProbeResult, probe
from framegrid_ingest.urls import CameraUrl

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    cache = tmp_path_factory.mktemp("clips")
    command = (
        "-m framegrid_sim serve --cameras 1 --port 0 --prefix cam --clips 1 --duration 6 --fps 10 --width 320"
    )
    process = subprocess.Popen(
        [sys.executable, *command.split(), "--height", "180", "--cache", str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with process:
        try:
            line = process.stdout.readline()
            assert line, "the simulator did not start"
            yield f"{json.loads(line)['url']}/cameras/cam-1"
        finally:
            process.terminate()


def fault(simulator: str, kind: str, seconds: float = 3.0) -> None:
    request = urllib.request.Request(f"{simulator}/fault?kind={kind}&seconds={seconds}", method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def camera(url: str, **keys: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "cam", "url": CameraUrl(url), "stall_s": 0.6, **keys})


def probed(url: str) -> ProbeResult:
    return asyncio.run(probe(camera(url), 5.0, measure_s=1.0))


class Watcher:
    """Reads until the camera is lost, for at most some seconds."""

    def __init__(self) -> None:
        self.facts: list[StreamFacts] = []
        self.frames: list[SourceFrame] = []
        self.corrupt = 0

    def read(self, config: CameraConfig, seconds: float) -> SourceError | None:
        return asyncio.run(self._read(config, seconds))

    async def _read(self, config: CameraConfig, seconds: float) -> SourceError | None:
        slot: Slot[SourceFrame] = Slot()
        intake = Intake(Sampler(config.fps, time.time()), slot, Clock(), lambda: None, self.facts.append)
        task = asyncio.create_task(reader_for(config).read(intake))
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not task.done():
            frame = intake.take()
            self.frames += [frame] if frame else []
            self.corrupt += sum(missed.reason == "corrupt" for missed in intake.drain())
            await asyncio.sleep(0.005)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        return result if isinstance(result, SourceError) else None


def test_a_simulated_camera_is_probed_and_its_capture_times_are_used(simulator: str) -> None:
    found = probed(f"{simulator}/stream.mjpg")
    assert (found.ok, found.kind, found.width, found.height) == (True, "mjpeg", 320, 180), found
    assert found.fps == pytest.approx(10, rel=0.3)
    watcher = Watcher()
    assert watcher.read(camera(f"{simulator}/stream.mjpg"), 2.0) is None
    assert len(watcher.frames) >= 15
    assert all(-0.05 < frame.arrived_at_s - frame.captured_at_s < 0.5 for frame in watcher.frames)


def test_a_single_picture_is_polled(simulator: str) -> None:
    watcher = Watcher()
    assert watcher.read(camera(f"{simulator}/frame.jpg", fps=5), 2.0) is None
    assert 7 <= len(watcher.frames) <= 11


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("stop", "server_error"),
        ("stall", "stalled"),
        ("unauthorized", "unauthorized"),
        ("reset", "reset"),
        ("notvideo", "not_video"),
        ("empty", "empty"),
        ("huge", "too_large"),
    ],
)
def test_a_fault_on_command_is_named_and_passes(simulator: str, kind: str, expected: str) -> None:
    fault(simulator, kind, seconds=2.0)
    error = Watcher().read(camera(f"{simulator}/stream.mjpg"), 4.0)
    assert error is not None
    assert error.fault.value == expected, error
    time.sleep(2.2)
    assert probed(f"{simulator}/stream.mjpg").ok


def test_garbage_between_pictures_costs_only_the_garbage(simulator: str) -> None:
    watcher = Watcher()
    fault(simulator, "garbage", seconds=1.0)
    error = watcher.read(camera(f"{simulator}/stream.mjpg"), 4.0)
    # A second of garbage is longer than this camera may go without a picture (0.6 s).
    assert error is None or error.fault.value in ("not_video", "stalled")
    time.sleep(1.0)
    assert Watcher().read(camera(f"{simulator}/stream.mjpg"), 1.0) is None


def test_a_change_of_size_is_told_and_reading_goes_on(simulator: str) -> None:
    watcher = Watcher()
    fault(simulator, "resize", seconds=1.5)
    assert watcher.read(camera(f"{simulator}/stream.mjpg"), 3.5) is None
    assert len({(facts.width, facts.height) for facts in watcher.facts}) == 2, watcher.facts
