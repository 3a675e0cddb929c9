"""Every tick is claimed by one frame or missed, whatever the camera does."""

import itertools
import random

import pytest
from framegrid_ingest.sampler import Sampler, phase_of
from hypothesis import given
from hypothesis import strategies as st

START_S = 1_800_000_000.0


def claimed(sampler: Sampler, times_s: list[float]) -> list[float]:
    return [t for t in times_s if sampler.offer(t).tick is not None]


def test_ten_of_twenty_five_frames_are_taken() -> None:
    sampler = Sampler(10.0, START_S)
    taken = claimed(sampler, [START_S + n / 25 for n in range(250)])
    assert len(taken) == 100


@pytest.mark.parametrize("jitter_s", [0.0, 0.01, 0.03])
def test_a_camera_as_fast_as_the_sampling_loses_nothing_to_jitter(jitter_s: float) -> None:
    rng = random.Random(1)
    sampler = Sampler(10.0, START_S, phase=0.37)
    times_s = [START_S + 0.05 + n / 10 + rng.uniform(-jitter_s, jitter_s) for n in range(600)]
    assert len(claimed(sampler, times_s)) >= 599


def test_a_camera_that_drifts_against_the_sampling_loses_one_frame_a_period() -> None:
    rng = random.Random(2)
    sampler = Sampler(10.0, START_S)
    times_s = [START_S + n / 9.99 + rng.uniform(-0.02, 0.02) for n in range(3000)]
    assert len(claimed(sampler, times_s)) == 3000  # slower than the ticks: every frame has one
    faster_s = [START_S + n / 10.01 + rng.uniform(-0.02, 0.02) for n in range(3000)]
    assert len(claimed(Sampler(10.0, START_S), faster_s)) >= 2990


@pytest.mark.parametrize("fps", [0.01, 0.2, 1.0])
def test_slow_sampling_takes_one_frame_a_tick(fps: float) -> None:
    sampler = Sampler(fps, START_S)
    seconds = 10 / fps
    taken = claimed(sampler, [START_S + n / 5 for n in range(int(seconds * 5))])
    assert len(taken) == pytest.approx(10, abs=1)


def test_ticks_of_a_silent_camera_expire_when_no_frame_can_reach_them() -> None:
    sampler = Sampler(10.0, START_S)
    assert len(sampler.expire(START_S + 0.05)) == 0
    assert len(sampler.expire(START_S + 1.25)) == 11
    assert sampler.offer(START_S + 1.26).tick is not None


def test_a_camera_whose_pictures_come_late_is_waited_for() -> None:
    sampler = Sampler(10.0, START_S)
    for n in range(20):
        sampler.offer(START_S + n / 10, arrived_at_s=START_S + n / 10 + 0.8)
    assert len(sampler.expire(START_S + 2.0 + 0.7)) == 0


def test_a_clock_that_is_set_is_noticed_and_ticks_in_between_are_not_expected() -> None:
    sampler = Sampler(10.0, START_S)
    sampler.offer(START_S)
    assert not sampler.has_jumped(START_S + 5.0)
    assert sampler.has_jumped(START_S + 4000.0)
    assert len(sampler.restart(START_S + 4000.0)) > 39_000
    assert sampler.offer(START_S + 4000.01).tick is not None
    assert sampler.has_jumped(START_S)
    assert len(sampler.restart(START_S)) == 0
    assert sampler.offer(START_S + 0.01).tick is not None


@given(
    st.floats(0.05, 60.0),
    st.lists(st.tuples(st.sampled_from(["frame", "expire"]), st.floats(-0.5, 3.0)), max_size=60),
    st.floats(0.0, 0.999),
)
def test_each_tick_is_claimed_or_missed_exactly_once(
    fps: float, steps: list[tuple[str, float]], phase: float
) -> None:
    sampler = Sampler(fps, START_S, phase)
    first = sampler.next_tick.number
    seen: list[int] = []
    now_s = START_S
    for what, step_s in steps:
        now_s += step_s
        if what == "frame":
            offer = sampler.offer(now_s)
            seen += offer.missed
            if offer.tick is not None:
                seen.append(offer.tick.number)
                assert abs(offer.tick.time_s - now_s) <= 1.0 / fps + 1e-3
        else:
            seen += sampler.expire(now_s)
    assert seen == list(range(first, sampler.next_tick.number))


def test_cameras_are_spread_over_the_sampling_interval() -> None:
    phases = sorted(phase_of(f"camera-{n}") for n in range(100))
    assert max(b - a for a, b in itertools.pairwise(phases)) < 0.1
