"""Data sets in the forms that people have them in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from framegrid_serve.bundle import Bundle
from framegrid_serve.dataset import Dataset, class_numbers, label_path, read_dataset, read_picture, truth_of
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.measurement import Pictures, measure, measure_pair

MakeBundle = Callable[..., Bundle]
_SETTINGS = EngineSettings()


@pytest.fixture
def data(tmp_path: Path, jpeg: Callable[[int, int], bytes]) -> Path:
    """Four pictures with a person in the middle, in Ultralytics' folders; two more to calibrate on."""
    root = tmp_path / "data"
    for split, count in (("val", 4), ("train", 2)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for number in range(count):
            (root / "images" / split / f"{number}.jpg").write_bytes(jpeg(36, 64))
            (root / "labels" / split / f"{number}.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [person, dog]\n")
    return root


def test_a_yaml_and_its_folder_give_the_same_pictures(data: Path) -> None:
    by_yaml, by_folder = read_dataset(data / "data.yaml", "val"), read_dataset(data, "val")
    assert [path.name for path in by_yaml.pictures] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert [path.resolve() for path in by_yaml.pictures] == [path.resolve() for path in by_folder.pictures]
    assert (by_yaml.names, by_folder.names) == ({0: "person", 1: "dog"}, {})
    assert by_yaml.is_labelled
    assert [path.name for path in read_dataset(data, "val", limit=2).pictures] == ["0.jpg", "2.jpg"]
    assert len(read_dataset(data / "images" / "val", "val").pictures) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: {0: a}", "expected the key `val`"),
        ("val: gone", "no such folder"),
        ("val: images/val\nnames: 7", "names: expected a list"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_wrong_data_sets_are_told(data: Path, text: str, expected: str) -> None:
    (data / "wrong.yaml").write_text(text)
    with pytest.raises(ModelError, match=expected):
        read_dataset(data / "wrong.yaml", "val")


def test_folders_and_files_that_are_no_pictures_are_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        read_dataset(tmp_path / "gone", "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"expected pictures \(\.jpg"):
        read_dataset(tmp_path / "empty", "val")
    (tmp_path / "x.jpg").write_bytes(b"junk")
    with pytest.raises(ModelError, match="expected a picture"):
        read_picture(tmp_path / "x.jpg")
    label_path(data / "images" / "val" / "0.jpg").write_text("0 a b c d")
    with pytest.raises(ModelError, match="expected lines `class x y width height`"):
        truth_of(data / "images" / "val" / "0.jpg", {0: 0})


def test_labels_are_relative_boxes_of_the_models_own_classes(data: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(np.zeros((1, 6, 3), np.float32), classes=["car", "person"])
    numbers = class_numbers(read_dataset(data / "data.yaml", "val"), bundle)
    assert numbers == {0: 1}  # by name; dogs are not the model's
    truth = truth_of(data / "images" / "val" / "0.jpg", numbers)
    np.testing.assert_allclose(truth.boxes_xyxy, [[0.375, 0.25, 0.625, 0.75]])
    assert truth.class_ids.tolist() == [1]
    with pytest.raises(ModelError, match="expected a data set with classes of car, person, got goat"):
        class_numbers(Dataset((), {0: "goat"}), bundle)


def test_a_model_is_measured_in_a_process_of_its_own(data: Path, make_bundle: MakeBundle) -> None:
    right = np.zeros((1, 6, 3), np.float32)
    right[0, :5, 0] = [32, 32, 16, 18, 0.9]
    good = make_bundle(right)
    blind = make_bundle(np.zeros((1, 6, 3), np.float32), name="blind")
    found, nothing = measure_pair((good, _SETTINGS), (blind, _SETTINGS), Pictures(data))
    assert (found.map50_95, found.map50, found.per_class) == (1.0, 1.0, {"person": 1.0})
    assert (nothing.map50_95, nothing.per_class) == (0.0, {"person": 0.0})
    assert found.pictures == 4
    assert found.digest == good.digest
    assert found.size_bytes == good.weights_path.stat().st_size
    assert found.speed.median_ms > 0
    assert found.speed.peak_bytes > 20_000_000
    for label in (data / "labels" / "val").iterdir():
        label.unlink()
    assert measure(good, Pictures(data)).map50_95 is None


def test_what_goes_wrong_in_that_process_is_told(data: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(np.full((1, 6, 3), np.nan, np.float32))
    with pytest.raises(ModelError, match="expected numbers from the model, got NaN"):
        measure(bundle, Pictures(data))
    with pytest.raises(ModelError, match="no such file or folder"):
        measure(bundle, Pictures(data / "gone"))
