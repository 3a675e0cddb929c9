"""The analysis of a camera: presence, zones, uniques, crossings; and input that is wrong."""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from framegrid_ingest.analysis import CameraAnalysis, Detections
from hypothesis import given, settings
from hypothesis import strategies as st

START_S = 1_700_000_000.0


@dataclass(frozen=True)
class Group:
    of: tuple[str, ...]
    min_score: float = 0.4


@dataclass(frozen=True)
class Zone:
    name: str
    polygon: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Line:
    name: str
    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True)
class Camera:
    fps: float = 10.0
    anchor: str = "bottom"
    classes: dict[str, Group] = field(
        default_factory=lambda: {"person": Group(("person",)), "vehicle": Group(("car", "truck", "bus"))}
    )
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = (Line("middle", (0.5, 0.0), (0.5, 1.0)),)


def analysis(camera=None, **changes):
    ids = itertools.count(1)
    return CameraAnalysis(camera or Camera(**changes), new_id=lambda: f"t{next(ids)}")


def detections(*rows):
    """Rows of (x1, y1, x2, y2, score, class)."""
    return Detections(
        np.array([r[:4] for r in rows], np.float32).reshape(-1, 4),
        np.array([r[4] for r in rows], np.float32),
        [r[5] for r in rows],
    )


def person(x, y=0.8, score=0.9, h=0.2, w=0.06):
    """A person whose feet are at (x, y)."""
    return (x - w / 2, y - h, x + w / 2, y, score, "person")


def replay(camera, frames, start_s=START_S, interval_s=0.1):
    """Totals of a run: uniques, crossings [(line, class, direction)], last counts."""
    uniques, crossings, last = {}, [], None
    for i, frame in enumerate(frames):
        last = camera.process(start_s + i * interval_s, frame)
        for cls, n in last.new_uniques.items():
            uniques[cls] = uniques.get(cls, 0) + n
        crossings += [(c.line, c.cls, c.direction) for c in last.crossings]
    return uniques, crossings, last


def walker(start, end, frames, y=0.8, **kw):
    return [detections(person(start + (end - start) * k / (frames - 1), y, **kw)) for k in range(frames)]


def test_every_zone_and_class_is_counted_zeros_included():
    lower = Zone("lower", ((0.0, 0.6), (1.0, 0.6), (1.0, 1.0), (0.0, 1.0)))
    upper = Zone("upper", ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5)))
    result = analysis(zones=(lower, upper)).process(START_S, detections(person(0.3), person(0.7)))
    assert result.counts == {
        ("", "person"): 2,
        ("lower", "person"): 2,
        ("upper", "person"): 0,
        ("", "vehicle"): 0,
        ("lower", "vehicle"): 0,
        ("upper", "vehicle"): 0,
    }


def test_a_frame_without_detections_counts_zeros():
    result = analysis().process(START_S, detections())
    assert result.counts == {("", "person"): 0, ("", "vehicle"): 0}
    assert result.crossings == [] and result.closed == [] and result.tracks == []


def test_a_box_cut_by_the_lower_border_is_in_the_zone_drawn_down_to_it():
    zone = Zone("front", ((0.0, 0.6), (1.0, 0.6), (1.0, 1.0), (0.0, 1.0)))
    result = analysis(zones=(zone,)).process(START_S, detections(person(0.5, 1.0)))
    assert result.counts["front", "person"] == 1


def test_the_anchor_decides_which_zone_an_object_is_in():
    feet = Zone("feet", ((0.0, 0.75), (1.0, 0.75), (1.0, 0.85), (0.0, 0.85)))
    frame = detections(person(0.5, 0.8))
    assert analysis(zones=(feet,)).process(START_S, frame).counts["feet", "person"] == 1
    assert analysis(zones=(feet,), anchor="center").process(START_S, frame).counts["feet", "person"] == 0


def test_a_van_that_is_also_called_a_truck_is_one_vehicle():
    frame = detections((0.3, 0.4, 0.5, 0.6, 0.8, "car"), (0.301, 0.4, 0.5, 0.61, 0.6, "truck"))
    assert analysis().process(START_S, frame).counts["", "vehicle"] == 1


def test_classes_that_are_in_no_group_are_not_counted():
    result = analysis().process(START_S, detections((0.3, 0.4, 0.5, 0.6, 0.8, "dog")))
    assert sum(result.counts.values()) == 0


def test_a_walker_is_one_unique_and_one_crossing():
    uniques, crossings, _ = replay(analysis(), walker(0.2, 0.8, 60))
    assert uniques == {"person": 1, "vehicle": 0}
    assert crossings == [("middle", "person", "out")]


def test_to_and_fro_counts_in_and_out_and_one_unique():
    frames = walker(0.2, 0.8, 60) + walker(0.8, 0.2, 60)
    uniques, crossings, _ = replay(analysis(), frames)
    assert uniques["person"] == 1
    assert [c[2] for c in crossings] == ["out", "in"]


def test_a_crossing_before_the_confirmation_is_counted_at_the_confirmation():
    frames = walker(0.46, 0.6, 8)  # over the line within three frames
    _, crossings, _ = replay(analysis(), frames)
    assert crossings == [("middle", "person", "out")]


def test_slow_sampling_counts_presence_but_issues_no_uniques():
    camera = analysis(fps=0.2)
    uniques, crossings, last = replay(camera, walker(0.2, 0.8, 30), interval_s=5.0)
    assert not camera.tracked
    assert uniques == {} and crossings == []
    assert last.counts["", "person"] == 1


