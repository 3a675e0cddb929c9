"""Make the packaged model `street-sim` from nothing: render streets, train, export, measure, write the
bundle.

    python -m framegrid_sim.train --out serve/framegrid_serve/models/street-sim --minutes 50

Needs the `workshop` and `sim` extras (Ultralytics and torch; the weights are therefore under AGPL-3.0).
Rendering goes on beside the training, which begins as soon as there are enough streets. Two runs differ: the
schedule is by the clock.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import logging
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from framegrid_sim.dataset import HELD_OUT_SEEDS, INPUT_SIZE, TRAIN_SEEDS, Sample, read_set, render_set
from framegrid_sim.inference import OnnxDetector
from framegrid_sim.score import average_precision
from framegrid_sim.truth import CLASSES, MIN_HEIGHT_PX, MIN_VISIBLE_SHARE

logger = logging.getLogger(__name__)

NAME = "street-sim"
LICENCE = "AGPL-3.0"
SCORE_THRESHOLD = 0.35
IOU_THRESHOLD = 0.7  # friends walk close together: at 0.6 person mAP50 is a hundredth lower
FIRST_STREETS = 100  # training begins with so many
FRAMES_PER_STREET = 12
HELD_OUT_STREETS = 50
HELD_OUT_FRAMES = 8
GOAL = 0.95
# Asked for in the measure: objects of which at least half shows. The box of the whole of what shows less is a
# guess. What is countable but more hidden is measured too, in map50_person_hidden.
EVALUATED_VISIBLE_SHARE = 0.5
WEIGHTS_FILE = "weights.pt"  # in the data folder: what --resume goes on from


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when the bundle was written and reaches the goal, 3 when it was written and does not."""
    from framegrid_sim import network  # loads torch, which the workers that render can do without

    args = _parse(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", force=True)
    with tempfile.TemporaryDirectory(prefix="street-sim-") as scratch:
        data = args.data or Path(scratch)
        held_out = data / "held-out"
        render_set(held_out, HELD_OUT_SEEDS[:HELD_OUT_STREETS], HELD_OUT_FRAMES, args.workers)
        renderer = multiprocessing.get_context("spawn").Process(
            target=render_set,
            args=(data / "train", TRAIN_SEEDS[: args.streets], FRAMES_PER_STREET, args.workers),
        )
        renderer.start()
        try:
            _wait_for(data / "train", min(FIRST_STREETS, args.streets))
            plan = network.Plan(
                samples=_TrainingSet(data / "train"),
                on_checkpoint=_Finish(args.out, data / "train", held_out, data / WEIGHTS_FILE),
                start_from=data / WEIGHTS_FILE if args.resume else None,
                minutes=args.minutes,
                processes=args.workers,
                checkpoint_minutes=args.checkpoint_minutes,
            )
            network.train(plan)
        finally:
            renderer.terminate()
            renderer.join()
    metrics = yaml.safe_load((args.out / "model.yaml").read_text())["metrics"]
    print(yaml.safe_dump(metrics, sort_keys=False))
    return 0 if min(metrics["map50_person"], metrics["map50_vehicle"]) >= GOAL else 3


def evaluate(weights: Path, samples: Sequence[Sample]) -> dict[str, Any]:
    """AP at IoU 0.5 on labelled frames, by class and by counted class, through the ONNX file itself."""
    detector = OnnxDetector(weights)
    found = [detector.detect(sample.jpeg) for sample in samples]
    every = [sample.labels for sample in samples]
    truth = [replace(t, ignore=t.ignore | (t.visible < EVALUATED_VISIBLE_SHARE)) for t in every]
    vehicles = [k for k, name in enumerate(CLASSES) if name != "person"]
    by_class = {name: round(average_precision(found, truth, [k]), 4) for k, name in enumerate(CLASSES)}
    means = [by_class[CLASSES[k]] for k in vehicles if not math.isnan(by_class[CLASSES[k]])]
    return {
        "map50_person": by_class["person"],
        "map50_vehicle": round(average_precision(found, truth, vehicles), 4),
        "map50_vehicle_class_mean": round(sum(means) / max(len(means), 1), 4),
        **{f"map50_{name}": value for name, value in by_class.items() if name != "person"},
        "map50_person_hidden": round(average_precision(found, every, [0]), 4),
        "map50_vehicle_hidden": round(average_precision(found, every, vehicles), 4),
        "held_out_frames": len(samples),
        "measured": (
            f"AP at IoU 0.5 on held-out streets: visible share >= {EVALUATED_VISIBLE_SHARE:g} "
            f"(*_hidden: >= {MIN_VISIBLE_SHARE:g}), height >= {MIN_HEIGHT_PX:g} px of 640"
        ),
    }


def write_bundle(folder: Path, weights: Path, metrics: dict[str, Any]) -> None:
    """Put the weights and `model.yaml` into the bundle's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    data = weights.read_bytes()
    (folder / f"{NAME}.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y.%m.%d")
    manifest = {
        "name": NAME,
        # With the digest, so that no two weights ever have the same version in the database.
        "version": f"{today}-{digest[:8]}",
        "licence": LICENCE,
        "layout": "yolov8",
        "classes": list(CLASSES),
        "input_size": INPUT_SIZE,
        "dynamic": True,
        "weights": f"{NAME}.onnx",
        "sha256": digest,
        "thresholds": {"score": SCORE_THRESHOLD, "iou": IOU_THRESHOLD},
        "precision": "fp32",
        "source": (
            "trained from scratch on simulated streets alone by loadtest/framegrid_sim/train.py with "
            "Ultralytics; for demos, tests and load, not for real cameras"
        ),
        "metrics": metrics,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True))


@dataclass(frozen=True)
class _TrainingSet:
    """The frames rendered so far."""

    folder: Path

    def __call__(self) -> list[Sample]:
        return list(read_set(self.folder))


@dataclass(frozen=True)
class _Finish:
    """Exports a network, measures it on held-out streets, and writes the bundle."""

    out: Path
    train_folder: Path
    held_out: Path
    keep: Path

    def __call__(self, model: Any, minutes: float) -> None:
        from framegrid_sim import network

        with tempfile.TemporaryDirectory(prefix="street-sim-") as scratch:
            weights = Path(scratch) / f"{NAME}.onnx"
            network.save_weights(model, minutes, self.keep)
            network.export_onnx(model, weights)
            metrics = {
                **evaluate(weights, list(read_set(self.held_out))),
                "training_minutes": round(minutes, 1),
                "training_streets": sum(1 for _ in self.train_folder.glob("*.npz")),
            }
            write_bundle(self.out, weights, metrics)
        logger.info("bundle written: %s", metrics)


def _wait_for(folder: Path, streets: int) -> None:
    while sum(1 for _ in folder.glob("*.npz")) < streets:
        time.sleep(1)  # the renderer is another process; nothing is lost by looking once a second


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m framegrid_sim.train", description="Make the model street-sim."
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the bundle; written at every checkpoint"
    )
    parser.add_argument(
        "--minutes", type=float, default=50, help="training time, rendering before it not counted"
    )
    parser.add_argument("--streets", type=int, default=700, help="training streets to render, 12 frames each")
    parser.add_argument(
        "--data", type=Path, help="folder to keep the rendered frames in; what is there is used"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that render and that train")
    parser.add_argument(
        "--checkpoint-minutes", type=float, default=10, help="write the bundle so often meanwhile"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the weights in --data, at a lower rate"
    )
    args = parser.parse_args(arguments)
    if args.resume and not (args.data and (args.data / WEIGHTS_FILE).is_file()):
        parser.error(f"--resume: expected {WEIGHTS_FILE} of an earlier run in --data, got {args.data}")
    return args


if __name__ == "__main__":
    sys.exit(main())
