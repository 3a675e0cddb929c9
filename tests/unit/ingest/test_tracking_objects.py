"""Who is who: identities through occlusions, crossings, stops, borders and dropped frames."""

import itertools

import numpy as np
import pytest
from framegrid_ingest.association import assign, without_duplicates
from framegrid_ingest.geometry import overlap, points_in_polygon
from framegrid_ingest.matching import Observations
from framegrid_ingest.motion import Motion, MotionSettings
from framegrid_ingest.track import TrackerSettings
from framegrid_ingest.tracking import Tracker

W, H = 0.05, 0.18


def tracker(interval_s=0.1, settings=None):
    ids = itertools.count(1)
    return Tracker(
        settings or TrackerSettings(),
        min_score=0.4,
        interval_s=interval_s,
        bottom_anchor=True,
        new_id=lambda: f"t{next(ids)}",
    )


def observe(*rows):
    """Rows of (x of the middle, y of the feet[, score])."""
    boxes = np.array([[r[0] - W / 2, r[1] - H, r[0] + W / 2, r[1]] for r in rows]).reshape(-1, 4)
    scores = np.array([r[2] if len(r) > 2 else 0.9 for r in rows])
    return Observations(np.clip(boxes, 0, 1), scores, ("person",) * len(rows))


def follow(it, frames, interval_s=0.1, start_s=100.0):
    """Run frames (None: the frame was dropped); returns the number of new objects and the ids per frame."""
    new, ids, before_s = 0, [], None
    for k, rows in enumerate(frames):
        if rows is None:
            ids.append({})
            continue
        time_s = start_s + k * interval_s
        watched_s = min(time_s - before_s, 1.5 * interval_s) if before_s is not None else interval_s
        step = it.step(time_s, watched_s, observe(*rows))
        before_s = time_s
        new += len(step.confirmed)
        ids.append({t.track_id: (t.motion.x, t.motion.y) for t in step.seen if t.confirmed})
    return new, ids


def line(x0, x1, frames, y=0.7):
    return [(x0 + (x1 - x0) * k / (frames - 1), y) for k in range(frames)]


def assert_right_goes_left(ids):
    """Of two, the one who was on the right when both were known is on the left at the end."""
    first = next(i for i in ids if len(i) == 2)
    right = max(first, key=lambda t: first[t][0])
    assert ids[-1][right][0] < 0.3


def test_one_walker_is_one_object():
    new, ids = follow(tracker(), [[p] for p in line(0.1, 0.9, 80)])
    assert new == 1
    assert set(ids[-1]) == {"t1"}


def test_two_who_cross_keep_their_identities():
    a, b = line(0.2, 0.8, 60, 0.70), line(0.8, 0.2, 60, 0.72)
    frames = []
    for p, q in zip(a, b, strict=True):
        together = abs(p[0] - q[0]) < 0.6 * W  # the detector sees one of them
        frames.append([q] if together else [p, q])
    new, ids = follow(tracker(), frames)
    assert new == 2
    assert_right_goes_left(ids)


def test_two_who_pass_do_not_turn_round_where_the_detector_draws_a_pair_that_stands():
    frames = []
    for p, q in zip(line(0.2, 0.8, 60, 0.70), line(0.8, 0.2, 60, 0.715), strict=True):
        overlap_each_other = abs(p[0] - q[0]) < W
        frames.append([(0.5 - 0.3 * W, 0.70), (0.5 + 0.3 * W, 0.715)] if overlap_each_other else [p, q])
    new, ids = follow(tracker(), frames)
    assert new == 2
    assert_right_goes_left(ids)


def test_a_walker_hidden_behind_a_van_is_not_counted_again():
    frames = [[p] if not 0.4 < p[0] < 0.6 else [] for p in line(0.1, 0.9, 120)]
    assert follow(tracker(), frames)[0] == 1


def test_who_stops_behind_a_van_and_goes_on_is_not_counted_again():
    frames = [[p] for p in line(0.1, 0.45, 50)] + [[]] * 80 + [[p] for p in line(0.55, 0.9, 50)]
    assert follow(tracker(), frames)[0] == 1


