"""How right the counts are: the whole way from detections to numbers, against exact truth.

`python -m framegrid_local.accuracy --model BUNDLE` renders the simulator's ten held-out clips, runs the
detector and the counting over them and prints a table; without `--model` a detector made of truth and errors
stands in for it. Counting sees what a camera's would: boxes, scores and class names.

Two truths of the line crossings are told. One has every crossing of the scene. The other, "seen", leaves out
those of objects that could not be seen on both sides of the line (a car that drives beside a bus all the
way): no counting could know of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from framegrid_ingest.analysis import CameraAnalysis, Detections
from framegrid_ingest.config import DEFAULT_CLASSES, ClassGroup, Zone
from framegrid_ingest.track import TrackerSettings
from framegrid_serve.bundle import load_bundle
from framegrid_serve.detector import Detector
from framegrid_serve.wire import FrameStatus
from framegrid_sim.clip import SceneSettings
from framegrid_sim.clip_cache import JPEG_QUALITY, clip_key, default_cache_dir, load_clips
from framegrid_sim.evaluation import EVALUATION_CLIPS
from framegrid_sim.noise import NoiseSettings, render_detections
from framegrid_sim.scene import Scene
from framegrid_sim.settings import Point
from framegrid_sim.truth import CLASSES, GROUPS, MIN_SEEN_S, ClipTruth

from framegrid_local.errors import LocalError

# Any time will do; tracking only sees differences.
START_S = 1_700_000_000.0
# The weakest detections that tracking uses.
MIN_SCORE = TrackerSettings().low_score
NOISE_SEED = 1


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted and what was true, in a clip or in all."""

    counted: int
    true: int

    @property
    def error(self) -> float:
        """Share of the truth that the count is off by."""
        return abs(self.counted - self.true) / max(self.true, 1)

    def __add__(self, other: Count) -> Count:
        return Count(self.counted + other.counted, self.true + other.true)


@dataclass(frozen=True, slots=True)
class ClipScore:
    """A clip's counts by measure, and what tracking and counting cost."""

    name: str
    counts: Mapping[str, Count]
    ms_per_frame: float
    objects_per_frame: float


@dataclass(frozen=True, slots=True)
class SceneLine:
    """A line of a scene; unlike one of `cameras.yaml` it may end outside the picture."""

    name: str
    start: Point
    end: Point


@dataclass(frozen=True, slots=True)
class SceneCamera:
    """A camera that looks at a clip or a video."""

    fps: float
    lines: tuple[SceneLine, ...] = ()
    zones: tuple[Zone, ...] = ()
    classes: Mapping[str, ClassGroup] = field(default_factory=lambda: DEFAULT_CLASSES)
    anchor: str = "bottom"


def score_clip(
    name: str, truth: ClipTruth, frames: Iterable[Detections], settings: TrackerSettings | None = None
) -> ClipScore:
    """Count one pass of a clip from its detections, one per frame, and compare with its truth."""
    lines = tuple(SceneLine(*line) for line in truth.lines)
    analysis = CameraAnalysis(SceneCamera(truth.fps, lines), settings)
    uniques: Counter[str] = Counter()
    crossings: Counter[str] = Counter()
    number = objects = 0
    spent_s = 0.0
    for number, detections in enumerate(frames, 1):
        began_s = time.perf_counter()
        result = analysis.process(START_S + number / truth.fps, detections)
        spent_s += time.perf_counter() - began_s
        uniques.update(result.new_uniques)
        crossings.update(crossing.cls for crossing in result.crossings)
        objects += len(result.tracks)
    if number != truth.frame_count:
        raise LocalError(f"expected detections for {truth.frame_count} frames of {name}, got {number}")
    every = Counter(c.group for c in truth.crossings_between(0, truth.frame_count))
    seen = seen_crossings(truth)
    objects_seen = seen_uniques(truth)
    counts = {f"unique {group}": Count(uniques[group], objects_seen[group]) for group in GROUPS}
    for group in GROUPS:
        counts[f"crossings {group}"] = Count(crossings[group], every[group])
        counts[f"crossings {group} seen"] = Count(crossings[group], seen[group])
    counts["crossings"] = Count(crossings.total(), every.total())
    counts["crossings seen"] = Count(crossings.total(), seen.total())
    return ClipScore(name, counts, 1000.0 * spent_s / number, objects / number)


