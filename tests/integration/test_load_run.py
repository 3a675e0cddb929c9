"""`framegrid load` as a user runs it: a real Serve with the engine that waits, Locust, thresholds, report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from framegrid_local.load import OwnServe, serving

pytestmark = pytest.mark.integration

SERVICE_MS = 20.0  # two replicas: 100 frames a second, 10 cameras


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    own = OwnServe(replicas=2, synthetic_ms=SERVICE_MS)
    with serving(own, tmp_path_factory.mktemp("state")) as (url, _):
        yield url


def load(folder: Path, target: str, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "framegrid_local", "load", "--target", target, "--state-dir", str(folder)]
    return subprocess.run([*argv, *options], capture_output=True, text=True, timeout=240, check=False)


def summary_in(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "load" / "summary.json").read_text()))


def test_a_level_that_is_carried_passes_with_frames_of_both_kinds(tmp_path: Path, target: str) -> None:
    done = load(tmp_path, target, "--cameras", "4", "--shape", "steady", "--unit-s", "2", "--people", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    (shape,) = summary_in(tmp_path)["shapes"]  # type: ignore[misc]
    assert 200 <= shape["cameras"]["offered"] <= 320  # 4 cameras, 10 a second, 6 s and Locust's last tick
    assert shape["cameras"]["ok"] == shape["cameras"]["offered"]
    assert shape["cameras"]["p50_ms"] >= SERVICE_MS
    assert shape["people"]["ok"] == shape["people"]["offered"] > 0
    assert (tmp_path / "load" / "report.html").stat().st_size > 1000
    assert "frame" in (tmp_path / "load" / "locust-steady.html").read_text()


def test_thresholds_fail_when_they_should(tmp_path: Path, target: str) -> None:
    """Three times what two replicas can do; and a p95 that nobody reaches."""
    done = load(tmp_path, target, "--cameras", "30", "--shape", "steady", "--unit-s", "2", "--people", "0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED steady: expected p95 of at most 500 ms, got beyond measure" in done.stdout
    assert "lost frames" in done.stdout
    assert "Failed" in (tmp_path / "load" / "report.html").read_text()
    done = load(tmp_path, target, "--cameras", "2", "--shape", "steady", "--unit-s", "1", "--max-p95-ms", "5")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "expected p95 of at most 5 ms" in done.stdout


def test_the_capacity_is_found_by_trying(tmp_path: Path, target: str) -> None:
    options = ["--trial-s", "3", "--confirm-s", "5", "--shape", "step", "--unit-s", "1", "--cores", "2"]
    done = load(tmp_path, target, *options, "--people", "0")
    if "expected the cameras to be on time" in done.stderr:  # no core was left for the load itself
        assert done.returncode == 1
        assert not (tmp_path / "load" / "summary.json").exists()
        return
    assert (tmp_path / "load" / "summary.json").exists(), done.stdout + done.stderr
    capacity = summary_in(tmp_path)["capacity"]
    # Two streams of 20 ms are 100 frames/s at most; how much of it is left is the machine's affair.
    assert 1 <= capacity["cameras"] <= 10, done.stdout + done.stderr  # type: ignore[index]
    assert capacity["cameras_per_core"] == capacity["cameras"] / 2  # type: ignore[index]
    trials = capacity["trials"]  # type: ignore[index]
    assert trials[-1]["passed"] and trials[-1]["seconds"] == 5
    assert trials[-1]["cameras"] == capacity["cameras"]
    assert any(not trial["passed"] and trial["cameras"] > capacity["cameras"] for trial in trials)


def test_says_what_to_do_when_nobody_is_there(tmp_path: Path) -> None:
    done = load(tmp_path, "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "expected a Framegrid at http://127.0.0.1:9" in done.stderr
    assert "without TARGET" in done.stderr
    assert "Traceback" not in done.stderr
    assert load(tmp_path, "127.0.0.1").returncode == 2
