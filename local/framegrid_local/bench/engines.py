"""The engines beside each other: the same weights and JPEGs, all cores, decoding and boxes included.

Each engine runs in a process of its own (`python -m framegrid_local.bench.engines`), turn about; INT8 is
OpenVINO's, of the same network.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from framegrid_serve.bundle import Bundle, Manifest, file_sha256, load_bundle, write_manifest
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.quantize import quantize
from framegrid_serve.workshop import import_export

from framegrid_local import machine
from framegrid_local.bench import inputs
from framegrid_local.bench.child import json_of
from framegrid_local.bench.serve_load import read_jpegs
from framegrid_local.bench.unavailable import UnavailableError

ROUNDS = 3
SECONDS = 6.0
_INPUT_SIZE = 640


def measure_engines() -> dict[str, Any]:
    """engines: frames a second and precision of each, median of three rounds."""
    if not inputs.COCO.is_dir():
        raise UnavailableError(f"expected {inputs.COCO} to calibrate on; set FRAMEGRID_TEST_DATA")
    weights = inputs.weights()
    quantised = _quantised(load_bundle(inputs.bundle(weights, _INPUT_SIZE)))
    runs = {
        "openvino": (quantised, EngineSettings(engine="openvino", form="full")),
        "openvino_int8": (quantised, EngineSettings(engine="openvino", form="int8")),
        "onnxruntime": (_onnx(weights), EngineSettings(engine="onnxruntime")),
        "ultralytics": (_pt(weights), EngineSettings(engine="ultralytics")),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    precision = {}
    for turn in range(ROUNDS):
        for name in runs if turn % 2 == 0 else reversed(runs):
            bundle, settings = runs[name]
            settings = settings.model_copy(update={"threads": machine.usable_cpus()})
            told = json_of("engines", bundle=bundle.path, settings=settings.model_dump_json())
            rates[name].append(told["fps"])
            precision[name] = told["precision"]
    return {
        "engines": {
            name: {"fps": round(statistics.median(found), 2), "precision": precision[name]}
            for name, found in rates.items()
        }
    }


def frames_per_second(detector: Detector, jpegs: list[bytes], seconds: float) -> float:
    """Of as many callers as the engine has streams, after each has had a few frames."""
    counts = [0] * detector.streams
    stop = threading.Event()
    ready = threading.Barrier(detector.streams + 1)

    def run(index: int) -> None:
        for step in range(5):
            detector.detect([jpegs[step % len(jpegs)]])
        ready.wait()
        while not stop.is_set():
            detector.detect([jpegs[counts[index] % len(jpegs)]])
            counts[index] += 1

    threads = [threading.Thread(target=run, args=(index,)) for index in range(detector.streams)]
    for thread in threads:
        thread.start()
    ready.wait()
    started_s = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started_s)


def _quantised(bundle: Bundle) -> Bundle:
    """Both forms of the network, made once."""
    folder = inputs.CACHE / f"{bundle.path.name}-both"
    if not (folder / "model.yaml").exists():
        shutil.rmtree(folder, ignore_errors=True)
        quantize(bundle, inputs.COCO, folder, version="int8", pictures=128)
    return load_bundle(folder)


def _onnx(weights: Path) -> Bundle:
    """Exported to ONNX with free height and width, made once."""
    folder = inputs.CACHE / f"{weights.stem}-{_INPUT_SIZE}-onnx"
    if not (folder / "model.yaml").exists():
        from ultralytics import YOLO

        copy = inputs.CACHE / f"{weights.stem}.pt"
        shutil.copyfile(weights, copy)
        exported = YOLO(str(copy)).export(format="onnx", dynamic=True, imgsz=_INPUT_SIZE, verbose=False)
        import_export(Path(exported), folder, "yolo11n")
    return load_bundle(folder)


def _pt(weights: Path) -> Bundle:
    """The weights as they are; only the bench and trials run them so."""
    folder = inputs.CACHE / f"{weights.stem}-{_INPUT_SIZE}-pt"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights, folder / "weights.pt")
    like = load_bundle(inputs.bundle(weights, _INPUT_SIZE)).manifest.model_dump(mode="json")
    values = like | {
        "weights": "weights.pt",
        "engine": "ultralytics",
        "precision": "",
        "sha256": file_sha256(folder / "weights.pt"),
        "size_bytes": (folder / "weights.pt").stat().st_size,
        "golden": None,
    }
    write_manifest(folder, Manifest.model_validate(values))
    return load_bundle(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--settings", type=EngineSettings.model_validate_json, required=True)
    options = parser.parse_args()
    detector = Detector(load_bundle(options.bundle), options.settings)
    jpegs = read_jpegs(inputs.video(), 64, _INPUT_SIZE)
    fps = frames_per_second(detector, jpegs, SECONDS)
    print(json.dumps({"fps": fps, "precision": detector.engine.precision}))


if __name__ == "__main__":
    main()
