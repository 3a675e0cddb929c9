"""How many replicas: the formula, its limits, and what it does when figures are missing or wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from framegrid_serve.sizing import (
    Fleet,
    Limit,
    QuietPeak,
    ReplicaStats,
    SizingSettings,
    decide,
    demand_of,
    replicas_for,
)
from hypothesis import given
from hypothesis import strategies as st

SETTINGS = SizingSettings()
IDLE = ReplicaStats(0, 0, 0, 0, 0, service_s=0.02, streams=1, queued_frames=0)


def replica(busy: float, lost_fps: float = 0.0, service_s: float = 0.02, streams: float = 1) -> ReplicaStats:
    """A replica that is so busy, while its senders lose so many frames per second."""
    answered_fps = busy * streams / service_s
    offered_fps = answered_fps + lost_fps
    offered = offered_fps * service_s / streams
    return ReplicaStats(busy, offered, offered_fps, lost_fps, 0, service_s, streams, 0)


def sized(reports: list[ReplicaStats], *, target: int = 0, peak: float = 0.0, **fleet: int):
    running = fleet.pop("running", len(reports))
    bounds = {"min_replicas": 1, "max_replicas": 100_000, **fleet}
    return decide(
        Fleet(running=running, target=target or running, reports=reports, **bounds),
        demand_of(reports),
        peak,
        SETTINGS,
    )


def test_frames_that_never_arrived_are_answered_in_one_step() -> None:
    # 50 frames/s fill the one replica; 150 more are lost: four times its capacity, at 70 %: 6.
    decision = sized([replica(1.0, lost_fps=150)])
    assert (decision.desired, decision.limit) == (6, Limit.NONE)
    # ... which keeps: the six see the same 200 frames/s.
    assert sized([replica(4 / 6)] * 6).desired == 6


def test_lost_frames_count_wherever_they_were_told() -> None:
    told_to_one = [replica(1.0, lost_fps=100), replica(1.0), replica(1.0)]
    told_to_all = [replica(1.0, lost_fps=100 / 3)] * 3
    assert sized(told_to_one).desired == sized(told_to_all).desired == math.ceil((3 + 2) / 0.7)


def test_a_model_that_takes_four_times_as_long_needs_four_times_the_replicas() -> None:
    assert sized([replica(0.5)] * 4, target=4).desired == 4
    slow = [replica(1.0, lost_fps=100 / 4 - 1 / 0.08, service_s=0.08)] * 4  # still 100 frames/s
    assert sized(slow).desired == math.ceil(100 * 0.08 / 0.7)


def test_more_streams_are_more_capacity() -> None:
    one = [replica(1.0, lost_fps=300)]
    four = [replica(1.0, lost_fps=150, streams=4)]  # the same 350 frames/s
    assert sized(one).demand.replicas == pytest.approx(7)
    assert sized(four).demand.replicas == pytest.approx(350 / 200)


def test_frames_of_a_model_new_to_a_replica_cost_what_they_cost_elsewhere() -> None:
    starting = replace(IDLE, service_s=0, offered_fps=35, unmeasured_fps=35)
    assert demand_of([starting, replica(0.7)]).replicas == pytest.approx(0.7 + 35 * 0.02)
    assert demand_of([starting]) is None
    assert sized([starting], target=3).desired == 3


@pytest.mark.parametrize("target", [0, 1, 7])
def test_without_figures_nothing_changes(target: int) -> None:
    assert sized([], target=target, running=target).desired == target


def test_nothing_changes_within_the_tolerance() -> None:
    for busy in (0.64, 0.7, 0.76):
        assert sized([replica(busy)] * 10, peak=busy * 10).desired == 10
    assert sized([replica(0.79)] * 10).desired == 12


def test_going_down_follows_the_peak_and_goes_at_most_half_way() -> None:
    assert sized([replica(0.1)] * 10, peak=6.0).desired == 10
    decision = sized([replica(0.1)] * 10, peak=4.0)
    assert (decision.desired, decision.limit) == (7, Limit.NONE)
    decision = sized([replica(0.01)] * 10, peak=0.1)
    assert (decision.desired, decision.limit, decision.needed) == (5, Limit.MAX_STEP_DOWN, 1)


def test_a_silent_replica_may_carry_load_so_none_goes() -> None:
    decision = sized([replica(0.1)] * 9, running=10, target=10)
    assert decision.desired == 10
    assert "1 of the replicas said nothing" in decision.reason
    assert sized([replica(1.0, 500)] * 9, running=10, target=10).desired > 10, "up it still goes"


def test_none_goes_while_others_are_starting() -> None:
    assert sized([replica(0.1)] * 4, running=4, target=8).desired == 8


def test_a_wrong_figure_orders_no_whole_cluster() -> None:
    decision = sized([replica(1.0, lost_fps=1e9)])
    assert (decision.desired, decision.limit) == (8, Limit.MAX_STEP_UP)
    # Replicas that are ordered and not there yet do not make the next step larger.
    decision = sized([replica(1.0, lost_fps=1e9)], target=8)
    assert decision.desired == 8


def test_says_which_limit_was_reached() -> None:
    decision = sized([replica(1.0, lost_fps=150)], max_replicas=4)
    assert (decision.desired, decision.needed, decision.limit) == (4, 6, Limit.MAX_REPLICAS)
    decision = sized([replica(1.0, lost_fps=75)] * 4, max_replicas=4)
    assert (decision.desired, decision.limit) == (4, Limit.MAX_REPLICAS)
    decision = sized([replica(0.1)] * 2, min_replicas=2)
    assert (decision.desired, decision.needed, decision.limit) == (2, 1, Limit.MIN_REPLICAS)
    decision = sized([IDLE])
    assert (decision.desired, decision.needed, decision.limit) == (1, 0, Limit.MIN_REPLICAS)


@pytest.mark.parametrize(
    "change",
    [{"framegrid_busy": math.nan}, {"framegrid_offered": -0.1}, {"framegrid_service_s": math.inf}],
    ids=["nan", "negative", "infinite"],
)
def test_a_report_that_cannot_be_is_no_report(change: dict[str, float]) -> None:
    assert ReplicaStats.from_metrics(IDLE.to_metrics()) == IDLE
    assert ReplicaStats.from_metrics({**IDLE.to_metrics(), **change}) is None
    assert ReplicaStats.from_metrics({}) is None


@pytest.mark.parametrize("utilisation", [0, 1.1, math.nan, "0.7", True])
def test_senseless_settings_are_refused(utilisation: object) -> None:
    with pytest.raises(ValueError, match=r"target_utilisation: expected 0.05 to 1.0, got"):
        SizingSettings(target_utilisation=utilisation)  # type: ignore[arg-type]


SHARES = st.floats(0, 1)
REPORTS = st.lists(
    st.builds(replica, SHARES, st.floats(0, 1e4), st.floats(1e-4, 2), st.sampled_from([1.0, 2.0, 8.0])),
    max_size=40,
)


@given(REPORTS, st.integers(0, 60), st.integers(1, 50), st.integers(0, 50), st.floats(0, 100))
def test_always_within_the_bounds_and_never_wild(
    reports: list[ReplicaStats], target: int, low: int, more: int, peak: float
) -> None:
    running = max(len(reports), 1)
    target = max(low, min(low + more, target))
    decision = sized(
        reports, running=running, target=target, min_replicas=low, max_replicas=low + more, peak=peak
    )
    assert low <= decision.desired <= low + more
    assert decision.desired <= max(target, 8 * running, low)
    assert decision.desired >= min(target, math.ceil(target / 2))
    assert decision.reason


@given(st.floats(0, 2000), st.integers(1, 1000))
def test_a_fleet_that_was_sized_stays_as_it_is(demand: float, start: int) -> None:
    """One change and no second: the number that is asked for is one that is kept."""
    first = sized([replica(1.0, lost_fps=max(0.0, demand / start - 1) * 50)] * start, peak=max(demand, start))
    share = first.demand.replicas / first.desired
    again = sized([replica(min(1.0, share))] * first.desired, peak=first.demand.replicas)
    if first.limit is Limit.NONE and share <= 1:
        assert again.desired == first.desired


@given(REPORTS.filter(bool), st.floats(1, 3))
def test_more_load_never_asks_for_fewer(reports: list[ReplicaStats], factor: float) -> None:
    more = [replace(r, busy=r.busy * factor, offered=r.offered * factor) for r in reports]
    assert sized(more).desired >= sized(reports).desired


def test_the_figures_of_a_thousand_replicas_add_up() -> None:
    assert sized([replica(0.7)] * 1000, peak=700.0).desired == 1000
    assert sized([replica(1.0, lost_fps=50)] * 1000).desired == replicas_for(2000.0, 0.7)


def test_the_peak_is_that_of_the_quiet_time_alone() -> None:
    peak = QuietPeak()
    told = [
        peak.add(at_s, demand, target, SETTINGS)
        for at_s, demand, target in [
            (0, 7.0, 10),
            (1, 5.0, 10),  # the busy time before is still in the means
            (2, 4.0, 10),
            (8, 3.0, 10),
            (9, 4.0, 10),
            (10, 2.0, 10),
            (11, 6.5, 10),  # busy again
            (20, 1.0, 10),
            (21, 0.5, 5),
        ]
    ]
    assert told == [7.0, 5.0, 4.0, 3.0, 4.0, 4.0, 6.5, 1.0, 0.5]