def test_boxes_that_are_none_are_dropped_and_counted():
    camera = analysis()
    frame = detections(
        person(0.5),
        (math.nan, 0.1, 0.2, 0.3, 0.9, "person"),
        (0.1, 0.1, math.inf, 0.3, 0.9, "person"),
        (0.4, 0.4, 0.4, 0.6, 0.9, "person"),
        (0.6, 0.4, 0.5, 0.6, 0.9, "person"),
        (1.2, 0.4, 1.5, 0.6, 0.9, "person"),
        (0.1, 0.1, 0.2, 0.3, math.nan, "person"),
    )
    assert camera.process(START_S, frame).counts["", "person"] == 1
    assert camera.invalid_detections == 6


def test_lengths_that_differ_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match="got 1, 2 and 0"):
        analysis().process(START_S, Detections(np.zeros((1, 4), np.float32), np.zeros(2, np.float32), []))


def test_a_frame_out_of_order_counts_presence_only():
    camera = analysis()
    replay(camera, walker(0.2, 0.3, 10))
    result = camera.process(START_S + 0.5, detections(person(0.9)))
    assert result.counts["", "person"] == 1
    assert result.tracks == []
    assert camera.out_of_order_frames == 1


def test_a_clock_set_back_closes_the_tracks_and_goes_on():
    camera = analysis()
    replay(camera, walker(0.2, 0.3, 10))
    result = camera.process(START_S - 3600.0, detections(person(0.3)))
    assert [t.track_id for t in result.closed] == ["t1"]
    uniques, _, _ = replay(camera, walker(0.3, 0.4, 10), start_s=START_S - 3599.9)
    assert uniques["person"] == 1


def test_the_boxes_score_is_kept_for_what_was_counted():
    result = analysis().process(START_S, detections(person(0.3, score=0.5), person(0.7, score=0.75)))
    assert result.score_sums["", "person"] == pytest.approx(1.25)
    assert result.score_sums["", "vehicle"] == 0.0


def test_a_zones_score_is_that_of_the_objects_in_it():
    left = Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
    result = analysis(zones=(left,)).process(
        START_S, detections(person(0.3, score=0.5), person(0.7, score=0.75))
    )
    assert result.counts["left", "person"] == 1
    assert result.score_sums["left", "person"] == pytest.approx(0.5)
    assert analysis(zones=(left,)).process(START_S, detections()).score_sums["left", "person"] == 0.0


def test_closed_tracks_tell_the_whole_story():
    camera = analysis()
    replay(camera, walker(0.2, 0.8, 31))
    [track] = camera.close(START_S + 100.0)
    assert (track.cls, track.model_class, track.frames) == ("person", "person", 31)
    assert track.started_at_s == pytest.approx(START_S)
    assert track.ended_at_s == pytest.approx(START_S + 3.0)
    assert track.first_box[0] == pytest.approx(0.17, abs=1e-6)
    assert track.last_box[0] == pytest.approx(0.77, abs=1e-6)


def crowd(seed, people=5, frames=40):
    """Several walkers with wobbling boxes, missed now and then."""
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0.1, 0.9, people)
    speeds = rng.choice([-1.0, 1.0], people) * rng.uniform(0.004, 0.012, people)
    rows = np.linspace(0.4, 0.95, people)
    result = []
    for k in range(frames):
        found = []
        for x, v, y in zip(starts, speeds, rows, strict=True):
            at = x + v * k
            if 0.0 < at < 1.0 and rng.random() > 0.05:
                dx, dy = rng.normal(0.0, 0.002, 2)
                found.append(person(at + dx, y + dy, score=float(rng.uniform(0.3, 0.95))))
        result.append(found)
    return result


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_the_order_of_detections_does_not_matter(seed, random):
    frames = crowd(seed)
    shuffled = []
    for rows in frames:
        other = list(rows)
        random.shuffle(other)
        shuffled.append(other)
    first, second = analysis(), analysis()
    for i, (a, b) in enumerate(zip(frames, shuffled, strict=True)):
        one = first.process(START_S + i * 0.1, detections(*a))
        two = second.process(START_S + i * 0.1, detections(*b))
        assert one.counts == two.counts
        assert one.new_uniques == two.new_uniques
        assert sorted(map(repr, one.crossings)) == sorted(map(repr, two.crossings))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_mirroring_the_picture_swaps_in_and_out(seed):
    frames = crowd(seed)
    plain = replay(analysis(), [detections(*rows) for rows in frames])
    flipped = [[(1 - r[2], r[1], 1 - r[0], r[3], *r[4:]) for r in rows] for rows in frames]
    other = replay(analysis(), [detections(*rows) for rows in flipped])
    swap = {"in": "out", "out": "in"}
    assert plain[0] == other[0]
    assert sorted(plain[1]) == sorted((line, cls, swap[d]) for line, cls, d in other[1])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(-1_000_000_000, 1_000_000_000))
def test_results_do_not_depend_on_when_they_happen(seed, shift_s):
    frames = [detections(*rows) for rows in crowd(seed)]
    # An eighth of a second is exact in binary: the same differences at any time.
    now = replay(analysis(fps=8.0), frames, interval_s=0.125)
    then = replay(analysis(fps=8.0), frames, start_s=START_S + shift_s, interval_s=0.125)
    assert now[:2] == then[:2]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(
                *[st.floats(-0.5, 1.5, width=32)] * 4,
                st.floats(0, 1, width=32),
                st.sampled_from(["person", "car", "truck", "dog"]),
            ),
            max_size=8,
        ),
        max_size=20,
    )
)
def test_any_boxes_at_all_are_survived(frames):
    camera = analysis()
    for i, rows in enumerate(frames):
        result = camera.process(START_S + i * 0.1, detections(*rows))
        assert result.counts["", "person"] <= len(rows)
    assert all(track.frames > 0 for track in camera.close(START_S + 10.0))