def test_who_turns_back_behind_a_van_is_not_counted_again():
    frames = [[p] for p in line(0.1, 0.45, 50)] + [[]] * 30 + [[p] for p in line(0.45, 0.1, 50)]
    assert follow(tracker(), frames)[0] == 1


def test_who_left_through_the_border_is_gone_and_who_comes_in_there_is_new():
    frames = [[p] for p in line(0.6, 0.99, 40)] + [[]] * 8 + [[p] for p in line(0.99, 0.6, 40)]
    assert follow(tracker(), frames)[0] == 2


def test_who_comes_in_where_another_just_leaves_is_new():
    out, into = line(0.6, 1.01, 42), line(1.01, 0.6, 42)
    new, ids = follow(tracker(), [[p] for p in out] + [[p] for p in into])
    assert new == 2
    assert set(ids[20]) != set(ids[-1])


def test_a_flickering_object_at_the_border_is_one():
    frames = [[(0.99, 0.7)] if k % 7 else [] for k in range(100)]
    assert follow(tracker(), frames)[0] == 1


def test_a_ghost_of_three_frames_is_not_an_object():
    frames = [[(0.1 + 0.005 * k, 0.7)] for k in range(30)]
    for k in (15, 16, 17):
        frames[k].append((0.6, 0.5))
    assert follow(tracker(), frames)[0] == 1


def test_weak_detections_continue_a_track_but_begin_none():
    frames = [[(0.1 + 0.005 * k, 0.7, 0.9 if k < 20 else 0.2)] for k in range(60)]
    new, ids = follow(tracker(), frames)
    assert new == 1
    assert set(ids[-1]) == {"t1"}
    assert follow(tracker(), [[(0.1 + 0.005 * k, 0.7, 0.3)] for k in range(60)])[0] == 0


def test_dropped_frames_are_no_evidence_that_an_object_has_gone():
    frames = [[p] for p in line(0.1, 0.9, 100)]
    for k in range(40, 52):
        frames[k] = None
    new, ids = follow(tracker(), frames)
    assert new == 1
    assert set(ids[-1]) == {"t1"}


@pytest.mark.parametrize("fps", [1, 2, 5, 10, 25])
def test_a_walker_is_one_object_at_any_sampling_rate(fps):
    new, _ = follow(tracker(1 / fps), [[p] for p in line(0.1, 0.9, 8 * fps)], interval_s=1 / fps)
    assert new == 1


def test_stop_and_go_keeps_one_identity():
    way, x = [], 0.1
    for _ in range(4):
        for k in range(40):
            x += 0.006 if k < 20 else 0.0
            way.append([(x, 0.7)])
    new, ids = follow(tracker(), way)
    assert new == 1
    assert set(ids[-1]) == {"t1"}


def test_a_queue_that_moves_up_by_one_keeps_its_identities():
    frames = [[(0.2, 0.7), (0.3, 0.7), (0.4, 0.7)]] * 30
    frames += [[(0.2 + 0.01 * k, 0.7), (0.3 + 0.01 * k, 0.7), (0.4 + 0.01 * k, 0.7)] for k in range(11)]
    new, ids = follow(tracker(), frames)
    assert new == 3
    start, end = ids[20], ids[-1]
    assert all(end[t][0] == pytest.approx(start[t][0] + 0.1, abs=0.02) for t in start)


def test_legs_hidden_by_a_car_do_not_move_the_anchor():
    it = tracker()
    whole, cut = observe((0.5, 0.7)), observe((0.5, 0.7))
    cut.boxes_xyxy[0, 3] -= 0.45 * H
    for k in range(20):
        step = it.step(k * 0.1, 0.1, whole)
    for k in range(20, 26):
        step = it.step(k * 0.1, 0.1, cut)
    assert step.seen[0].motion.y == pytest.approx(0.7, abs=0.02)


