"""The harness that says how right the counts are."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from framegrid_local.accuracy import (
    ClipScore,
    Count,
    SceneCamera,
    figures,
    kept_detections,
    noisy_detections,
    score_clip,
    seen_crossings,
    seen_uniques,
    table,
)
from framegrid_local.errors import LocalError
from framegrid_serve.wire import FrameResult, FrameStatus
from framegrid_sim.noise import NoiseSettings
from framegrid_sim.scene import Scene
from framegrid_sim.settings import SceneSettings


@pytest.fixture(scope="module")
def truth():
    settings = SceneSettings(
        seed=31, duration_s=40, persons_per_minute=6, vehicles_per_minute=6, group_share=0
    )
    return Scene(settings).clip_truth()


def test_a_quiet_street_seen_without_errors_is_counted_without_errors(truth):
    score = score_clip("quiet", truth, noisy_detections(truth, NoiseSettings.perfect(), 1))
    persons, vehicles = (seen_uniques(truth)[group] for group in ("person", "vehicle"))
    assert persons >= 4 and vehicles >= 4
    assert score.counts["unique person"] == Count(persons, persons)
    assert score.counts["unique vehicle"] == Count(vehicles, vehicles)
    assert score.counts["crossings seen"].error == 0
    assert score.objects_per_frame > 0


def test_crossings_that_were_seen_are_some_of_all(truth):
    every = truth.crossings_between(0, truth.frame_count)
    seen = seen_crossings(truth)
    assert 0 < seen.total() <= len(every)


def test_a_frame_too_few_is_an_error_not_a_count(truth):
    frames = list(noisy_detections(truth, NoiseSettings(), 1))
    with pytest.raises(LocalError, match="expected detections for 400 frames of short, got 399"):
        score_clip("short", truth, frames[:-1])


def score(name, **counts):
    return ClipScore(name, {measure: Count(*pair) for measure, pair in counts.items()}, 0.25, 3.0)


def test_figures_are_errors_in_sum_and_in_the_worst_clip():
    scores = [score("a", crossings=(9, 10)), score("b", crossings=(91, 90))]
    found = figures(scores)
    assert found["count_error_crossings"] == 0.0
    assert found["count_error_crossings_worst"] == pytest.approx(0.1)
    assert found["counting_ms_per_frame"] == 0.25


def test_the_table_tells_every_clip_and_the_sum():
    text = table([score("a", crossings=(9, 10)), score("b", crossings=(91, 90))])
    assert [line.split()[0] for line in text.splitlines()] == ["clip", "a", "b", "sum", "error", "error,"]
    assert "100/100" in text


def test_a_video_camera_counts_without_lines_or_zones():
    camera = SceneCamera(25.0)
    assert (camera.lines, camera.zones, camera.anchor) == ((), (), "bottom")
    assert set(camera.classes) == {"person", "vehicle"}


class FakeDetector:
    """Sees one box per picture, whose score is the picture's length in percent; none in an empty one."""

    max_batch = 2

    def __init__(self) -> None:
        manifest = SimpleNamespace(classes=("person", "car"))
        self.bundle = SimpleNamespace(manifest=manifest, digest="0123456789abcdef0123")
        self.calls = 0

    def detect(self, jpegs: Sequence[bytes], min_scores: float) -> list[FrameResult]:
        self.calls += 1
        assert len(jpegs) <= self.max_batch
        found = []
        for jpeg in jpegs:
            n = min(len(jpeg), 1)
            boxes = np.full((n, 4), [0.1, 0.1, 0.2, 0.3], np.float32)
            found.append(
                FrameResult(
                    FrameStatus.OK, boxes, np.full(n, len(jpeg) / 100, np.float32), np.ones(n, np.int16)
                )
            )
        return found


def test_detections_are_made_once_and_then_kept(tmp_path):
    detector = FakeDetector()
    jpegs = [b"x" * 30, b"", b"x" * 50]
    first = kept_detections("clip", jpegs, detector, tmp_path)
    again = kept_detections("clip", jpegs, detector, tmp_path)
    assert detector.calls == 2
    for a, b in zip(first, again, strict=True):
        assert a.boxes_xyxy.tolist() == b.boxes_xyxy.tolist()
        assert a.scores.tolist() == b.scores.tolist()
        assert list(a.class_names) == list(b.class_names)
    assert [len(f.scores) for f in again] == [1, 0, 1]
    assert list(tmp_path.iterdir()) == [tmp_path / "detections-clip-0123456789abcdef.npz"]
