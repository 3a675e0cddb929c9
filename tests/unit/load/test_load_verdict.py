"""Shapes, thresholds, capacity and the report."""

from __future__ import annotations

import html.parser
import json
import math
from collections import Counter

import pytest
from framegrid_load.capacity import Goal, Trial, search
from framegrid_load.report import html_report
from framegrid_load.shapes import SHAPES, Shape, burst, steady, step
from framegrid_load.tally import Outcome, Tally, Timeline
from framegrid_load.verdict import Run, Thresholds, problems, spans_of, summary_of

THRESHOLDS = Thresholds()


def run_of(shape: Shape, p95s_ms: list[float], outcome: Outcome = Outcome.STALE, lag_ms: int = 1) -> Run:
    """One p95 for each second of the shape; infinity: all its frames end with `outcome`."""
    timeline = Timeline()
    for second, ms in enumerate(p95s_ms):
        for _ in range(40):
            lost = math.isinf(ms)
            timeline.at(second).count(outcome if lost else Outcome.OK, 0.0 if lost else ms / 1e3)
            timeline.at(second).lag_ms[lag_ms] += 1
    marks, begin_s = [], 0.0
    for phase in shape.phases:
        marks.append((phase.name, phase.cameras, begin_s))
        begin_s += phase.seconds
    return Run(shape, spans_of(marks, begin_s), timeline, Timeline(), Counter({"HTTP 500": 3}))


def test_a_step_is_by_four_and_a_burst_goes_beyond() -> None:
    for cameras in (1, 4, 6, 7, 40):
        before, after = step(cameras, 10).phases
        assert after.cameras == 4 * before.cameras
    assert max(phase.cameras for phase in burst(40, 10).phases) == 80
    assert {shape(40, 10).name for shape in SHAPES.values()} == set(SHAPES)


def test_a_shape_says_what_is_on_at_a_time() -> None:
    shape = step(8, 10)
    names = [(phase := shape.at(at_s)) and phase.name for at_s in (0, 9.9, 10, 49.9, 50)]
    assert names == ["before", "before", "after x4", "after x4", None]


def test_steady_passes_and_fails_by_p95_and_by_losses() -> None:
    shape = steady(8, 10)
    assert problems(run_of(shape, [100] * 30), THRESHOLDS) == []
    assert "p95" in problems(run_of(shape, [600] * 30), THRESHOLDS)[0]
    (lost,) = problems(run_of(shape, [100] * 29 + [math.inf]), THRESHOLDS)
    assert "lost" in lost
    assert problems(run_of(shape, [100] * 29 + [math.inf]), Thresholds(lost_share=0.1)) == []


def test_the_first_second_counts() -> None:
    shape = steady(8, 10)
    assert problems(run_of(shape, [math.inf] + [100] * 29), THRESHOLDS)


def test_a_step_has_time_to_recover() -> None:
    shape = step(8, 10)
    assert problems(run_of(shape, [10] * 10 + [900] * 19 + [10] * 21), THRESHOLDS) == []
    (late,) = problems(run_of(shape, [10] * 10 + [900] * 22 + [10] * 18), THRESHOLDS)
    assert "took 22 s" in late
    (never,) = problems(run_of(shape, [10] * 10 + [900] * 40), THRESHOLDS)
    assert "it was not after 40 s" in never


def test_overload_may_shed_in_a_burst_but_nothing_may_break() -> None:
    shape = burst(8, 10)
    levels = [10] * 10 + [math.inf] * 5 + [10] * 15 + [math.inf] * 5 + [10] * 15
    assert problems(run_of(shape, levels, Outcome.REFUSED), THRESHOLDS) == []
    (broken,) = problems(run_of(shape, levels, Outcome.BROKEN), THRESHOLDS)
    assert "3 x HTTP 500" in broken


def test_a_late_generator_is_told_from_a_slow_server() -> None:
    (late,) = problems(run_of(steady(8, 10), [100] * 30, lag_ms=200), THRESHOLDS)
    assert "load generator had no core" in late


def test_a_run_without_frames_does_not_pass() -> None:
    assert "expected frames, got none" in problems(run_of(steady(8, 10), []), THRESHOLDS)[0]


def carrying(most: int, *, for_long: int = 0) -> tuple[list[int], object]:
    asked: list[int] = []

    def attempt(cameras: int, is_long: bool) -> Trial:
        asked.append(cameras)
        passed = cameras <= (for_long or most if is_long else most)
        return Trial(cameras, 8.0, 100, 0.0, 1.0, 2.0, passed)

    return asked, attempt


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 7, 23, 100, 1000])
def test_the_search_finds_the_most_that_are_carried(most: int) -> None:
    asked, attempt = carrying(most)
    found, trials = search(attempt)  # type: ignore[arg-type]
    assert found <= most <= found + max(1, found * 0.06)
    assert len(trials) == len(asked) <= 20


def test_a_long_trial_lowers_what_short_ones_found() -> None:
    _, attempt = carrying(100, for_long=80)
    found, trials = search(attempt)  # type: ignore[arg-type]
    assert 75 <= found <= 80
    assert trials[-1].passed and trials[-1].cameras == found


def test_a_trial_passes_under_the_goal_alone() -> None:
    tally = Tally()
    for _ in range(100):
        tally.count(Outcome.OK, 0.1)
    assert Goal().trial_of(1, 1.0, tally).passed
    assert not Goal(p95_ms=100).trial_of(1, 1.0, tally).passed
    for _ in range(2):
        tally.count(Outcome.UNSENT)
    assert not Goal().trial_of(1, 1.0, tally).passed
    assert not Goal().trial_of(1, 1.0, Tally()).passed


def test_the_report_shows_verdict_capacity_and_each_shape_and_loads_nothing() -> None:
    shapes = [
        summary_of(run_of(shape, levels), THRESHOLDS)
        for shape, levels in (
            (steady(8, 10), [100.0] * 30),
            (step(8, 10), [10.0] * 10 + [math.inf] * 40),
        )
    ]
    trials = [Goal().trial_of(4, 8.0, Tally()).to_json()]
    summary = {
        "about": {"date": "2026-01-01", "target": "http://127.0.0.1:1/<b>", "model": {"name": "m"}},
        "capacity": {"line": "17 cameras", "trials": trials},
        "thresholds": {"p95_ms": 500.0},
        "shapes": shapes,
        "problems": [problem for shape in shapes for problem in shape["problems"]],
    }
    page = html_report(json.loads(json.dumps(summary)))
    html.parser.HTMLParser().feed(page)
    for wanted in ("Failed", "17 cameras", "Shape: steady", "Shape: step", "after x4", "&lt;b&gt;"):
        assert wanted in page
    assert "<script" not in page and "src=" not in page and "@import" not in page
    assert page.count("<svg") == 2