def sights(truth: ClipTruth) -> dict[tuple[int, str], list[int]]:
    """The frames of the clip in which each object (id, group) could be seen."""
    found: dict[tuple[int, str], list[int]] = {}
    for frame in truth.frames:
        for item in frame.objects:
            if item.countable:
                found.setdefault((item.object_id, item.group), []).append(frame.frame_index)
    return found


def seen_uniques(truth: ClipTruth) -> Counter[str]:
    """Per group, the objects that could be seen for MIN_SEEN_S within the clip.

    The scene's own number has those too that leave in the clip's first frames or come in its last ones.
    """
    least = MIN_SEEN_S * truth.fps
    return Counter(group for (_, group), frames in sights(truth).items() if len(frames) >= least)


def seen_crossings(truth: ClipTruth) -> Counter[str]:
    """Per group, the crossings of objects that could be seen for MIN_SEEN_S, and both before and after."""
    seen = sights(truth)
    least = MIN_SEEN_S * truth.fps
    found: Counter[str] = Counter()
    for crossing in truth.crossings_between(0, truth.frame_count):
        frames = seen.get((crossing.object_id, crossing.group), [])
        before = bisect_left(frames, crossing.frame_index)
        if len(frames) >= least and 0 < before < len(frames):
            found[crossing.group] += 1
    return found


def noisy_detections(truth: ClipTruth, noise: NoiseSettings, seed: int) -> Iterator[Detections]:
    """What a detector of this quality would have seen, frame by frame."""
    for frame in truth.frames:
        found = render_detections(frame, noise, seed)
        yield Detections(found.boxes_xyxy, found.scores, [CLASSES[i] for i in found.class_ids])


def detected(jpegs: Sequence[bytes], detector: Detector) -> Iterator[Detections]:
    """What the detector sees in the pictures, in order."""
    classes = detector.bundle.manifest.classes
    for at in range(0, len(jpegs), detector.max_batch):
        for result in detector.detect(jpegs[at : at + detector.max_batch], MIN_SCORE):
            if result.status is not FrameStatus.OK:
                raise LocalError(f"expected a picture that can be analysed, got {result.status.name}")
            yield Detections(result.boxes_xyxy, result.scores, [classes[i] for i in result.class_ids])


def count_visits(video: Path, detector: Detector, model_class: str = "person") -> int:
    """Unique objects of one class in a video, every frame of it analysed."""
    capture = cv2.VideoCapture(str(video))
    fps = capture.get(cv2.CAP_PROP_FPS)
    if not capture.isOpened() or fps <= 0:
        raise LocalError(f"expected a video in {video}, got none that opens; check the path")
    classes = {model_class: ClassGroup(of=(model_class,))}
    analysis = CameraAnalysis(SceneCamera(fps, classes=classes))
    names = detector.bundle.manifest.classes
    visits = number = 0
    while True:
        more, picture = capture.read()
        if not more:
            capture.release()
            return visits
        [result] = detector.detect_images([picture], MIN_SCORE)
        found = Detections(result.boxes_xyxy, result.scores, [names[i] for i in result.class_ids])
        visits += analysis.process(START_S + number / fps, found).new_uniques[model_class]
        number += 1


def score_clips(
    clips: Mapping[str, SceneSettings], detector: Detector | None, cache_dir: Path | None = None
) -> list[ClipScore]:
    """Score each clip with the detector, or with the noisy stand-in where there is none.

    Pictures and detections are kept in `cache_dir` (default: the user's cache folder), so a second run with
    the same model takes seconds.
    """
    folder = cache_dir or default_cache_dir()
    scores = []
    for name, settings in clips.items():
        if detector is None:
            truth = Scene(settings).clip_truth()
            scores.append(score_clip(name, truth, noisy_detections(truth, NoiseSettings(), NOISE_SEED)))
        else:
            [clip] = load_clips([settings], folder)
            frames = kept_detections(clip_key(settings, JPEG_QUALITY), clip.jpegs, detector, folder)
            scores.append(score_clip(name, clip.truth, frames))
    return scores


