"""`framegrid serve status` in plain words."""

from __future__ import annotations

import io
import json
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from framegrid_local import serve_status
from framegrid_local.errors import LocalError, UsageError
from framegrid_serve.scaling_report import Change, ScalingReport

REPORT: dict[str, Any] = {
    "application": "framegrid",
    "deployment": "detector",
    "at_s": 1000.0,
    "running": 2,
    "target": 4,
    "desired": 4,
    "needed": 6,
    "min_replicas": 1,
    "max_replicas": 4,
    "limit": "max_replicas",
    "reason": "the load needs more than the most replicas allowed",
    "silent_replicas": 0,
    "offered_fps": 200.0,
    "dropped_fps": 100.0,
    "service_s": 0.02,
    "replica_fps": 50.0,
    "utilisation": 2.0,
    "target_utilisation": 0.7,
    "queued_frames": 12.0,
    "upscale_delay_s": 3.0,
    "downscale_delay_s": 300.0,
    "changes": [{"at_s": 990.0, "before": 2, "after": 4, "reason": "the load needs more"}],
}


def test_the_report_here_is_one_that_the_policy_makes() -> None:
    changes = tuple(Change(**change) for change in REPORT["changes"])
    assert ScalingReport(**{**REPORT, "changes": changes}).limit in serve_status._LIMITS


def test_says_what_is_offered_needed_ordered_and_what_limits_it() -> None:
    assert serve_status.lines(REPORT, 1001.0) == [
        "detector (framegrid)",
        "  replicas      2 run, 4 ordered; 1 to 4 allowed",
        "  offered       200.0 frames/s; 100.0 of them are dropped",
        "  service time  20.0 ms a frame; 50.0 frames/s fill a replica",
        "  utilisation   200%; the target is 70%",
        "  needed        6; the load needs more than the most replicas allowed",
        "  limit         max_replicas keeps it from more",
        "  next change   2 more are starting",
        "  changed       2 -> 4, 10 s before: the load needs more",
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"offered_fps": None}, "  offered       not known yet"),
        ({"max_replicas": 1}, "a fixed number, 1"),
        ({"silent_replicas": 1}, "1 of them have not said lately what they do"),
        ({"desired": 2}, "  next change   to 2, when wanted for 300 s (downscale_delay_s)"),
        ({"desired": 5}, "  next change   to 5, when wanted for 3 s (upscale_delay_s)"),
        ({"at_s": 400.0}, "These figures are 10 min old: Serve's controller is away."),
    ],
    ids=["unknown", "fixed", "silent", "down", "up", "old"],
)
def test_each_state_has_its_words(change: dict[str, Any], expected: str) -> None:
    assert expected in "\n".join(serve_status.lines({**REPORT, **change}, 1001.0))


def test_prints_what_serve_tells(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(json.dumps({"deployments": [REPORT]}).encode())

    monkeypatch.setattr("urllib.request.urlopen", answer)
    assert serve_status.run_status("http://127.0.0.1:8000/", Path("none"), as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == [REPORT]
    assert serve_status.run_status("http://127.0.0.1:8000", Path("none"), as_json=False) == 0
    assert "limit         max_replicas keeps it from more" in capsys.readouterr().out
    assert asked == ["http://127.0.0.1:8000/v1/autoscaling"] * 2


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (urllib.error.URLError("[Errno 111] Connection refused"), "Connection refused; is it there"),
        (urllib.error.HTTPError("u", 404, "x", None, None), "got an older Framegrid"),  # type: ignore[arg-type]
        (urllib.error.HTTPError("u", 503, "x", None, None), "expected status 200, got 503"),  # type: ignore[arg-type]
        (TimeoutError("timed out"), "timed out"),
    ],
    ids=["refused", "old", "unwell", "silent"],
)
def test_each_failure_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, expected: str
) -> None:
    def fail(url: str, timeout: float) -> None:
        raise failure

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(LocalError, match=expected):
        serve_status.fetch("http://127.0.0.1:8000")


def test_without_a_serve_it_says_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"expected a running serve in .*, got none; start `framegrid up`"):
        serve_status.run_status("", tmp_path, as_json=False)
    with pytest.raises(UsageError, match="expected http://HOST:PORT, got 'localhost:8000'"):
        serve_status.fetch("localhost:8000")
