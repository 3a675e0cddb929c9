"""What INT8 saves and costs: YOLO11n, calibrated on coco128's train split, measured on its val split."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from framegrid_serve.bundle import load_bundle
from framegrid_serve.quantize import quantize

from framegrid_local.bench import inputs
from framegrid_local.bench.unavailable import UnavailableError

_CALIBRATION = 128  # all train pictures


def measure_int8() -> dict[str, Any]:
    """int8_size_ratio (files over FP32's) and int8_map_loss (points of mAP50-95 against the full form)."""
    data = inputs.COCO
    if not data.is_dir():
        raise UnavailableError(f"expected {data} (128 train and 128 val pictures); set FRAMEGRID_TEST_DATA")
    bundle = load_bundle(inputs.bundle(inputs.weights(), 640))
    with tempfile.TemporaryDirectory(prefix="fg-bench-") as folder:
        result = quantize(
            bundle, data, Path(folder) / "int8", version="int8", pictures=_CALIBRATION, max_loss_points=100
        )
    full, int8 = result.full, result.int8
    return {
        "int8_size_ratio": result.size_ratio,
        "int8_map_loss": result.loss_points,
        "int8": {
            "time_ratio": round(int8.speed.median_ms / full.speed.median_ms, 3),
            "full": full.model_dump(mode="json", exclude={"per_class"}),
            "int8": int8.model_dump(mode="json", exclude={"per_class"}),
        },
    }
