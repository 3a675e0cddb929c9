"""INT8: a second form of a model, a quarter of the size, faster where the processor has VNNI and no AMX.

NNCF chooses the ranges of every layer on calibration pictures (post-training, no labels, no training); the
box arithmetic behind the last convolutions, whose numbers are pixels, stays as it is. The new bundle holds
both forms, and replicas take the one that suits their processor. What quantising cost is measured on labelled
pictures, and a bundle that lost more than allowed is not made. Needs the extra `workshop` (NNCF).
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framegrid_serve.archive import files_of
from framegrid_serve.bundle import Bundle, Layout, Manifest, file_sha256, weights_files, write_manifest
from framegrid_serve.dataset import Dataset, read_dataset, read_picture
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.measurement import Measurement, Pictures, measure_pair
from framegrid_serve.preprocess import place

logger = logging.getLogger(__name__)

# NNCF's own default.
CALIBRATION_PICTURES = 300
MAX_LOSS_POINTS = 1.0
_LEAST_PICTURES = 16
_OPENVINO = "openvino"


@dataclass(frozen=True, slots=True)
class Quantized:
    """What came out."""

    bundle: Bundle
    full: Measurement
    int8: Measurement
    size_ratio: float  # INT8 files over the same network in FP32

    @property
    def loss_points(self) -> float | None:
        """mAP50-95 lost, in points (hundredths); None without labels."""
        if self.full.map50_95 is None or self.int8.map50_95 is None:
            return None
        return round(100 * (self.full.map50_95 - self.int8.map50_95), 3)


def quantize(
    bundle: Bundle,
    data: Path,
    out_dir: Path,
    *,
    version: str,
    pictures: int = CALIBRATION_PICTURES,
    measured_pictures: int = 0,
    max_loss_points: float = MAX_LOSS_POINTS,
) -> Quantized:
    """Calibrate on the `train` split of `data`, measure on `val`, write the bundle to `out_dir`.

    Minutes. Raises ModelError: no OpenVINO form, too few pictures, or more than `max_loss_points` lost.
    """
    _check(bundle)
    calibration = read_dataset(data, "train", limit=pictures)
    if len(calibration.pictures) < _LEAST_PICTURES:
        raise ModelError(
            f"{data}: expected at least {_LEAST_PICTURES} pictures to calibrate on, "
            f"got {len(calibration.pictures)}; better are some hundred from your own cameras"
        )
    out_dir.mkdir(parents=True)
    for file in files_of(bundle):
        copy = out_dir / file.relative_to(bundle.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    int8_path = out_dir / f"{Path(bundle.manifest.weights).stem}-int8.xml"
    fp32_bytes = _write_int8(bundle, calibration, int8_path)
    size_ratio = _bytes_of(int8_path) / fp32_bytes
    made = write_manifest(out_dir, _manifest(bundle, out_dir, int8_path, version, {}))
    wanted = Pictures(data, "val", measured_pictures)
    full, int8 = measure_pair(
        (made, EngineSettings(engine=_OPENVINO, form="full")),
        (made, EngineSettings(engine=_OPENVINO, form="int8")),
        wanted,
    )
    result = Quantized(made, full, int8, round(size_ratio, 4))
    if result.loss_points is not None and result.loss_points > max_loss_points:
        raise ModelError(
            f"{bundle.name}: expected INT8 to lose at most {max_loss_points:g} points of mAP50-95, got "
            f"{result.loss_points:g}; calibrate on more pictures like those of the cameras, or allow more"
        )
    made = write_manifest(out_dir, _manifest(bundle, out_dir, int8_path, version, _metrics(result)))
    return Quantized(made, full, int8, result.size_ratio)


def _check(bundle: Bundle) -> None:
    if bundle.int8_path is not None or bundle.manifest.precision == "int8":
        raise ModelError(f"{bundle.path}: expected a model that is not quantised yet, got one with INT8")
    if bundle.weights_path.suffix not in (".xml", ".onnx"):
        raise ModelError(
            f"{bundle.weights_path}: expected an OpenVINO or ONNX model, got {bundle.weights_path.suffix}; "
            f"import it first (`framegrid model import`)"
        )


def _write_int8(bundle: Bundle, calibration: Dataset, int8_path: Path) -> int:
    """Quantise and save. Returns the size of the same network in FP32, in bytes."""
    try:
        import nncf
        import openvino as ov
    except ImportError as error:
        raise ModelError(
            f"quantising needs {error.name}, which is not installed; install the extra `workshop`"
        ) from error
    nncf.set_log_level(logging.ERROR)
    model = ov.Core().read_model(bundle.weights_path)
    fp32_bytes = _fp32_bytes(model, int8_path.with_name("full.xml"))
    quantized = nncf.quantize(
        model,
        nncf.Dataset(calibration.pictures, lambda picture: network_input(bundle, picture)),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(calibration.pictures),
        ignored_scope=nncf.IgnoredScope(names=box_arithmetic(model), validate=False),
        # Bundles travel: processors without VNNI add pairs of products in 16 bits, which overflow unless all
        # weights keep to half of their range. By default only the first layer's do.
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
    )
    ov.save_model(quantized, int8_path, compress_to_fp16=True)
    return fp32_bytes


def _fp32_bytes(model: Any, scratch: Path) -> int:
    """Size of the network's files in FP32: saved as it is, and its FP16 numbers counted twice."""
    import openvino as ov

    ov.save_model(model, scratch, compress_to_fp16=False)
    size_bytes = _bytes_of(scratch)
    for file in weights_files(scratch):
        file.unlink()
    constants = (node for node in model.get_ops() if node.get_type_name() == "Constant")
    halves = (node for node in constants if node.get_element_type() == ov.Type.f16)
    return size_bytes + sum(int(np.prod(node.get_output_shape(0))) * 2 for node in halves)


