"""Clips on disk, the noisy detector, the measure of the model, and the evaluation clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from framegrid_sim.clip import Clip, ClipError, render_clip
from framegrid_sim.dataset import HELD_OUT_SEEDS, TRAIN_SEEDS, Labels, letterbox, render_samples
from framegrid_sim.evaluation import EVALUATION_CLIPS
from framegrid_sim.noise import NoiseSettings, render_detections
from framegrid_sim.score import Found, average_precision, box_iou
from framegrid_sim.settings import SceneSettings


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(SceneSettings(seed=2, width=320, height=180, duration_s=6, persons_per_minute=60))


def test_a_clip_survives_its_folder(clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path / "clip")
    again = Clip.load(tmp_path / "clip")
    assert again.jpegs == clip.jpegs
    assert again.settings == clip.settings
    assert again.truth.crossings == clip.truth.crossings


def test_a_clip_is_the_same_each_time_it_is_rendered(clip: Clip) -> None:
    assert render_clip(clip.settings).jpegs == clip.jpegs


def test_every_frame_is_a_jpeg_of_the_right_size(clip: Clip) -> None:
    assert clip.frame_count == clip.truth.frame_count == 60
    for jpeg in clip.jpegs[::20]:
        assert simplejpeg.decode_jpeg(jpeg).shape == (180, 320, 3)


def test_a_damaged_clip_is_refused_with_the_sizes(clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path)
    frames = tmp_path / "frames.bin"
    frames.write_bytes(frames.read_bytes()[:-5])
    with pytest.raises(ClipError, match=r"expected \d+ bytes of frames .* render it again"):
        Clip.load(tmp_path)
    with pytest.raises(ClipError, match="expected a clip in"):
        Clip.load(tmp_path / "nothing")


def test_the_perfect_detector_finds_all_that_is_countable_and_nothing_else(clip: Clip) -> None:
    for frame in clip.truth.frames[::10]:
        found = render_detections(frame, NoiseSettings.perfect(), seed=0)
        wanted = sorted(o.box_xyxy for o in frame.objects if o.countable)
        assert sorted(map(tuple, found.boxes_xyxy.tolist())) == [pytest.approx(box) for box in wanted]


def test_noise_is_the_same_for_the_same_seed_and_differs_for_another(clip: Clip) -> None:
    frame = clip.truth.frames[30]
    a, b, c = (render_detections(frame, NoiseSettings(), seed) for seed in (1, 1, 2))
    assert np.array_equal(a.boxes_xyxy, b.boxes_xyxy) and np.array_equal(a.scores, b.scores)
    assert not np.array_equal(a.boxes_xyxy, c.boxes_xyxy)


def test_the_noisy_detector_misses_hidden_objects_more_often(clip: Clip) -> None:
    noise = NoiseSettings(jitter=0, false_per_frame=0)
    seen = {True: [0, 0], False: [0, 0]}
    for frame in clip.truth.frames:
        for seed in range(4):
            boxes = render_detections(frame, noise, seed).boxes_xyxy
            for o in frame.objects:
                hit = bool(len(boxes)) and bool(
                    (np.abs(boxes - np.array(o.box_xyxy, np.float32)).max(axis=1) < 1e-6).any()
                )
                seen[o.visible_share > 0.6][0] += hit
                seen[o.visible_share > 0.6][1] += 1
    assert seen[True][0] / seen[True][1] > 0.8
    assert seen[False][0] / max(seen[False][1], 1) < seen[True][0] / seen[True][1]


def labels(boxes: list[list[float]], ignore: list[bool]) -> Labels:
    return Labels(
        np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), np.int64), np.array(ignore, bool),
        np.ones(len(boxes), np.float32),
    )  # fmt: skip


def found(boxes: list[list[float]], scores: list[float]) -> Found:
    return Found(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.zeros(len(boxes), np.int64),
    )


BOX, ELSEWHERE = [0.1, 0.1, 0.3, 0.5], [0.6, 0.6, 0.8, 0.9]


def test_finding_everything_scores_one_and_nothing_scores_zero() -> None:
    truth = [labels([BOX, ELSEWHERE], [False, False])]
    assert average_precision([found([BOX, ELSEWHERE], [0.9, 0.8])], truth, [0]) == pytest.approx(1)
    assert average_precision([found([], [])], truth, [0]) == 0


def test_a_double_detection_counts_against() -> None:
    truth = [labels([BOX, ELSEWHERE], [False, False])]
    doubled = found([BOX, BOX, ELSEWHERE], [0.9, 0.8, 0.7])
    # Precision 1 up to recall 0.5, then 2/3.
    assert average_precision([doubled], truth, [0]) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_an_ignored_object_is_neither_asked_for_nor_held_against() -> None:
    truth = [labels([BOX, ELSEWHERE], [False, True])]
    assert average_precision([found([BOX], [0.9])], truth, [0]) == pytest.approx(1)
    assert average_precision([found([ELSEWHERE, BOX], [0.95, 0.9])], truth, [0]) == pytest.approx(1)


def test_iou_of_halves() -> None:
    a, b = np.array([[0, 0, 2, 1]], np.float32), np.array([[1, 0, 3, 1], [5, 5, 6, 6]], np.float32)
    assert box_iou(a, b).tolist() == [[pytest.approx(1 / 3), 0.0]]


def test_letterbox_centres_without_enlarging() -> None:
    out, scale, left, top = letterbox(np.zeros((100, 200, 3), np.uint8), 416, 256)
    assert (out.shape, scale, left, top) == ((256, 416, 3), 1.0, 108, 78)
    assert out[0, 0].tolist() == [114, 114, 114]


def test_samples_are_as_long_as_the_model_s_input_and_labelled() -> None:
    samples = render_samples(TRAIN_SEEDS[3], 2)
    for sample in samples:
        assert max(simplejpeg.decode_jpeg(sample.jpeg).shape[:2]) == 416
        assert len(sample.labels.boxes_xyxy) == len(sample.labels.class_ids) == len(sample.labels.ignore)


def test_evaluation_clips_are_ten_long_and_on_streets_of_their_own() -> None:
    seeds = {settings.seed for settings in EVALUATION_CLIPS.values()}
    assert len(EVALUATION_CLIPS) == len(seeds) == 10
    assert not any(seed in TRAIN_SEEDS or seed in HELD_OUT_SEEDS for seed in seeds)
    assert all(s.duration_s >= 120 and s.fps == 10 for s in EVALUATION_CLIPS.values())
    assert any(s.stop_and_go for s in EVALUATION_CLIPS.values())
    assert {s.light for s in EVALUATION_CLIPS.values()} == {"day", "dusk", "night"}
