"""What a model is worth: accuracy on labelled pictures, time, memory, file size.

Each model is measured in a process of its own (`python -m framegrid_serve.measurement FOLDER …`), so that the
memory is the model's, and one crash does not end a comparison. `measure_pair` takes the times of two models
turn about, because a machine's speed drifts within minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

from framegrid_serve.bundle import Bundle, load_bundle, weights_files
from framegrid_serve.dataset import Dataset, class_numbers, read_dataset, read_picture, truth_of
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.engines.choice import in_form
from framegrid_serve.engines.cpu import cpu_model
from framegrid_serve.errors import ModelError
from framegrid_serve.evaluation import Accuracy, Labelled, evaluate
from framegrid_serve.memory import peak_bytes
from framegrid_serve.wire import FrameStatus

# COCO's protocol: the curve needs the weak boxes too.
_LEAST_SCORE = 0.001
_WARM_UP = 3
_SPEED_PICTURES = 40
_ROUNDS = 3
_CHILD_TIMEOUT_S = 3600.0
_SETTINGS = EngineSettings()
_REFUSED = 3  # the child's exit status for a ModelError, told on stdout


class Speed(BaseModel):
    """Engine and post-processing of one picture, on one thread, milliseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    median_ms: float
    p95_ms: float
    peak_bytes: int  # resident memory of the process


