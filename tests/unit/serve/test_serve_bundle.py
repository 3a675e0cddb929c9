"""Bundles: what is verified, and what is said when something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from framegrid_serve.bundle import Bundle, check_output_shape, load_bundle, rect_shape
from framegrid_serve.detector import Detector
from framegrid_serve.errors import ModelError

OUTPUT = np.zeros((1, 6, 3), np.float32)  # YOLOv8 layout: 4 + 2 classes
MakeBundle = Callable[..., Bundle]


def edited(bundle: Bundle, **changes: object) -> Path:
    path = bundle.path / "model.yaml"
    values = yaml.safe_load(path.read_text())
    values.update(changes)
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return bundle.path


def message(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_bundle(folder)
    return str(caught.value)


def test_a_good_bundle_loads_with_its_digest(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(OUTPUT)
    assert bundle.digest == bundle.manifest.sha256
    assert (bundle.name, bundle.version, bundle.classes) == ("tiny", "1", ("person", "car"))
    assert bundle.manifest.thresholds.iou == 0.7


def test_a_wrong_digest_names_the_file_and_both_digests(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(OUTPUT)
    bundle.weights_path.write_bytes(b"replaced")
    text = message(bundle.path)
    assert text.startswith(f"{bundle.weights_path}: expected sha256 {bundle.digest}, got ")
    assert text.endswith("fetch the bundle again or correct model.yaml")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"layout": "yolo99"}, "layout: expected one of yolov8, yolo26, yolox, yolox-decoded, got 'yolo99'"),
        ({"licence": None}, "licence: this key is missing; add it"),
        ({"licens": "x"}, "licens: unknown key; allowed are name, version, licence,"),
        ({"input_size": 100}, "input_size: Value error, expected a multiple of 32, got 100"),
        ({"weights": "../../etc/passwd"}, "expected a file inside the bundle, got '../../etc/passwd'"),
        ({"weights": "/etc/passwd"}, "expected a file inside the bundle, got '/etc/passwd'"),
        ({"weights": "tiny.h5"}, "weights: expected a file ending in .onnx, .xml, .pt, got 'tiny.h5'"),
        ({"weights": "gone.onnx"}, "gone.onnx: cannot be read (No such file or directory)"),
        ({"weights": "tiny.xml", "sha256": "0" * 64}, "sha256: expected a digest for tiny.bin;"),
        ({"engine": "tensorflow"}, "expected one of openvino, onnxruntime, ultralytics or nothing"),
        ({"classes": []}, "classes: "),
        ({"thresholds": {"score": 2}}, "thresholds.score: "),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_each_mistake_in_the_manifest_has_its_message(
    make_bundle: MakeBundle, changes: dict[str, object], expected: str
) -> None:
    assert expected in message(edited(make_bundle(OUTPUT), **changes))


def test_a_folder_that_is_no_bundle_says_what_it_is(tmp_path: Path) -> None:
    assert "no such folder" in message(tmp_path / "nowhere")
    assert "no model.yaml in this folder" in message(tmp_path)
    (tmp_path / "metadata.yaml").write_text("names: {0: person}")
    assert "an export without model.yaml; import it first" in message(tmp_path)
    (tmp_path / "model.yaml").write_text("[1, 2]")
    assert "expected keys and values, got list" in message(tmp_path)
    (tmp_path / "model.yaml").write_text("a: [")
    assert "not readable as YAML" in message(tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"classes": ["person"]},
            "layout yolov8 with 1 classes: expected an output of (1, 5, n), got [1, 6, 3]",
        ),
        ({"layout": "yolo26", "classes": ["person"]}, "expected an output of (1, n, 6), got [1, 6, 3]"),
        ({"layout": "yolox"}, "layout yolox with 2 classes: expected an output of (1, n, 7), got [1, 6, 3]"),
        ({"input_size": 96}, "expected an input of [1, 3, 96, 96] (not dynamic), got [1, 3, 64, 64]"),
    ],
    ids=["classes", "yolo26", "yolox", "size"],
)
def test_a_manifest_that_does_not_fit_the_network_is_refused(
    make_bundle: MakeBundle, changes: dict[str, object], expected: str
) -> None:
    folder = edited(make_bundle(OUTPUT), **changes)
    with pytest.raises(ModelError) as caught:
        Detector(load_bundle(folder))
    assert expected in str(caught.value)


def test_free_dimensions_of_an_output_fit_any_count(make_bundle: MakeBundle) -> None:
    check_output_shape(make_bundle(OUTPUT), (-1, 6, -1))


def test_weights_that_are_no_network_are_refused(make_bundle: MakeBundle) -> None:
    from framegrid_serve.bundle import file_sha256

    bundle = make_bundle(OUTPUT)
    bundle.weights_path.write_bytes(b"not a network")
    for engine in ("openvino", "onnxruntime"):
        folder = edited(bundle, sha256=file_sha256(bundle.weights_path), engine=engine)
        with pytest.raises(ModelError, match=r"tiny\.onnx: not readable by"):
            Detector(load_bundle(folder))


def test_a_pt_is_opened_only_when_the_engine_is_named(make_bundle: MakeBundle) -> None:
    from framegrid_serve.bundle import file_sha256

    bundle = make_bundle(OUTPUT)
    (bundle.path / "tiny.pt").write_bytes(b"a pickle, perhaps")
    folder = edited(bundle, weights="tiny.pt", sha256=file_sha256(bundle.path / "tiny.pt"))
    with pytest.raises(ModelError, match=r"a \.pt is opened only by `engine: ultralytics`"):
        Detector(load_bundle(folder))


def test_a_network_that_answers_nan_is_refused(make_bundle: MakeBundle) -> None:
    with pytest.raises(ModelError, match="expected numbers from the model, got NaN or infinity"):
        Detector(make_bundle(np.full((1, 6, 3), np.nan, np.float32)))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1080, 1920, (384, 640)),
        (360, 640, (384, 640)),
        (640, 640, (640, 640)),
        (480, 640, (480, 640)),
        (1920, 1080, (640, 384)),
        (1, 5000, (32, 640)),
        (240, 320, (480, 640)),
    ],
)
def test_the_network_input_is_the_smallest_rectangle_of_32s(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    assert rect_shape(height, width, 640) == expected
