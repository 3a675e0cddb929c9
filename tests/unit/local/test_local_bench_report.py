"""The report of `make bench`: bounds that are missed, and what could not be measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from framegrid_local.bench import __main__ as bench
from framegrid_local.bench.process_tree import tree_bytes
from framegrid_local.bench.swap import growth
from framegrid_local.bench.unavailable import UnavailableError


def test_a_figure_beyond_its_bound_is_told_and_one_not_measured_is_not() -> None:
    told = bench.misses({"vs_litserve": 2.9, "fps_half_core_512mb": 26.0, "vs_roboflow_map_loss": 1.1})
    assert told == [
        "vs_litserve: expected at least 3.0, got 2.9",
        "vs_roboflow_map_loss: expected at most 1.0, got 1.1",
    ]


def run_bench(
    monkeypatch: pytest.MonkeyPatch, out: Path, measures: dict[str, Callable[[], dict[str, float]]]
) -> tuple[int, dict[str, Any]]:
    """`make bench` with nothing but these parts: its exit status and its report."""
    for name, measure in measures.items():
        monkeypatch.setitem(bench.MEASURES, name, measure)
    monkeypatch.setattr(sys, "argv", ["bench", "--only", *measures, "--out", str(out)])
    status = bench.main()
    return status, json.loads(out.read_text())


def test_what_a_machine_cannot_measure_is_in_the_report_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot() -> dict[str, float]:
        raise UnavailableError("expected root")

    measures = {"peers": lambda: {"vs_litserve": 5.0}, "small_device": cannot}
    status, report = run_bench(monkeypatch, tmp_path / "bench.json", measures)
    assert status == 0
    assert report["not_measured"] == {"small_device": "expected root"}
    assert report["vs_litserve"] == 5.0


def test_a_part_that_fails_is_told_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> dict[str, float]:
        raise ValueError("expected 40 s of video, got 34 s")

    measures = {"sampling": fails, "writer": lambda: {"writer_over_copy": 0.9}}
    status, report = run_bench(monkeypatch, tmp_path / "bench.json", measures)
    assert status == 1
    assert report["failed"] == {"sampling": "ValueError: expected 40 s of video, got 34 s"}
    assert report["writer_over_copy"] == 0.9
    assert "sampling failed: ValueError: expected 40 s of video, got 34 s" in caplog.text


def test_growth_compares_the_last_third_with_the_first_and_forgives_one_peak() -> None:
    assert growth([100, 100, 100, 180, 100, 100]) == 0
    assert growth([100, 110, 120, 130, 140, 150]) == pytest.approx(145 / 105 - 1)
    assert growth([100]) == 0


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells memory in /proc")
def test_memory_of_a_tree_holds_its_children() -> None:
    alone = tree_bytes(os.getpid())
    script = "data = bytearray(64 * 2**20); print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        together = tree_bytes(os.getpid())
        child.stdin.write(b"\n")
    assert together - alone > 60 * 2**20
