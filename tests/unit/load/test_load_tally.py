"""Latencies of all frames, lost ones included; recovery."""

from __future__ import annotations

import json
import math

import pytest
from framegrid_load.tally import Outcome, Tally, Timeline, rounded_ms


def tally_of(ok_ms: list[float], **others: int) -> Tally:
    tally = Tally()
    for ms in ok_ms:
        tally.count(Outcome.OK, ms / 1e3)
    for name, count in others.items():
        for _ in range(count):
            tally.count(Outcome(name))
    return tally


def test_lost_frames_are_slower_than_every_answered_one() -> None:
    tally = tally_of([10.0] * 94, stale=6)
    assert tally.quantile_ms(0.94) == 10
    assert tally.quantile_ms(0.95) == math.inf
    assert tally.lost_share == pytest.approx(0.06)


def test_quantiles_are_exact() -> None:
    tally = tally_of([float(ms) for ms in range(1, 101)])
    assert [tally.quantile_ms(share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert Tally().quantile_ms(0.95) == 0


@pytest.mark.parametrize(("seconds", "ms"), [(0.0, 0), (0.0001, 1), (0.4991, 500), (1.001, 1010), (-0.1, 0)])
def test_milliseconds_are_rounded_up(seconds: float, ms: int) -> None:
    assert rounded_ms(seconds) == ms


def test_survives_json() -> None:
    tally = tally_of([5.0, 7.0, 2000.0], refused=2, broken=1)
    tally.lag_ms[3] += 6
    again = Tally.from_json(json.loads(json.dumps(tally.to_json())))
    assert again == tally
    assert again.frames == 6


def timeline_of(p95s_ms: list[float]) -> Timeline:
    """A second for each; infinity: half of its frames are lost."""
    timeline = Timeline()
    for second, ms in enumerate(p95s_ms):
        lost = math.isinf(ms)
        timeline.add({second: tally_of([50.0 if lost else ms] * 20, stale=20 if lost else 0)})
    return timeline


@pytest.mark.parametrize(
    ("p95s_ms", "expected"),
    [
        ([10, 10, 10, 10, 10, 10], 0.0),
        ([10, 10, 900, 900, 10, 10], 2.0),
        ([10, 10, math.inf, 10, 10, 10], 1.0),
        ([10, 10, 900, 10, 900, 10], 3.0),  # back for good counts, not back for once
        ([10, 10, 900, 900, 900, 900], None),
        ([900, 900, 10, 10, 10, 10], 0.0),  # before the change
    ],
)
def test_recovery_is_the_time_until_p95_stays_under_the_target(
    p95s_ms: list[float], expected: float | None
) -> None:
    assert timeline_of(p95s_ms).recovery_s(2, 6, 500.0) == expected


def test_totals_of_a_span() -> None:
    timeline = timeline_of([10, 20, 30, 40])
    assert timeline.total(1, 3).frames == 40
    assert timeline.total().quantile_ms(1.0) == 40
