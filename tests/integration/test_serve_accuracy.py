"""Our detections against Ultralytics' own: same weights, same pictures, same evaluation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from framegrid_serve.bundle import Bundle
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.evaluation import Labelled, evaluate, pairwise_iou
from framegrid_serve.preprocess import decode_jpeg
from framegrid_serve.wire import FrameStatus
from framegrid_serve.workshop import import_export, import_pt

pytestmark = [
    pytest.mark.workshop,
    pytest.mark.integration,
    # Ultralytics traces with an API that torch has announced to drop.
    pytest.mark.filterwarnings("ignore::FutureWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

DATA = Path(os.environ.get("FRAMEGRID_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
WEIGHTS = DATA / "weights" / "yolo11n-rebuilt.pt"


@pytest.fixture(scope="module")
def ultralytics() -> Any:
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    module = pytest.importorskip("ultralytics", reason="needs the extra `workshop` (Ultralytics, torch)")
    if not WEIGHTS.is_file():
        pytest.skip(f"needs {WEIGHTS}; set FRAMEGRID_TEST_DATA")
    return module


@pytest.fixture(scope="module")
def bundle(ultralytics: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return import_pt(WEIGHTS, tmp_path_factory.mktemp("models") / "yolo11n", "yolo11n")


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return Detector(bundle, EngineSettings(threads=2, shapes=32, engine="openvino"))


def ours(detector: Detector, picture: Path, min_score: float) -> Labelled:
    (result,) = detector.detect([picture.read_bytes()], min_score)
    assert result.status is FrameStatus.OK
    return Labelled(result.boxes_xyxy, result.class_ids, result.scores)


def theirs(network: Any, picture: Path, min_score: float) -> Labelled:
    # Our own decoding, so that the comparison is of networks and boxes and not of two JPEG decoders.
    image = decode_jpeg(picture.read_bytes(), 640)
    boxes = network.predict(image, conf=min_score, iou=0.7, imgsz=640, verbose=False, device="cpu")[0].boxes
    return Labelled(boxes.xyxyn.numpy(), boxes.cls.numpy().astype(np.int64), boxes.conf.numpy())


def labels_of(picture: Path) -> Labelled:
    path = DATA / "coco128" / "labels" / "val2017" / f"{picture.stem}.txt"
    rows = (
        [[float(value) for value in line.split()] for line in path.read_text().splitlines()]
        if path.is_file()
        else []
    )
    table = np.array(rows, np.float64).reshape(-1, 5)
    half = table[:, 3:] / 2
    boxes = np.concatenate([table[:, 1:3] - half, table[:, 1:3] + half], axis=1)
    return Labelled(boxes, table[:, 0].astype(np.int64), np.ones(len(table)))


def test_accuracy_on_real_pictures_is_that_of_ultralytics(ultralytics: Any, detector: Detector) -> None:
    pictures = sorted((DATA / "coco128" / "images" / "val2017").glob("*.jpg"))
    assert len(pictures) == 128
    network = ultralytics.YOLO(str(WEIGHTS))
    truth = [labels_of(picture) for picture in pictures]
    mine = evaluate([ours(detector, picture, 0.001) for picture in pictures], truth)
    reference = evaluate([theirs(network, picture, 0.001) for picture in pictures], truth)
    print(f"\nours {mine.map50_95:.4f} / {mine.map50:.4f}")
    print(f"Ultralytics {reference.map50_95:.4f} / {reference.map50:.4f}")
    assert reference.map50_95 > 0.4
    assert abs(mine.map50_95 - reference.map50_95) <= 0.005


@pytest.mark.parametrize(("name", "count"), [("bus.jpg", 5), ("zidane.jpg", 3)])
def test_every_box_of_a_photograph_is_found_again(
    ultralytics: Any, detector: Detector, name: str, count: int
) -> None:
    picture = Path(ultralytics.__file__).parent / "assets" / name
    mine = ours(detector, picture, 0.4)
    reference = theirs(ultralytics.YOLO(str(WEIGHTS)), picture, 0.4)
    assert len(mine.scores) == len(reference.scores) == count
    overlap = pairwise_iou(mine.boxes_xyxy, reference.boxes_xyxy)
    match = overlap.argmax(axis=1)
    assert sorted(match) == list(range(count))
    assert (overlap.max(axis=1) > 0.95).all()
    assert (mine.class_ids == reference.class_ids[match]).all()
    np.testing.assert_allclose(mine.scores, reference.scores[match], atol=0.03)  # bfloat16


def test_the_engine_for_pt_files_agrees_with_ultralytics(
    ultralytics: Any, bundle: Bundle, tmp_path: Path
) -> None:
    import shutil

    from framegrid_serve.bundle import file_sha256, write_manifest

    shutil.copyfile(WEIGHTS, tmp_path / "yolo11n.pt")
    changes = {
        "weights": "yolo11n.pt",
        "sha256": file_sha256(tmp_path / "yolo11n.pt"),
        "size_bytes": WEIGHTS.stat().st_size,
        "engine": "ultralytics",
    }
    detector = Detector(write_manifest(tmp_path, bundle.manifest.model_copy(update=changes)))
    picture = Path(ultralytics.__file__).parent / "assets" / "bus.jpg"
    mine, reference = ours(detector, picture, 0.4), theirs(ultralytics.YOLO(str(WEIGHTS)), picture, 0.4)
    order = np.argsort(-reference.scores)
    np.testing.assert_allclose(mine.scores, reference.scores[order], atol=1e-3)
    np.testing.assert_allclose(mine.boxes_xyxy, reference.boxes_xyxy[order], atol=2e-3)
    assert detector.engine.name == "ultralytics"


def test_a_foreign_export_is_imported_and_sees_the_same(
    ultralytics: Any, detector: Detector, tmp_path: Path
) -> None:
    foreign = import_export(
        DATA / "weights" / "yolo11n_int8_openvino_model", tmp_path / "int8", "yolo11n-int8"
    )
    assert (foreign.manifest.precision, foreign.manifest.dynamic) == ("int8", False)
    assert foreign.manifest.licence.startswith("AGPL-3.0")
    picture = Path(ultralytics.__file__).parent / "assets" / "bus.jpg"
    found = ours(Detector(foreign), picture, 0.5)
    reference = ours(detector, picture, 0.5)
    strongest = pairwise_iou(reference.boxes_xyxy[:4], found.boxes_xyxy)
    assert (strongest.max(axis=1) > 0.8).all()
