"""Tiny networks and pictures, made here, so that no test needs weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from framegrid_serve.bundle import Bundle, Manifest, file_sha256, write_manifest

MakeBundle = Callable[..., Bundle]


@pytest.fixture
def jpeg() -> Callable[[int, int], bytes]:
    """JPEG of a smooth picture of a given height and width."""

    def make(height: int, width: int) -> bytes:
        rows, columns = np.indices((height, width))
        planes = [rows * 255 // max(1, height), columns * 255 // max(1, width), (rows + columns) % 256]
        return simplejpeg.encode_jpeg(
            np.stack(planes, axis=-1).astype(np.uint8), quality=90, colorspace="BGR"
        )

    return make


def write_constant_onnx(path: Path, output: np.ndarray, *, size: int | None) -> None:
    """An ONNX network that answers `output` (1, a, b) plus 0 x the mean of its input: any picture will do."""
    onnx = pytest.importorskip("onnx", reason="the test extra brings onnx; tiny networks are made with it")
    from onnx import TensorProto, helper, numpy_helper

    side: int | str = "side" if size is None else size
    width: int | str = "width" if size is None else size
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, width])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, list(output.shape))],
        [
            numpy_helper.from_array(output.astype(np.float32), "answer"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.arange(4, dtype=np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """A bundle around a constant network: `output` is what the network answers."""

    def make(output: np.ndarray, *, size: int = 64, **changes: object) -> Bundle:
        values: dict[str, object] = {
            "name": "tiny",
            "version": "1",
            "licence": "Apache-2.0",
            "layout": "yolov8",
            "classes": ["person", "car"],
            "input_size": size,
            "dynamic": False,
            "weights": "tiny.onnx",
        }
        values.update(changes)
        folder = tmp_path / str(values["name"])
        folder.mkdir(exist_ok=True)
        write_constant_onnx(folder / "tiny.onnx", output, size=None if values["dynamic"] else size)
        values.setdefault("sha256", file_sha256(folder / "tiny.onnx"))
        return write_manifest(folder, Manifest.model_validate(values))

    return make
