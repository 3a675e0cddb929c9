"""A hundred cameras that come at once are opened a few at a time; a camera records only what it may."""

import asyncio
import math

import pytest
from framegrid_ingest.openings import Openings
from framegrid_ingest.sampler import Sampler
from hypothesis import given
from hypothesis import strategies as st


def test_no_more_than_so_many_are_opened_at_once() -> None:
    async def run() -> tuple[int, int]:
        openings = Openings(places=4, hold_s=600.0)
        now, most, done = 0, 0, 0

        async def camera() -> None:
            nonlocal now, most, done
            free = await openings.enter()
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.1)  # longer than the jitter, so that they meet
            now -= 1
            done += 1
            free()
            free()  # told twice: lost and back

        await asyncio.gather(*(camera() for _ in range(30)))
        return most, done

    most, done = asyncio.run(run())
    assert 2 <= most <= 4
    assert done == 30


def test_a_camera_that_hangs_keeps_its_place_for_a_moment_only() -> None:
    async def run() -> None:
        openings = Openings(places=1, hold_s=0.05)
        await openings.enter()
        await asyncio.wait_for(openings.enter(), 1.0)

    asyncio.run(run())


def test_one_that_is_stopped_while_it_waits_takes_no_place() -> None:
    async def run() -> None:
        openings = Openings(places=1, hold_s=60.0)
        free = await openings.enter()
        waiting = asyncio.create_task(openings.enter())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        free()
        await asyncio.wait_for(openings.enter(), 1.0)

    asyncio.run(run())


@given(
    st.floats(0.2, 30.0),
    st.floats(0.0, 1.0),
    st.floats(1000.0, 1010.0),
    st.lists(st.floats(0.01, 0.7), max_size=60),
)
def test_no_tick_beyond_the_fence_is_claimed_or_missed(
    fps: float, phase: float, until_s: float, steps: list[float]
) -> None:
    sampler = Sampler(fps, 1000.0, phase, lambda: until_s)
    now_s = 1000.0
    for step in steps:
        now_s += step
        offer = sampler.offer(now_s, now_s)
        missed = [*offer.missed, *sampler.expire(now_s)]
        numbers = [*missed, *([offer.tick.number] if offer.tick else [])]
        assert all(sampler.time_of(number) <= until_s + 1e-6 for number in numbers)


def test_when_the_fence_moves_on_the_ticks_in_between_are_missed_not_forgotten() -> None:
    until = [1002.0]
    sampler = Sampler(10.0, 1000.0, 0.0, lambda: until[0])
    claimed = missed = 0
    for number in range(50):
        offer = sampler.offer(1000.0 + number / 10)
        claimed += offer.tick is not None
        missed += len(offer.missed) + len(sampler.expire(1000.0 + number / 10))
        if number == 39:
            until[0] = math.inf
    assert claimed == 21 + 10
    assert missed == 19


def test_without_any_promise_nothing_is_recorded() -> None:
    sampler = Sampler(10.0, 1000.0, 0.0, lambda: -math.inf)
    assert sampler.offer(1000.0).tick is None
    assert len(sampler.expire(1030.0)) == 0


@pytest.mark.parametrize("ahead_s", [0.0, 5.0, 100.0])
def test_a_start_in_the_future_is_waited_for(ahead_s: float) -> None:
    sampler = Sampler(10.0, 1000.0 + ahead_s)
    assert not sampler.has_jumped(1000.0)
    assert sampler.offer(1000.0 - 0.2).tick is None
    assert sampler.expire(1000.0) == range(sampler.next_tick.number, sampler.next_tick.number)
    tick = sampler.offer(1000.0 + ahead_s).tick
    assert tick is not None and tick.time_s == pytest.approx(1000.0 + ahead_s)