def kept_detections(
    key: str, jpegs: Sequence[bytes], detector: Detector, cache_dir: Path
) -> list[Detections]:
    """Detections of the pictures that `key` names, from the cache or made and put there."""
    model = detector.bundle.digest[:16]
    path = cache_dir / f"detections-{key}-{model}.npz"
    if not path.exists():
        frames = list(detected(jpegs, detector))
        arrays = {
            "frame": np.repeat(np.arange(len(frames)), [len(f.scores) for f in frames]),
            "boxes": np.concatenate([f.boxes_xyxy for f in frames]),
            "scores": np.concatenate([f.scores for f in frames]),
            "names": np.array([name for f in frames for name in f.class_names], dtype=np.str_),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
        return frames
    with np.load(path, allow_pickle=False) as kept:
        frame, boxes, scores, names = (kept[k] for k in ("frame", "boxes", "scores", "names"))
    starts = np.searchsorted(frame, np.arange(len(jpegs) + 1))
    return [Detections(boxes[a:b], scores[a:b], names[a:b].tolist()) for a, b in pairwise(starts)]


def totals(scores: Sequence[ClipScore]) -> dict[str, Count]:
    """Each measure summed over the clips."""
    return {
        measure: sum((score.counts[measure] for score in scores), Count(0, 0)) for measure in scores[0].counts
    }


def figures(scores: Sequence[ClipScore]) -> dict[str, float]:
    """For `bench.json`: the error of each measure in sum and in the worst clip, and the cost."""
    result: dict[str, float] = {}
    for measure, total in totals(scores).items():
        key = measure.replace(" ", "_")
        result[f"count_error_{key}"] = round(total.error, 4)
        result[f"count_error_{key}_worst"] = round(max(s.counts[measure].error for s in scores), 4)
    result["counting_ms_per_frame"] = round(sum(s.ms_per_frame for s in scores) / len(scores), 3)
    return result


def table(scores: Sequence[ClipScore]) -> str:
    """The counts as text: `counted/true` per clip and measure, then sums and errors."""
    measures = list(scores[0].counts)
    width = max(len(s.name) for s in scores) + 2
    total = totals(scores)

    def row(name: str, cells: Iterable[str], last: str = "") -> str:
        return name.ljust(width) + "".join(cell.rjust(24) for cell in cells) + last

    lines = [row("clip", measures, "   ms/frame")]
    for score in scores:
        cells = (f"{score.counts[m].counted}/{score.counts[m].true}" for m in measures)
        lines.append(row(score.name, cells, f"{score.ms_per_frame:11.3f}"))
    lines.append(row("sum", (f"{total[m].counted}/{total[m].true}" for m in measures)))
    lines.append(row("error in sum", (f"{total[m].error:.1%}" for m in measures)))
    lines.append(
        row("error, worst clip", (f"{max(s.counts[m].error for s in scores):.1%}" for m in measures))
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 when it could be made, whatever it says."""
    parser = argparse.ArgumentParser(prog="python -m framegrid_local.accuracy", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a model bundle; without it a noisy stand-in")
    parser.add_argument("--cache", type=Path, help="folder for rendered clips and detections")
    parser.add_argument("--visits", type=Path, help="count the persons in this video instead")
    options = parser.parse_args(arguments)
    detector = Detector(load_bundle(options.model)) if options.model else None
    try:
        if options.visits is not None:
            if detector is None:
                parser.error("--visits needs --model")
            print(f"{options.visits.name}: {count_visits(options.visits, detector)} visits")
        else:
            print(table(score_clips(EVALUATION_CLIPS, detector, options.cache)))
    finally:
        if detector is not None:
            detector.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
