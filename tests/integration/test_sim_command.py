"""`python -m framegrid_sim` as a process: its ready line, its end, its measurement."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from framegrid_sim.bench import measure_sim_fps

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


def test_the_command_prints_one_ready_line_and_ends_cleanly_on_a_signal(cache_dir: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "framegrid_sim",
        "serve",
        "--cameras",
        "3",
        "--clips",
        "1",
        "--port",
        "0",
    ]
    command += [
        "--fps",
        "5",
        "--duration",
        "5",
        "--width",
        "160",
        "--height",
        "90",
        "--cache",
        str(cache_dir),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] is True
        assert ready["cameras"] == ["camera-1", "camera-2", "camera-3"]
        with socket.create_connection(("127.0.0.1", ready["port"]), timeout=3) as viewer:
            viewer.sendall(b"GET /cameras/camera-2/stream.mjpg HTTP/1.1\r\n\r\n")
            assert viewer.recv(4096).startswith(b"HTTP/1.1 200 OK")
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=10)
    assert (process.returncode, output) == (0, "")
    assert errors.startswith("framegrid_sim: rendering 1 clips, 25 frames, once")
    assert len(errors.splitlines()) == 1


def test_one_core_serves_two_thousand_frames_a_second(tmp_path: Path) -> None:
    result = measure_sim_fps(cameras=100, round_s=1.0, rounds=1, cache_dir=tmp_path)
    assert result.sim_fps >= 2000
    assert result.frames_received == pytest.approx(result.frames_served, rel=0.1)
    assert result.frames_served >= 900
