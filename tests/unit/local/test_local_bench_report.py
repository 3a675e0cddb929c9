"""The report of `make bench`: bounds that are missed, and what could not be measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from framegrid_local.bench import __main__ as bench
from framegrid_local.bench.unavailable import UnavailableError


def test_a_figure_beyond_its_bound_is_told_and_one_not_measured_is_not() -> None:
    told = bench.misses({"vs_litserve": 2.9, "fps_half_core_512mb": 26.0, "vs_roboflow_map_loss": 1.1})
    assert told == [
        "vs_litserve: expected at least 3.0, got 2.9",
        "vs_roboflow_map_loss: expected at most 1.0, got 1.1",
    ]


def test_what_a_machine_cannot_measure_is_in_the_report_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot() -> dict[str, float]:
        raise UnavailableError("expected root")

    out = tmp_path / "bench.json"
    monkeypatch.setitem(bench.MEASURES, "small_device", cannot)
    monkeypatch.setitem(bench.MEASURES, "peers", lambda: {"vs_litserve": 5.0})
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "peers", "small_device", "--out", str(out)])
    assert bench.main() == 0
    report = json.loads(out.read_text())
    assert report["not_measured"] == {"small_device": "expected root"}
    assert report["vs_litserve"] == 5.0