def network_input(bundle: Bundle, picture: Path) -> npt.NDArray[np.float32]:
    """A picture as the bare network takes it, (1, 3, size, size): what the engine does inside.

    Padded to a square, as Ultralytics calibrates: on YOLO11n that kept 1.4 points of mAP50-95 more than the
    pictures' own shapes, and one shape is calibrated in two thirds of the time.
    """
    square = replace(bundle, manifest=bundle.manifest.model_copy(update={"dynamic": False}))
    placed = place(read_picture(picture), square).image  # (size, size, 3) uint8 BGR
    if bundle.manifest.layout in (Layout.YOLOV8, Layout.YOLO26):
        planes = placed[:, :, ::-1].transpose(2, 0, 1) / np.float32(255)
    else:
        planes = placed.transpose(2, 0, 1)
    return np.ascontiguousarray(planes[np.newaxis], np.float32)


def box_arithmetic(model: Any) -> list[str]:
    """Names of the operations behind the last convolutions: what turns the network's output into boxes.

    A convolution to one channel is such arithmetic too: YOLO's weighted mean over the distances of a side.
    """
    names = []
    leads_on: dict[str, bool] = {}  # a convolution comes after it
    for node in reversed(model.get_ordered_ops()):
        followers = [target.get_node() for port in node.outputs() for target in port.get_target_inputs()]
        leads_on[node.get_friendly_name()] = any(
            leads_on[one.get_friendly_name()] or _is_layer(one) for one in followers
        )
        if not leads_on[node.get_friendly_name()] and not _is_layer(node):
            names.append(node.get_friendly_name())
    return names


def _is_layer(node: Any) -> bool:
    if "Convolution" not in node.get_type_name():
        return False
    channels = node.get_output_partial_shape(0)[1]
    return bool(channels.is_dynamic or channels.get_length() > 1)


def _manifest(
    bundle: Bundle, folder: Path, int8_path: Path, version: str, metrics: dict[str, float | str]
) -> Manifest:
    files = [*weights_files(folder / bundle.manifest.weights), *weights_files(int8_path)]
    changes = {
        "version": version,
        "int8": int8_path.name,
        "sha256": {file.relative_to(folder).as_posix(): file_sha256(file) for file in files},
        "size_bytes": sum(file.stat().st_size for file in files),
        "source": bundle.manifest.source or f"{bundle.name} {bundle.version}",
        "metrics": {**bundle.manifest.metrics, **metrics},
    }
    return Manifest.model_validate({**bundle.manifest.model_dump(mode="json"), **changes})


def _metrics(result: Quantized) -> dict[str, float | str]:
    told: dict[str, float | str] = {
        "int8_size_ratio": result.size_ratio,
        "int8_time_ratio": round(result.int8.speed.median_ms / result.full.speed.median_ms, 3),
        "int8_pictures": float(result.int8.pictures),
    }
    if result.loss_points is not None and result.full.map50_95 is not None:
        told |= {"map50_95": result.full.map50_95, "int8_map_loss": result.loss_points}
    return told


def _bytes_of(weights: Path) -> int:
    return sum(file.stat().st_size for file in weights_files(weights))
