"""The config file, finding models, importing exports, and the evaluator."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from framegrid_serve import workshop
from framegrid_serve.bundle import Bundle, load_bundle
from framegrid_serve.errors import ModelError, StartError
from framegrid_serve.evaluation import Labelled, evaluate
from framegrid_serve.node import check_port_free, free_port_range, free_ports
from framegrid_serve.settings import read_settings, serving_config

MakeBundle = Callable[..., Bundle]
OUTPUT = np.zeros((1, 6, 3), np.float32)


def config(folder: Path, **values: Any) -> Path:
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump({"models": [{"name": "tiny", "path": "tiny"}], **values}))
    return path


def test_a_config_finds_its_models_beside_itself(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(OUTPUT)
    settings = read_settings(config(bundle.path.parent, http_port=8123))
    served = serving_config(settings)
    assert settings.state_dir == bundle.path.parent / ".framegrid" / "serve"
    assert (settings.http_port, served.default) == (8123, "tiny")
    assert (served.models[0].path, served.models[0].digest) == (bundle.path, bundle.digest)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"htpp_port": 1}, "htpp_port: unknown key; allowed are http_host, http_port, replicas,"),
        ({"http_port": 0}, "http_port: Input should be greater than or equal to 1, got 0"),
        ({"models": []}, "models: "),
        ({"models": [{"name": "a", "pth": "x"}]}, "models.0.pth: unknown key; allowed are name, path"),
        ({"people": {"surprise": 1}}, "people.surprise: unknown key; allowed are enabled, max_image_bytes"),
        ({"models": [{"name": "A B"}]}, "models.0.name: "),
        ({"autoscaling": {"target": 1}}, "autoscaling.target: unknown key; allowed are upscale_delay_s,"),
        ({"replicas": 3, "max_replicas": 2}, "max_replicas: expected at least replicas (3), got 2; or leave"),
    ],
    ids=["unknown", "bound", "empty", "nested", "people", "name", "autoscaling", "range"],
)
def test_each_mistake_in_the_config_has_its_message(tmp_path: Path, values: Any, expected: str) -> None:
    path = config(tmp_path, **values)
    with pytest.raises(StartError) as caught:
        read_settings(path)
    assert f"{path}: {expected}" in str(caught.value)


def test_unreadable_configs_say_so(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(StartError, match="not readable as YAML"):
        read_settings(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("[]")
    with pytest.raises(StartError, match="expected keys and values, got list"):
        read_settings(tmp_path / "list.yaml")


def test_a_model_that_is_not_there_is_named(make_bundle: MakeBundle) -> None:
    folder = make_bundle(OUTPUT).path.parent
    with pytest.raises(StartError, match=r"model tiny: .*gone: no such folder"):
        serving_config(read_settings(config(folder, models=[{"name": "tiny", "path": "gone"}])))
    with pytest.raises(StartError, match="default_model: expected one of tiny, got 'nope'"):
        serving_config(read_settings(config(folder, default_model="nope")))


def test_a_name_is_found_in_the_models_folder_by_path_or_not_at_all(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(OUTPUT)
    assert workshop.resolve("tiny", bundle.path.parent) == bundle.path
    assert workshop.resolve(bundle.path) == bundle.path
    with pytest.raises(ModelError, match=r"model 'nope': not found; known here: .*tiny"):
        workshop.resolve("nope", bundle.path.parent)
    with pytest.raises(ModelError, match=r"\.\./tiny: no such folder"):
        workshop.resolve("../tiny", bundle.path.parent)


def test_official_names_are_pulled_and_only_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled: list[str] = []

    def pull(name: str, models_dir: Path) -> Any:
        pulled.append(name)
        raise ModelError("no network here")

    monkeypatch.setattr(workshop, "pull", pull)
    with pytest.raises(ModelError, match="no network here"):
        workshop.resolve("yolo11n", tmp_path)
    with pytest.raises(ModelError, match="not found"):
        workshop.resolve("yolo11n", tmp_path, fetch=False)
    with pytest.raises(ModelError, match="not found"):
        workshop.resolve("my-own", tmp_path)
    assert pulled == ["yolo11n"]


def export(folder: Path, **metadata: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "m.xml").write_text("<net/>")
    (folder / "m.bin").write_bytes(b"weights")
    values = {
        "names": {0: "goat standing", 1: "goat lying"},
        "imgsz": [320, 320],
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "task": "detect",
        **metadata,
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_a_foreign_export_becomes_a_bundle(tmp_path: Path) -> None:
    source = export(tmp_path / "export", args={"dynamic": True, "half": True})
    bundle = workshop.import_export(source, tmp_path / "models" / "goats", "Goats!", version="3")
    manifest = load_bundle(tmp_path / "models" / "goats").manifest
    assert bundle.path == tmp_path / "models" / "goats"
    assert (manifest.name, manifest.version, manifest.licence) == ("goats-", "3", "AGPL-3.0")
    assert manifest.classes == ("goat standing", "goat lying")
    assert (manifest.input_size, manifest.dynamic, manifest.precision) == (320, True, "fp16")
    assert manifest.sha256 == {
        "m.bin": hashlib.sha256(b"weights").hexdigest(),
        "m.xml": hashlib.sha256(b"<net/>").hexdigest(),
    }
    assert sorted(path.name for path in bundle.path.iterdir()) == ["m.bin", "m.xml", "model.yaml"]


def test_importing_again_replaces_the_bundle_and_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "models" / "goats"
    workshop.import_export(export(tmp_path / "one"), out, "goats", version="1")
    workshop.import_export(export(tmp_path / "two", end2end=True), out, "goats", version="2")
    assert (load_bundle(out).version, load_bundle(out).manifest.layout.value) == ("2", "yolo26")
    assert [path.name for path in out.parent.iterdir()] == ["goats"]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"task": "segment"}, "expected task detect, got 'segment'"),
        ({"names": ["person"]}, "expected `names`, a mapping of class number to name"),
        ({"imgsz": [320, 640]}, "expected a square input or a dynamic export"),
    ],
    ids=["task", "names", "shape"],
)
def test_exports_that_cannot_be_served_are_refused(tmp_path: Path, metadata: Any, expected: str) -> None:
    source = export(tmp_path / "export", **metadata)
    with pytest.raises(ModelError) as caught:
        workshop.import_export(source, tmp_path / "out", "m")
    assert expected in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_taken_port_is_refused_with_advice() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            StartError, match=f"http_port {port} on 127.0.0.1: Address already in use; stop what"
        ):
            check_port_free("127.0.0.1", port)


def test_ports_for_the_side_are_different_and_below_the_ephemeral_range() -> None:
    assert len(set(free_ports(5))) == 5
    assert 10_000 <= free_port_range(200) <= 32_000 - 200


def boxes(*rows: tuple[float, ...]) -> Labelled:
    """Rows of x1 y1 x2 y2 class score."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Labelled(table[:, :4], table[:, 4].astype(int), table[:, 5])


