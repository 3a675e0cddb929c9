"""INT8 by NNCF on a small network made here: what is quantised, what is not, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from framegrid_serve.bundle import Bundle, Layout, Manifest, file_sha256, load_bundle, write_manifest
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.quantize import box_arithmetic, network_input, quantize

pytestmark = [
    pytest.mark.workshop,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MakeBundle = Callable[..., Bundle]
SIDE = 64


@pytest.fixture
def network(tmp_path: Path) -> Bundle:
    """Three convolutions, then YOLO's arithmetic: a convolution to one channel, a scale, a sum."""
    onnx = pytest.importorskip("onnx", reason="the test extra brings onnx; tiny networks are made with it")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.2, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["c1"], name="conv1", pads=[1] * 4, strides=[4, 4]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], name="conv3"),
        helper.make_node("Conv", ["c3", "w4"], ["c4"], name="distances"),
        helper.make_node("Add", ["c3", "c4"], ["sum"], name="sum"),
        helper.make_node("Mul", ["sum", "scale"], ["scaled"], name="scale_up"),
        helper.make_node("Reshape", ["scaled", "shape"], ["output0"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 64])],
        [
            weights("w1", 32, 3, 3, 3),
            weights("w2", 64, 32, 3, 3),
            weights("w3", 6, 64, 1, 1),
            weights("w4", 1, 6, 1, 1),
            numpy_helper.from_array(np.full(1, 0.1, np.float32), "scale"),
            numpy_helper.from_array(np.array([1, 6, 64], np.int64), "shape"),
        ],
    )
    folder = tmp_path / "net"
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "net.onnx")
    values = {
        "name": "net",
        "version": "1",
        "licence": "Apache-2.0",
        "layout": "yolov8",
        "classes": ["person", "car"],
        "input_size": SIDE,
        "weights": "net.onnx",
        "sha256": file_sha256(folder / "net.onnx"),
    }
    return write_manifest(folder, Manifest.model_validate(values))


@pytest.fixture
def data(tmp_path: Path, jpeg: Callable[[int, int], bytes]) -> Path:
    root = tmp_path / "data"
    for split, count in (("train", 16), ("val", 3)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(count):
            (root / "images" / split / f"{number:02}.jpg").write_bytes(jpeg(36 + number, 64))
            (root / "labels" / split / f"{number:02}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    return root


def test_what_comes_behind_the_last_layers_is_left_as_it_is(network: Bundle) -> None:
    ov = pytest.importorskip("openvino")
    left = set(box_arithmetic(ov.Core().read_model(network.weights_path)))
    assert {"distances", "sum", "scale_up"} <= left
    assert not {"conv1", "relu1", "conv2", "conv3"} & left


def test_the_bundle_holds_both_forms_and_what_it_cost(network: Bundle, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="needs the extra `workshop` (NNCF)")
    result = quantize(network, data, tmp_path / "int8", version="2", max_loss_points=100)
    made = load_bundle(tmp_path / "int8")
    assert (made.version, made.manifest.int8) == ("2", "net-int8.xml")
    assert set(made.manifest.sha256) == {"net.onnx", "net-int8.xml", "net-int8.bin"}
    assert made.manifest.metrics["int8_size_ratio"] == result.size_ratio
    assert made.manifest.metrics["int8_map_loss"] == result.loss_points
    assert (result.full.precision != "int8", result.int8.precision) == (True, "int8")
    assert sorted(path.name for path in (tmp_path / "int8").iterdir()) == [
        "model.yaml",
        "net-int8.bin",
        "net-int8.xml",
        "net.onnx",
    ]
    outputs = []
    for form in ("full", "int8"):
        settings = EngineSettings.model_validate({"engine": "openvino", "form": form})
        engine = Detector(made, settings).engine
        image = np.random.default_rng(2).integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
        outputs.append(engine.infer([image], lambda output: output.copy()))
    spread = float(np.abs(outputs[0]).max())
    np.testing.assert_allclose(outputs[1], outputs[0], atol=0.1 * spread)
    assert np.abs(outputs[1] - outputs[0]).max() > 0  # it is another network, not a copy
    with pytest.raises(ModelError, match="expected a model that is not quantised yet"):
        quantize(made, data, tmp_path / "again", version="3")


def test_what_cannot_be_quantised_is_said(network: Bundle, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected at least 16 pictures to calibrate on, got 4"):
        quantize(network, data, tmp_path / "few", version="2", pictures=4)
    (network.path / "net.pt").write_bytes(b"pickle")
    values = network.manifest.model_dump(mode="json")
    values |= {"weights": "net.pt", "sha256": file_sha256(network.path / "net.pt"), "engine": "ultralytics"}
    pickled = write_manifest(network.path, Manifest.model_validate(values))
    with pytest.raises(ModelError, match="expected an OpenVINO or ONNX model"):
        quantize(pickled, data, tmp_path / "pt", version="2")


def test_the_network_is_fed_what_the_engine_feeds_it(network: Bundle, data: Path) -> None:
    picture = sorted((data / "images" / "val").iterdir())[0]
    fed = network_input(network, picture)
    assert (fed.shape, fed.dtype) == ((1, 3, SIDE, SIDE), np.float32)
    assert 0 <= fed.min() < fed.max() <= 1
    yolox = write_manifest(network.path, network.manifest.model_copy(update={"layout": Layout.YOLOX}))
    other = network_input(yolox, picture)
    means = fed.mean(axis=(0, 2, 3)), other.mean(axis=(0, 2, 3))
    np.testing.assert_allclose(means[1], 255 * means[0][::-1], rtol=0.02)  # BGR, 0..255
