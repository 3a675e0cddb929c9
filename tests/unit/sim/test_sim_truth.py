"""Truth of clips: crossings, unique objects, windows over any number of seams."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from framegrid_sim.scene import Scene
from framegrid_sim.settings import SceneSettings
from framegrid_sim.truth import ClipTruth, CrossingTruth, find_crossings, side_of
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

LINE = ("line", (0.5, 0.9), (0.5, 0.1))  # upwards: its right hand is the picture's right


@pytest.fixture(scope="module")
def truth() -> ClipTruth:
    return Scene(
        SceneSettings(
            seed=31,
            width=320,
            height=180,
            duration_s=30,
            persons_per_minute=40,
            vehicles_per_minute=30,
            pauses=0.3,
        )
    ).clip_truth()


def test_from_the_left_hand_to_the_right_hand_is_in() -> None:
    assert side_of(LINE, (0.4, 0.5)) < 0 < side_of(LINE, (0.6, 0.5))
    assert find_crossings(LINE, [(0, (0.4, 0.5)), (1, (0.6, 0.5))], 5) == [(0.5, "in")]
    assert find_crossings(LINE, [(0, (0.6, 0.5)), (1, (0.4, 0.5))], 5) == [(0.5, "out")]


def test_passing_beyond_the_end_of_a_line_is_no_crossing() -> None:
    assert find_crossings(LINE, [(0, (0.4, 0.95)), (1, (0.6, 0.95))], 5) == []


def test_swaying_on_the_line_cancels_out_but_turning_back_later_counts() -> None:
    there, back = (0.4, 0.5), (0.6, 0.5)
    assert find_crossings(LINE, [(0, there), (1, back), (2, there), (3, back)], 5) == [(2.5, "in")]
    assert find_crossings(LINE, [(0, there), (1, back), (20, back), (21, there)], 5) == [
        (0.5, "in"),
        (20.5, "out"),
    ]


def test_everybody_who_walks_through_crosses_the_pavement_line_once(truth: ClipTruth) -> None:
    crossed = [c.object_id % truth.ids_per_pass for c in truth.crossings if c.line == "pavement"]
    assert sorted(crossed) == list(range(truth.ids_per_pass))


def test_only_vehicles_cross_the_road_line(truth: ClipTruth) -> None:
    assert {c.group for c in truth.crossings if c.line == "road"} == {"vehicle"}


def test_an_object_is_on_the_two_sides_of_a_line_before_and_after_it_crosses(truth: ClipTruth) -> None:
    lines = {line[0]: line for line in truth.lines}
    checked = 0
    for c in truth.crossings:
        sides = []
        for i in (int(c.frame_index) - 3, int(c.frame_index) + 4):
            mine = [o for o in truth.frame(i).objects if o.object_id == c.object_id and o.visible_share > 0.6]
            sides += [side_of(lines[c.line], o.anchor) for o in mine]
        if len(sides) == 2:
            checked += 1
            assert (sides[0] < 0 < sides[1]) == (c.direction == "in"), c
    assert checked > len(truth.crossings) / 3


def test_default_lines_and_zones_are_inside_the_picture() -> None:
    for seed in range(12):
        scene = Scene(SceneSettings(seed=seed, width=160, height=90, duration_s=5))
        points = [p for _, start, end in scene.lines for p in (start, end)]
        assert all(0 <= v <= 1 for p in points for v in p), (seed, points)
        assert [name for name, _, _ in scene.lines] == ["pavement", "road"]


@given(cuts=st.lists(st.integers(-700, 1500), min_size=2, max_size=6, unique=True))
@hypothesis_settings(max_examples=60, deadline=None)
def test_windows_add_up_across_any_number_of_seams(truth: ClipTruth, cuts: list[int]) -> None:
    cuts.sort()
    whole = truth.crossings_between(cuts[0], cuts[-1])
    parts: list[CrossingTruth] = []
    uniques = 0
    for start, end in pairwise(cuts):
        parts += truth.crossings_between(start, end)
        uniques += sum(truth.new_uniques_between(start, end).values())
    assert parts == whole
    assert uniques == sum(truth.new_uniques_between(cuts[0], cuts[-1]).values())


def test_each_pass_has_its_own_ids_and_the_same_number_of_events(truth: ClipTruth) -> None:
    n = truth.frame_count
    passes = [truth.crossings_between(p * n, (p + 1) * n) for p in range(4)]
    assert len({len(p) for p in passes}) == 1
    ids = [{(c.object_id, c.line) for c in p} for p in passes]
    assert not ids[0] & ids[1] and not ids[1] & ids[2]


def test_whoever_is_in_the_picture_at_the_seam_is_one_object(truth: ClipTruth) -> None:
    n = truth.frame_count
    last, first = truth.frame(n - 1), truth.frame(n)
    assert {o.object_id for o in last.objects} & {o.object_id for o in first.objects}
    two, one = truth.uniques_between(0, 2 * n), truth.uniques_between(0, n)
    assert all(two[g] < 2 * one[g] for g in one)
    assert sum(two.values()) == sum(one.values()) + sum(truth.new_uniques_between(n, 2 * n).values())


def test_uniques_are_those_that_the_frames_show_long_enough(truth: ClipTruth) -> None:
    times: dict[int, int] = {}
    for i in range(2 * truth.frame_count):
        for o in truth.frame(i).objects:
            if o.countable:
                times[o.object_id] = times.get(o.object_id, 0) + 1
    shown = sum(1 for frames in times.values() if frames >= 5)
    said = sum(truth.uniques_between(0, 2 * truth.frame_count).values())
    # Who is at the window's two ends may show less than half a second of himself there.
    assert abs(shown - said) <= 6


def test_persons_per_second_has_one_value_for_each_second(truth: ClipTruth) -> None:
    assert len(truth.present_per_second("person")) == 30
    mean = sum(truth.present_per_second("person")) / 30
    assert mean == pytest.approx(sum(f.present("person") for f in truth.frames) / truth.frame_count)


def test_truth_survives_json(truth: ClipTruth) -> None:
    again = ClipTruth.from_json(json.loads(json.dumps(truth.to_json())))
    assert again.crossings == truth.crossings
    assert again.seen == truth.seen
    assert again.lines == truth.lines
    assert [len(f.objects) for f in again.frames] == [len(f.objects) for f in truth.frames]
