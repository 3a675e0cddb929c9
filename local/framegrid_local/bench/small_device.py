"""A small device: half a core and 512 MB for all of serve, INT8 at 320 pixels.

Serve runs without Ray (`python -m framegrid_serve.alone`), which needs more than 512 MB before it has loaded
anything: what it takes is told beside. The client is outside of the control group.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from framegrid_serve.bundle import Bundle, Manifest, file_sha256, load_bundle, weights_files, write_manifest
from framegrid_serve.quantize import quantize

from framegrid_local.bench import inputs
from framegrid_local.bench.cgroup import Cgroup, cgroup
from framegrid_local.bench.child import json_of
from framegrid_local.bench.process_tree import tree_bytes
from framegrid_local.bench.serving import serving
from framegrid_local.bench.unavailable import UnavailableError

CPUS, MEMORY_BYTES = 0.5, 512 * 1024 * 1024
INPUT_SIZE = 320
SECONDS = 15.0
_MIB = 1024 * 1024


def measure_small_device() -> dict[str, Any]:
    """fps_half_core_512mb: frames a second over HTTP by the wire format; the median of three runs."""
    bundle = _int8_bundle()
    models = [{"name": bundle.name, "path": str(bundle.path)}]
    runs = []
    with tempfile.TemporaryDirectory(prefix="fg-small-") as name:
        for turn in range(3):
            folder = Path(name) / str(turn)
            folder.mkdir()
            with cgroup("framegrid-bench", cpus=CPUS, memory_bytes=MEMORY_BYTES) as group:
                runs.append(_run(folder, models, group))
        folder = Path(name) / "ray"
        folder.mkdir()
        with serving(folder, models=models) as server:
            ray_bytes = tree_bytes(server.pid)
    runs.sort(key=lambda run: run["fps"])
    middle = runs[len(runs) // 2]
    return {
        "fps_half_core_512mb": middle["fps"],
        "small_device": {**middle, "runs_fps": [run["fps"] for run in runs], "ray_mib": ray_bytes // _MIB},
    }


def _run(folder: Path, models: list[dict[str, str]], group: Cgroup) -> dict[str, float]:
    started_s = time.monotonic()
    with serving(folder, "framegrid_serve.alone", prefix=group.prefix, models=models) as server:
        start_s = time.monotonic() - started_s
        options = {"video": inputs.video(), "size": INPUT_SIZE, "seconds": SECONDS}
        load = json_of("serve_load", port=server.port, **options)
        if load["failed"]:
            raise RuntimeError(f"expected every frame to be answered, {load['failed']:.0f} failed")
        return {
            "fps": round(load["fps"], 2),
            "start_s": round(start_s, 1),
            "anonymous_mib": round(group.anonymous_bytes / _MIB, 1),
            "peak_mib": round(group.peak_bytes / _MIB, 1),
        }


def _int8_bundle() -> Bundle:
    """YOLO11n at 320 pixels in INT8 alone, made once: a processor with AMX would choose the full form."""
    if not inputs.COCO.is_dir():
        raise UnavailableError(f"expected {inputs.COCO} to calibrate on; set FRAMEGRID_TEST_DATA")
    full = load_bundle(inputs.bundle(inputs.weights(), INPUT_SIZE))
    folder = inputs.CACHE / f"{full.path.name}-int8"
    if not (folder / "model.yaml").exists():
        with tempfile.TemporaryDirectory(prefix="fg-small-") as name:
            made = quantize(full, inputs.COCO, Path(name) / "int8", version="int8", pictures=128).bundle
            assert made.int8_path is not None
            folder.mkdir(parents=True, exist_ok=True)
            files = weights_files(made.int8_path)
            for file in files:
                shutil.copyfile(file, folder / file.name)
            values = made.manifest.model_dump(mode="json", exclude={"int8", "golden", "metrics"})
            values |= {
                "weights": made.int8_path.name,
                "precision": "int8",
                "sha256": {file.name: file_sha256(file) for file in files},
                "size_bytes": sum(file.stat().st_size for file in files),
            }
            write_manifest(folder, Manifest.model_validate(values))
    return load_bundle(folder)
