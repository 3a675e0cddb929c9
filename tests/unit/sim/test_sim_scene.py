"""The street: the same for the same seed, without a seam, and what is drawn is what is said."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import cv2
import numpy as np
import pytest
from framegrid_sim.scene import Scene
from framegrid_sim.settings import SceneSettings
from framegrid_sim.truth import MIN_VISIBLE_SHARE

SMALL = SceneSettings(
    seed=11, width=320, height=180, duration_s=20, persons_per_minute=36, vehicles_per_minute=30
)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SMALL)


def fingerprint(scene: Scene, frame_index: int) -> str:
    digest = hashlib.sha256(scene.frame(frame_index).tobytes())
    digest.update(repr(scene.truth(frame_index)).encode())
    return digest.hexdigest()


def test_two_scenes_of_equal_settings_show_and_say_the_same(scene: Scene) -> None:
    other = Scene(SMALL)
    assert [fingerprint(scene, i) for i in (0, 63, 199)] == [fingerprint(other, i) for i in (0, 63, 199)]


def test_frames_may_be_asked_for_in_any_order(scene: Scene) -> None:
    forwards = [fingerprint(scene, i) for i in (3, 40, 150)]
    assert [fingerprint(scene, i) for i in (150, 40, 3)] == forwards[::-1]


def test_another_seed_is_another_street(scene: Scene) -> None:
    other = Scene(SceneSettings(seed=12, width=320, height=180, duration_s=20))
    assert other.camera.focal_px != scene.camera.focal_px
    assert fingerprint(other, 0) != fingerprint(scene, 0)


def test_frames_have_the_size_and_type_that_was_asked_for(scene: Scene) -> None:
    frame = scene.frame(5)
    assert frame.shape == (180, 320, 3)
    assert frame.dtype == np.uint8


def test_the_next_pass_shows_the_same_pictures(scene: Scene) -> None:
    count = SMALL.frame_count
    assert np.array_equal(scene.frame(7), scene.frame(7 + 3 * count))


def test_the_next_pass_has_the_same_truth_with_ids_moved_on(scene: Scene) -> None:
    count, per_pass = SMALL.frame_count, len(scene.actors)
    now, later = scene.truth(7), scene.truth(7 + 2 * count)
    assert [o.object_id + 2 * per_pass for o in now.objects] == [o.object_id for o in later.objects]
    assert [o.box_xyxy for o in now.objects] == [o.box_xyxy for o in later.objects]


def test_nobody_jumps_anywhere_not_even_at_the_seam(scene: Scene) -> None:
    count = SMALL.frame_count
    before: dict[int, tuple[float, float]] = {}
    for i in range(count - 30, count + 30):
        # The fastest goes 0.95 m a frame, which is at most about a fifteenth of the picture.
        now = {o.object_id: o.box_xyxy for o in scene.truth(i).objects}
        middles = {k: ((b[0] + b[2]) / 2, b[3]) for k, b in now.items()}
        for k, (x, y) in middles.items():
            if k in before:
                assert abs(x - before[k][0]) < 0.1, (i, k)
                assert abs(y - before[k][1]) < 0.12, (i, k)
        before = middles


def test_nobody_appears_or_vanishes_in_the_middle_of_the_picture(scene: Scene) -> None:
    count = SMALL.frame_count
    previous = {p.object_id for p in scene._placed(count - 60)}
    in_the_middle: set[int] = set()
    for i in range(count - 59, count + 60):
        placed = scene._placed(i)
        inside = {
            p.object_id
            for p in placed
            if p.box[0] > 8 and p.box[2] < SMALL.width - 8 and p.box[3] < SMALL.height
        }
        assert inside <= previous, i
        here = {p.object_id for p in placed}
        assert all(k in here for k in in_the_middle), i
        previous, in_the_middle = here, inside


def test_each_box_holds_every_pixel_that_is_drawn_of_its_object() -> None:
    quiet = Scene(
        SceneSettings(seed=21, duration_s=20, noise=0, persons_per_minute=30, vehicles_per_minute=24)
    )
    quiet._sunny = False
    for i in (20, 90, 160):
        placed = quiet._placed(i)
        for p in placed:
            with_it, without = _drawn(quiet, [p]), _drawn(quiet, [])
            ys, xs = np.nonzero(cv2.absdiff(with_it, without).max(axis=2) > 24)
            if not len(xs):
                continue
            x1, y1, x2, y2 = p.box
            # Antialiasing reaches into the neighbouring pixel.
            assert x1 - 1.5 <= xs.min() and xs.max() <= x2 + 1.5, (i, p.actor.cls)
            assert y1 - 1.5 <= ys.min() and ys.max() <= y2 + 1.5, (i, p.actor.cls)


def _drawn(scene: Scene, placed: list[object]) -> np.ndarray:
    from framegrid_sim.scene import Placed
    from framegrid_sim.shapes import draw

    frame = scene._backdrop.copy()
    for item in placed:
        assert isinstance(item, Placed)
        draw(frame, item.shapes)
    return frame


def test_a_hidden_object_has_a_smaller_visible_share_than_one_in_the_open() -> None:
    busy = Scene(SceneSettings(seed=5, duration_s=30, persons_per_minute=90, vehicles_per_minute=40))
    shares = [o.visible_share for i in range(0, 300, 30) for o in busy.truth(i).objects]
    assert all(0 < share <= 1 for share in shares)
    assert any(share < MIN_VISIBLE_SHARE for share in shares)
    assert sum(share > 0.9 for share in shares) > len(shares) / 2


def test_the_street_has_every_class_and_both_directions() -> None:
    scene = Scene(
        SceneSettings(seed=8, duration_s=60, width=320, height=180, vehicles_per_minute=60, bicycle_share=0.3)
    )
    assert {a.cls for a in scene.actors} == {"person", "bicycle", "car", "van", "bus"}
    assert {(a.cls == "person", a.direction) for a in scene.actors} == {
        (p, d) for p in (0, 1) for d in (1, -1)
    }


def test_vehicles_stop_at_the_red_light_and_keep_their_distance() -> None:
    scene = Scene(SceneSettings(seed=9, duration_s=80, width=320, height=180, vehicles_per_minute=50))
    speeds = np.concatenate([np.abs(np.diff(a.xs_m)) for a in scene.actors if a.cls in ("car", "van", "bus")])
    assert (speeds < 0.005).mean() > 0.05
    for i in range(0, 800, 10):
        lanes: dict[tuple[float, int], list[tuple[float, float]]] = {}
        for p in scene._placed(i):
            if p.actor.cls in ("car", "van", "bus"):
                lane = min(scene.street.lanes, key=lambda lane: abs(lane[0] - p.z_m))
                lanes.setdefault(lane, []).append((p.x_m, p.actor.size_m[0]))
        for vehicles in lanes.values():
            vehicles.sort()
            for (x, length), (x_next, length_next) in pairwise(vehicles):
                assert x_next - x > (length + length_next) / 2, i


@pytest.mark.parametrize("light", ["day", "dusk", "night"])
@pytest.mark.parametrize("rain", [False, True], ids=["dry", "rain"])
def test_every_light_and_weather_can_be_drawn(light: str, rain: bool) -> None:
    scene = Scene(SceneSettings(seed=3, width=320, height=180, duration_s=10, light=light, rain=rain))  # type: ignore[arg-type]
    mean = float(scene.frame(10).mean())
    low, high = {"day": (80, 200), "dusk": (40, 130), "night": (10, 90)}[light]
    assert low < mean < high


def test_settings_refuse_what_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match=r"expected fps from 0\.5 to 60, got 0"):
        SceneSettings(fps=0)
    with pytest.raises(ValueError, match="day, dusk, night"):
        SceneSettings(light="noon")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown_key"):
        SceneSettings.from_json({"unknown_key": 1})