def test_perfect_detections_have_an_accuracy_of_one() -> None:
    truth = [boxes((0, 0, 10, 10, 0, 1), (20, 20, 30, 30, 1, 1)), boxes((5, 5, 9, 9, 0, 1))]
    accuracy = evaluate(truth, truth)
    assert (accuracy.map50_95, accuracy.map50) == (pytest.approx(1.0), pytest.approx(1.0))
    assert accuracy.per_class == {0: pytest.approx(1.0), 1: pytest.approx(1.0)}


def test_misses_doubles_and_loose_boxes_cost_what_coco_says() -> None:
    truth = [boxes((0, 0, 10, 10, 0, 1), (20, 0, 30, 10, 0, 1))]
    # One of two found: precision 1 up to recall 0.5, which is 51 of 101 points.
    assert evaluate([boxes((0, 0, 10, 10, 0, 0.9))], truth).map50 == pytest.approx(51 / 101)
    # A double between them counts as false: precision 2/3 for the second half.
    doubled = [boxes((0, 0, 10, 10, 0, 0.9), (0, 0, 10, 10, 0, 0.8), (20, 0, 30, 10, 0, 0.7))]
    assert evaluate(doubled, truth).map50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    # An IoU of 0.7 counts up to the threshold of 0.7: 5 of 10.
    loose = [boxes((0, 0, 10, 7.001, 0, 0.9), (20, 0, 30, 7.001, 0, 0.8))]
    assert evaluate(loose, truth).map50_95 == pytest.approx(0.5)


def test_nothing_found_is_zero_and_no_truth_is_an_error() -> None:
    truth = [boxes((0, 0, 10, 10, 0, 1))]
    assert evaluate([boxes()], truth).map50_95 == 0.0
    with pytest.raises(ValueError, match="at least one true box"):
        evaluate(truth, [boxes()])
    with pytest.raises(ValueError, match="as many pictures"):
        evaluate(truth, truth * 2)
