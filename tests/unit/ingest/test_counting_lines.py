"""When a path crosses a line, and when it only seems to."""

import itertools
import math
from dataclasses import dataclass

import pytest
from framegrid_ingest.counting import LineWatch
from hypothesis import given
from hypothesis import strategies as st

SIZE = 0.05


@dataclass(frozen=True)
class Line:
    name: str = "door"
    start: tuple[float, float] = (0.2, 0.5)
    end: tuple[float, float] = (0.8, 0.5)


def cross(path, line=None, settle=False):
    """Feed (x, y) points, a tenth of a second apart; returns [(direction, time_s)]."""
    watch = LineWatch(line or Line())
    found = [watch.advance((i * 0.1, x, y, SIZE)) for i, (x, y) in enumerate(path)]
    if settle:
        found.append(watch.settle())
    return [(c.direction, c.time_s) for c in found if c is not None]


def walk(y0, y1, x=0.5, steps=20):
    return [(x, y0 + (y1 - y0) * k / steps) for k in range(steps + 1)]


def test_walking_from_the_left_hand_to_the_right_hand_of_the_line_is_in():
    # Looking from start (left) to end (right) of a level line, the right hand is the lower part of the
    # screen.
    assert [d for d, _ in cross(walk(0.3, 0.7))] == ["in"]
    assert [d for d, _ in cross(walk(0.7, 0.3))] == ["out"]


def test_the_time_of_a_crossing_is_when_the_path_meets_the_line():
    [(_, time_s)] = cross([(0.5, 0.4), (0.5, 0.6), (0.5, 0.7)])
    assert time_s == pytest.approx(0.05)


def test_a_path_past_the_end_of_the_line_crosses_nothing():
    assert cross(walk(0.3, 0.7, x=0.85)) == []
    assert cross(walk(0.3, 0.7, x=0.15)) == []


def test_who_goes_round_the_end_and_back_through_the_line_is_counted_once():
    round_the_end = [*walk(0.3, 0.7, x=0.9), *walk(0.7, 0.7, x=0.5, steps=1), *walk(0.7, 0.3, x=0.5)]
    assert [d for d, _ in cross(round_the_end)] == ["out"]


def test_jitter_on_the_line_counts_nothing():
    wobble = 0.1 * SIZE
    standing = [(0.5, 0.5 + wobble * (-1) ** k) for k in range(200)]
    assert cross([*walk(0.3, 0.5), *standing]) == []


def test_jitter_on_the_line_on_the_way_over_counts_once():
    wobble = 0.1 * SIZE
    standing = [(0.5, 0.5 + wobble * (-1) ** k) for k in range(50)]
    assert [d for d, _ in cross([*walk(0.3, 0.5), *standing, *walk(0.5, 0.7)])] == ["in"]


def test_who_turns_back_on_the_line_is_not_counted():
    assert cross([*walk(0.3, 0.5 + 0.1 * SIZE), *walk(0.5, 0.3)]) == []


def test_a_crossing_within_a_gap_of_the_path_is_counted():
    assert [d for d, _ in cross([(0.45, 0.3), (0.55, 0.7)])] == ["in"]


def test_who_vanishes_just_over_the_line_has_crossed_it():
    over = walk(0.3, 0.5 + 0.05 * SIZE)
    assert cross(over) == []
    assert [d for d, _ in cross(over, settle=True)] == ["in"]
    assert cross(walk(0.3, 0.5 - 0.05 * SIZE), settle=True) == []


@given(st.integers(1, 6))
def test_walking_to_and_fro_counts_in_and_out_equally(times):
    path = []
    for _ in range(times):
        path += [*walk(0.3, 0.7), *walk(0.7, 0.3)]
    directions = [d for d, _ in cross(path)]
    assert directions == ["in", "out"] * times


coordinate = st.floats(0.0, 1.0, allow_nan=False, width=32)
paths = st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=30)


@given(paths)
def test_mirroring_the_picture_swaps_in_and_out(path):
    mirrored = Line(start=(1.0 - 0.2, 0.5), end=(1.0 - 0.8, 0.5))
    plain = cross(path)
    flipped = cross([(1.0 - x, y) for x, y in path], line=mirrored)
    other = {"in": "out", "out": "in"}
    if any(abs(y - 0.5) < 1e-6 or abs(abs(x - 0.5) - 0.3) < 1e-6 for x, y in path):
        return  # on the line or its end to the last digit: rounding decides
    assert len(plain) == len(flipped)
    for (d, t), (e, u) in zip(plain, flipped, strict=True):
        assert (d, pytest.approx(t, abs=1e-6)) == (other[e], u)


@given(paths, st.floats(0, 2e9))
def test_crossings_do_not_depend_on_when_they_happen(path, shift_s):
    watch, later = LineWatch(Line()), LineWatch(Line())
    for i, (x, y) in enumerate(path):
        a = watch.advance((i * 0.125, x, y, SIZE))
        b = later.advance((i * 0.125 + shift_s, x, y, SIZE))
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.direction == b.direction
            assert math.isclose(a.time_s + shift_s, b.time_s, abs_tol=1e-5)


@given(paths)
def test_directions_alternate_when_no_end_of_the_line_is_in_the_way(path):
    endless = Line(start=(-100.0, 0.5), end=(100.0, 0.5))
    directions = [d for d, _ in cross(path, line=endless)]
    assert all(a != b for a, b in itertools.pairwise(directions))
