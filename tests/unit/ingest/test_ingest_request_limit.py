"""Requests under way follow how long frames wait in serve."""

from __future__ import annotations

import heapq

import pytest
from framegrid_ingest.request_limit import RequestLimit


def test_begins_with_few_and_grows_while_all_are_in_use_and_nothing_waits() -> None:
    limit = RequestLimit(64)
    assert limit.value == 4
    for _ in range(10):
        limit.answered(0.001, 0.02, in_flight=1)
    assert limit.value == 4, "none of more use than there are"
    for _ in range(200):
        limit.answered(0.001, 0.02, in_flight=limit.value)
    assert limit.value == 64


def test_is_cut_once_a_round_and_never_below_two() -> None:
    limit = RequestLimit(64)
    for _ in range(200):
        limit.answered(0.001, 0.02, in_flight=64)
    limit.answered(0.9, 0.02, in_flight=64)
    assert limit.value == 51
    limit.answered(0.9, 0.02, in_flight=64)
    assert limit.value == 51
    for _ in range(1000):
        limit.failed()
    assert limit.value == 2


def test_a_slow_model_s_own_time_is_no_wait() -> None:
    limit = RequestLimit(64)
    for _ in range(20):
        limit.answered(0.2, 0.25, in_flight=limit.value)
    assert limit.value > 4


@pytest.mark.parametrize("most", [1, 2, 3])
def test_stays_within_what_is_allowed(most: int) -> None:
    limit = RequestLimit(most)
    for _ in range(20):
        limit.answered(0.0, 0.02, in_flight=99)
        assert limit.value <= most
    for _ in range(20):
        limit.failed()
    assert 1 <= limit.value <= most


@pytest.mark.parametrize(
    ("replicas", "service_s"), [(1, 0.02), (4, 0.02), (16, 0.02), (12, 0.16), (2, 0.005)]
)
def test_keeps_all_replicas_busy_and_their_queues_short(replicas: int, service_s: float) -> None:
    """More cameras than can be served, and a balancer that picks the least busy replica."""
    limit = RequestLimit(64)
    free_at_s = [0.0] * replicas
    under_way: list[tuple[float, float]] = []  # answer, wait
    now_s = busy_s = waited_s = 0.0
    answers = 0
    while now_s < 60:
        while len(under_way) < limit.value:
            replica = min(range(replicas), key=free_at_s.__getitem__)
            begins_s = max(now_s, free_at_s[replica])
            free_at_s[replica] = begins_s + service_s
            heapq.heappush(under_way, (begins_s + service_s, begins_s - now_s))
        now_s, wait_s = heapq.heappop(under_way)
        limit.answered(wait_s, service_s, in_flight=len(under_way) + 1)
        if now_s > 10:
            busy_s, waited_s, answers = busy_s + service_s, waited_s + wait_s, answers + 1
    assert busy_s / (50 * replicas) > 0.97
    assert waited_s / answers < 0.1 + 2 * service_s
