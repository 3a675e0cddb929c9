"""When the writer tries again, and how it gets rid of a call that hangs."""

import threading
import time

import pytest
from framegrid_store import stall
from framegrid_store.outage import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, Outage
from framegrid_store.stall import StallGuard


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_attempts_become_rarer_up_to_a_bound_and_never_all_at_once() -> None:
    clock = ManualClock()
    outage = Outage(clock)
    assert (outage.is_on, outage.wait_s(), outage.lasted_s()) == (False, 0, 0)
    waits = []
    for _ in range(12):
        outage.failed()
        waits.append(outage.wait_s())
        clock.now_s += waits[-1]
    for place, wait_s in enumerate(waits):
        longest_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2**place)
        assert longest_s / 2 <= wait_s <= longest_s
    assert len(set(waits[8:])) > 1, "jitter"
    assert outage.lasted_s() == pytest.approx(sum(waits))
    outage.over()
    assert (outage.is_on, outage.wait_s(), outage.lasted_s(), outage.failures) == (False, 0, 0, 0)


def test_a_call_that_hangs_is_cut_and_a_quick_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "POLL_S", 0.01)
    cut = threading.Event()
    limit_s = 60.0
    guard = StallGuard(lambda: limit_s)
    guard.start()
    with guard.watch(cut.set):
        time.sleep(0.05)
    assert not cut.is_set()
    limit_s = 0.05
    time.sleep(0.1)
    assert not cut.is_set(), "nothing is watched"
    with guard.watch(cut.set):
        assert cut.wait(5)
    guard.stop()