class Measurement(BaseModel):
    """One model on one data set on one machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    digest: str
    engine: str
    precision: str
    input_size: int
    size_bytes: int  # of the weights files
    pictures: int
    # None when the data set has no labels.
    map50_95: float | None
    map50: float | None
    per_class: dict[str, float]  # mean over IoU thresholds, by class name; classes in the truth alone
    speed: Speed
    cpu: str
    date: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """What to measure on: a data set (`dataset.py`), its split, and how many pictures of it (0 = all)."""

    data: Path
    split: str = "val"
    limit: int = 0

    def read(self) -> Dataset:
        """Raises ModelError."""
        return read_dataset(self.data, self.split, limit=self.limit)


def measure(bundle: Bundle, pictures: Pictures, settings: EngineSettings = _SETTINGS) -> Measurement:
    """Accuracy and speed of one model, in a child process. Raises ModelError."""
    return Measurement.model_validate_json(_child(bundle, pictures, settings, "all"))


def measure_pair(
    first: tuple[Bundle, EngineSettings], second: tuple[Bundle, EngineSettings], pictures: Pictures
) -> tuple[Measurement, Measurement]:
    """The same of two models, or of two forms; times turn about, so that the ratio is fair."""
    both = (first, second)
    found = [measure(bundle, pictures, settings) for bundle, settings in both]
    rounds: list[list[Speed]] = [[], []]
    for turn in range(_ROUNDS):
        for index in (0, 1) if turn % 2 == 0 else (1, 0):
            told = _child(both[index][0], pictures, both[index][1], "speed")
            rounds[index].append(Speed.model_validate_json(told))
    pair = [
        one.model_copy(update={"speed": _middle([*speeds, one.speed])})
        for one, speeds in zip(found, rounds, strict=True)
    ]
    return pair[0], pair[1]


def measure_here(bundle: Bundle, pictures: Pictures, settings: EngineSettings) -> Measurement:
    """The same as `measure`, in this process."""
    dataset = pictures.read()
    numbers = class_numbers(dataset, bundle)
    detector = Detector(bundle, settings)
    # Speed and memory first: the weak boxes that accuracy needs cost memory that serving never takes.
    speed = _speed(detector, dataset)
    found = [_found(detector, picture) for picture in dataset.pictures]
    truth = [truth_of(picture, numbers) for picture in dataset.pictures]
    accuracy = evaluate(found, truth) if any(len(one.scores) for one in truth) else None
    return Measurement(
        name=bundle.name,
        version=bundle.version,
        digest=bundle.digest,
        engine=detector.engine.name,
        precision=detector.engine.precision,
        input_size=bundle.manifest.input_size,
        size_bytes=size_bytes(in_form(bundle, detector.engine.name, settings)),
        pictures=len(dataset.pictures),
        map50_95=None if accuracy is None else round(accuracy.map50_95, 5),
        map50=None if accuracy is None else round(accuracy.map50, 5),
        per_class=_by_name(bundle, accuracy),
        speed=speed,
        cpu=cpu_model(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def speed_here(bundle: Bundle, pictures: Pictures, settings: EngineSettings) -> Speed:
    """Speed alone, in this process."""
    return _speed(Detector(bundle, settings), pictures.read())


def size_bytes(bundle: Bundle) -> int:
    """Of the weights files of one form."""
    return sum(path.stat().st_size for path in weights_files(bundle.weights_path))


def _speed(detector: Detector, dataset: Dataset) -> Speed:
    """One shape of picture, so that no time goes into compiling: the first one's, as cameras send."""
    size = detector.bundle.manifest.input_size
    pictures = [read_picture(path) for path in dataset.pictures[:_SPEED_PICTURES]]
    frames = [cv2.resize(picture, (size, size * 9 // 16)) for picture in pictures]
    times_ms = []
    for frame in [frames[0]] * _WARM_UP + frames:
        started_s = time.perf_counter()
        detector.detect_images([np.asarray(frame, np.uint8)])
        times_ms.append((time.perf_counter() - started_s) * 1e3)
    times_ms = sorted(times_ms[_WARM_UP:])
    p95_ms = times_ms[math.ceil(0.95 * len(times_ms)) - 1]
    return Speed(
        median_ms=round(statistics.median(times_ms), 3),
        p95_ms=round(p95_ms, 3),
        peak_bytes=peak_bytes(),
    )


def _found(detector: Detector, picture: Path) -> Labelled:
    (result,) = detector.detect_images([read_picture(picture)], _LEAST_SCORE)
    if result.status is not FrameStatus.OK:
        raise ModelError(
            f"{detector.bundle.path}: expected boxes for {picture.name}, got {result.status.name}"
        )
    return Labelled(result.boxes_xyxy, result.class_ids, result.scores)


def _by_name(bundle: Bundle, accuracy: Accuracy | None) -> dict[str, float]:
    per_class = {} if accuracy is None else accuracy.per_class
    return {bundle.classes[number]: round(value, 5) for number, value in per_class.items()}


def _middle(speeds: list[Speed]) -> Speed:
    return Speed(
        median_ms=round(statistics.median(speed.median_ms for speed in speeds), 3),
        p95_ms=round(statistics.median(speed.p95_ms for speed in speeds), 3),
        peak_bytes=int(statistics.median(speed.peak_bytes for speed in speeds)),
    )


def _child(bundle: Bundle, pictures: Pictures, settings: EngineSettings, what: str) -> str:
    argv = [sys.executable, "-m", "framegrid_serve.measurement", str(bundle.path), str(pictures.data)]
    argv += ["--split", pictures.split, "--limit", str(pictures.limit), "--what", what]
    argv += ["--settings", settings.model_dump_json()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_CHILD_TIMEOUT_S, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return lines[-1]
    if done.returncode == _REFUSED and lines:
        raise ModelError(str(json.loads(lines[-1])["error"]))
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise ModelError(f"{bundle.path}: the measurement ended with status {done.returncode}: {last[:400]}")


def main() -> int:
    """The child: one JSON line; exit status 3 with the reason for a ModelError."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--what", choices=("all", "speed"), default="all")
    parser.add_argument("--settings", type=EngineSettings.model_validate_json, default=EngineSettings())
    options = parser.parse_args()
    run = measure_here if options.what == "all" else speed_here
    try:
        pictures = Pictures(options.data, options.split, options.limit)
        print(run(load_bundle(options.folder), pictures, options.settings).model_dump_json())
        return 0
    except ModelError as error:
        print(json.dumps({"error": str(error)}))
        return _REFUSED


if __name__ == "__main__":
    raise SystemExit(main())
