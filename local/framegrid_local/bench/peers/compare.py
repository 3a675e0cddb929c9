"""Framegrid's HTTP path over LitServe and Roboflow Inference: same weights, pictures, cores, in one run.

Every peer is tried in the settings that its docs name, and the fastest is compared. Rounds turn about; a
server that is not measured is stopped where it stands. Accuracy is measured through the same requests.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from framegrid_serve.dataset import Dataset, read_dataset, truth_of
from framegrid_serve.evaluation import Labelled, evaluate

from framegrid_local import machine
from framegrid_local.bench import inputs
from framegrid_local.bench.child import json_of
from framegrid_local.bench.peers import environments
from framegrid_local.bench.peers.dialects import Dialect, Predict, Wire
from framegrid_local.bench.peers.load import detections
from framegrid_local.bench.peers.servers import (
    INPUT_SIZE,
    Candidate,
    Running,
    litserve,
    litserve_openvino,
    roboflow,
    running,
)
from framegrid_local.bench.serving import serving
from framegrid_local.bench.unavailable import UnavailableError

logger = logging.getLogger("framegrid.bench")

ROUNDS = 3
PROBE_S, SECONDS = 5.0, 8.0
_LEAST_SCORE = 0.001  # COCO's protocol
_OURS: dict[str, Dialect] = {"wire": Wire(), "predict": Predict()}


def measure_peers() -> dict[str, Any]:
    """vs_litserve, vs_roboflow (wire route over the peer), the same of /predict, and every one's mAP50-95."""
    if not inputs.COCO.is_dir():
        raise UnavailableError(f"expected {inputs.COCO} (coco128); set FRAMEGRID_TEST_DATA")
    weights, cores = inputs.weights(), machine.usable_cpus()
    pictures = read_dataset(inputs.COCO, "val")
    tried: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="fg-peers-") as name, ExitStack() as stack:
        folder = Path(name)
        chosen: dict[str, Running] = {}
        for key, candidates in (
            ("litserve", litserve(weights, cores)),
            ("litserve_openvino", litserve_openvino(weights, cores)),
            ("roboflow", roboflow(weights, cores)),
        ):
            tried[key], best = _tried(candidates, pictures, folder / key)
            chosen[key] = stack.enter_context(running(best, folder / f"{key}-best"))
            chosen[key].rest()
        rounds, found = _rounds(chosen, pictures, cores, folder)
        for key, server in chosen.items():
            server.wake()
            found[key] = detections(server.port, server.candidate.dialect, pictures.pictures, _LEAST_SCORE)
            server.rest()
    accuracy = accuracies(found, pictures)
    return {**figures(rounds, accuracy), "peers": _about(chosen, tried, rounds, accuracy, cores)}


def figures(rounds: Sequence[Mapping[str, float]], map_points: Mapping[str, float]) -> dict[str, float]:
    """Ratios of frames a second, medians over rounds of each round's own; losses in points of mAP50-95."""
    told = {}
    for peer in ("litserve", "litserve_openvino", "roboflow"):
        for ours, key in (("wire", f"vs_{peer}"), ("predict", f"predict_vs_{peer}")):
            told[key] = round(statistics.median(entry[ours] / entry[peer] for entry in rounds), 3)
        worse = map_points[peer] - min(map_points["wire"], map_points["predict"])
        told[f"vs_{peer}_map_loss"] = round(worse, 3)
    return told


def accuracies(found: Mapping[str, Sequence[Labelled]], dataset: Dataset) -> dict[str, float]:
    """mAP50-95 in points (hundredths) of each server's boxes."""
    numbers = {number: number for number in range(80)}
    truth = [truth_of(picture, numbers) for picture in dataset.pictures]
    return {key: round(100 * evaluate(boxes, truth).map50_95, 3) for key, boxes in found.items()}


def _rounds(
    chosen: Mapping[str, Running], dataset: Dataset, cores: int, folder: Path
) -> tuple[list[dict[str, float]], dict[str, list[Labelled]]]:
    """Frames a second of every server, round by round; and what Framegrid finds."""
    bundle = inputs.bundle(inputs.weights(), INPUT_SIZE)
    rounds: list[dict[str, float]] = []
    found: dict[str, list[Labelled]] = {}
    for _ in range(ROUNDS):
        entry: dict[str, float] = {}
        ours = Path(tempfile.mkdtemp(dir=folder))
        models = [{"name": "yolo11n", "path": str(bundle)}]
        with serving(ours, models=models, replicas=cores, cpus_per_replica=1) as server:
            # Twice through all pictures: both replicas have met every shape.
            for key, dialect in _OURS.items():
                for _ in range(2):
                    found[key] = detections(server.port, dialect, dataset.pictures, _LEAST_SCORE)
            for key in _OURS:
                entry[key] = _fps(server.port, (key, ""), dataset, SECONDS)
        for key, peer in chosen.items():
            peer.wake()
            entry[key] = _fps(peer.port, peer.candidate.load, dataset, SECONDS)
            peer.rest()
        logger.info("  %s", {key: round(value, 1) for key, value in entry.items()})
        rounds.append(entry)
    return rounds, found


def _tried(
    candidates: Sequence[Candidate], dataset: Dataset, folder: Path
) -> tuple[dict[str, float], Candidate]:
    """Frames a second in each setting, and the fastest."""
    rates: dict[str, float] = {}
    for index, candidate in enumerate(candidates):
        if len(candidates) == 1:
            return {}, candidate
        with running(candidate, folder / str(index)) as server:
            rates[candidate.setting] = round(_fps(server.port, candidate.load, dataset, PROBE_S), 2)
        logger.info("  %s: %s frames/s", candidate.setting, rates[candidate.setting])
    return rates, max(candidates, key=lambda one: rates[one.setting])


def _fps(port: int, load: tuple[str, str], dataset: Dataset, seconds: float) -> float:
    """Frames a second that a client in a process of its own gets."""
    folder = dataset.pictures[0].parent
    options = {"port": port, "dialect": load[0], "model": load[1], "folder": folder, "seconds": seconds}
    return float(json_of("peers.load", **options)["fps"])


def _about(
    chosen: Mapping[str, Running],
    tried: Mapping[str, Mapping[str, float]],
    rounds: Sequence[Mapping[str, float]],
    accuracy: Mapping[str, float],
    cores: int,
) -> dict[str, Any]:
    versions = {
        **environments.installed(
            environments.litserve_python(), ("litserve", "ultralytics", "torch", "openvino")
        ),
        **environments.installed(
            environments.roboflow_python(), ("inference-cpu", "inference-models", "onnxruntime-openvino")
        ),
    }
    return {
        "cores": cores,
        "versions": versions,
        "settings": {key: server.candidate.setting for key, server in chosen.items()},
        "tried_fps": tried,
        "fps": {key: round(statistics.median(entry[key] for entry in rounds), 2) for key in rounds[0]},
        "map50_95_points": accuracy,
        "rounds": [{key: round(value, 2) for key, value in entry.items()} for entry in rounds],
    }