def test_the_filter_finds_a_constant_speed():
    motion = Motion(0.0, 0.1, 0.5, 0.05, 0.2, settings=MotionSettings())
    for k in range(1, 40):
        motion.predict(k * 0.1)
        motion.update(0.1 + 0.01 * k, 0.5, 0.05, 0.2, follow_s=0.3, dt_s=0.1, noise_factor=1.0)
    assert motion.vx == pytest.approx(0.1, rel=0.02)
    assert motion.vy == pytest.approx(0.0, abs=1e-3)


def test_uncertainty_grows_with_time_not_with_the_number_of_steps():
    one, many = (Motion(0.0, 0.5, 0.5, 0.05, 0.2, settings=MotionSettings()) for _ in range(2))
    one.predict(2.0)
    for k in range(1, 21):
        many.predict(k * 0.1)
    assert many.p00 == pytest.approx(one.p00, rel=1e-9)
    assert many.p11 == pytest.approx(one.p11, rel=1e-9)


def test_assignment_is_the_best_in_total_and_leaves_bad_pairs_apart():
    cost = np.array([[1.0, 2.0], [1.5, 9.0]])
    assert assign(cost, 10.0) == [(0, 1), (1, 0)]
    assert assign(cost, 1.2) == [(0, 0)]
    assert assign(np.full((2, 3), 50.0), 10.0) == []


def keep(boxes, scores, names, **limits):
    limits = {"same_class_iou": 0.95, "other_class_iou": 0.7, "part_inside": 0.9} | limits
    return without_duplicates([tuple(box) for box in boxes], scores, names, **limits)


def test_duplicates_go_by_class_and_overlap():
    boxes = [[0.1, 0.1, 0.3, 0.3], [0.12, 0.1, 0.32, 0.3], [0.6, 0.6, 0.8, 0.8]]
    scores = [0.5, 0.9, 0.7]
    assert keep(boxes, scores, ["car", "car", "car"], part_inside=0.99) == [1, 2, 0]
    assert keep(boxes, scores, ["car", "truck", "car"]) == [1, 2]


def test_a_box_within_a_better_one_of_its_class_is_a_part_of_it():
    boxes = [[0.1, 0.1, 0.3, 0.5], [0.12, 0.3, 0.28, 0.5]]
    assert keep(boxes, [0.9, 0.6], ["person", "person"]) == [0]
    assert keep(boxes, [0.6, 0.9], ["person", "person"]) == [1, 0]
    assert keep(boxes, [0.9, 0.6], ["bus", "car"]) == [0, 1]


def test_overlap_is_intersection_over_union():
    iou = overlap(np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([[0.0, 0.0, 0.5, 0.5], [2, 2, 3, 3]]))
    assert iou.tolist() == [[0.25, 0.0]]


def test_a_second_box_of_the_lower_half_is_not_a_second_person():
    it, new = tracker(), 0
    for k in range(80):
        frame = observe((0.1 + 0.008 * k, 0.7))
        if k >= 10:  # the legs and the shadow, for the rest of the way
            part = frame.boxes_xyxy[0] + np.array([0.01, 0.5 * H, 0.005, 0.005])
            frame = Observations(np.vstack([frame.boxes_xyxy, part]), np.array([0.8, 0.6]), ("person",) * 2)
        new += len(it.step(k * 0.1, 0.1, frame).confirmed)
    assert new == 1


def test_who_comes_out_from_behind_another_is_an_object_too():
    front = line(0.1, 0.7, 80)
    frames = [[p, (p[0] - 0.002 * max(0, k - 20), 0.69)] if k > 30 else [p] for k, p in enumerate(front)]
    assert follow(tracker(), frames)[0] == 2


def test_points_in_a_concave_polygon():
    polygon = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.4), (0.0, 1.0))
    x, y = np.array([0.5, 0.5, 0.1, 1.5]), np.array([0.2, 0.8, 0.8, 0.5])
    assert points_in_polygon(x, y, polygon).tolist() == [True, False, True, False]
    many = [np.tile(a, 20) for a in (x, y)]  # enough of them for the other way of computing it
    assert points_in_polygon(*many, polygon).tolist() == [True, False, True, False] * 20
