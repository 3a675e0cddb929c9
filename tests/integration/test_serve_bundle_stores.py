"""Bundles through a real S3 server and a real MLflow registry, as `framegrid model publish` and `pull` do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from bundles import servers
from framegrid_serve import mlflow_registry
from framegrid_serve.archive import files_of
from framegrid_serve.bundle import Bundle, Manifest, file_sha256, write_manifest
from framegrid_serve.errors import ModelError
from framegrid_serve.library import Library
from framegrid_serve.publishing import publish
from framegrid_serve.sources import fetch, store_of

onnx = pytest.importorskip("onnx", reason="needs onnx (the test extra) to make tiny networks")
pytest.importorskip("obstore", reason="needs the extra `objectstore`")
pytest.importorskip("mlflow", reason="needs the extra `mlflow`")

pytestmark = [
    pytest.mark.integration,
    # Of MLflow's client; nothing of ours.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MakeBundle = Callable[[str, float], Bundle]


@pytest.fixture
def make(tmp_path: Path) -> MakeBundle:
    def made(version: str, value: float) -> Bundle:
        from onnx import TensorProto, helper, numpy_helper

        folder = tmp_path / f"made-{version}-{value}"
        folder.mkdir()
        answer = numpy_helper.from_array(np.full((1, 6, 3), value, np.float32), "answer")
        graph = helper.make_graph(
            [helper.make_node("Identity", ["answer"], ["output0"])],
            "constant",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
            [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 3])],
            [answer],
        )
        onnx.save(helper.make_model(graph), folder / "tiny.onnx")
        values = {
            "name": "gate",
            "version": version,
            "licence": "Apache-2.0",
            "layout": "yolov8",
            "classes": ["person", "car"],
            "input_size": 64,
            "weights": "tiny.onnx",
            "sha256": file_sha256(folder / "tiny.onnx"),
            "metrics": {"map50_95": 0.5, "measured": "by hand"},
        }
        return write_manifest(folder, Manifest.model_validate(values))

    return made


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3")
    with servers.s3(folder) as url, pytest.MonkeyPatch.context() as patch:
        for key, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }.items():
            patch.setenv(key, value)
        assert httpx.put(f"{url}/models").is_success
        yield "s3://models"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with servers.mlflow(folder) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", url)
        yield url


def test_s3_takes_a_bundle_and_gives_it_back_pinned(bucket: str, make: MakeBundle, tmp_path: Path) -> None:
    bundle = make("4", 0.25)
    address = publish(bundle, f"{bucket}/shop")
    assert address.startswith("s3://models/shop/gate-4.tar#sha256=")
    assert fetch(address, tmp_path / "a").digest == bundle.digest
    assert publish(bundle, f"{bucket}/shop") == address  # again: nothing to do
    with pytest.raises(ModelError, match="this version is there already with other contents"):
        publish(make("4", 0.5), f"{bucket}/shop")
    library = Library(tmp_path / "models")
    assert library.add(address).path == tmp_path / "models" / "gate@4"


def test_s3_also_serves_a_bundle_that_lies_there_as_a_folder(
    bucket: str, make: MakeBundle, tmp_path: Path
) -> None:
    bundle = make("5", 0.25)
    store, _ = store_of(bucket)
    for file in files_of(bundle):
        store.put_file(str(file), f"models/folder/gate/{file.name}")
    assert fetch(f"{bucket}/folder/gate/", tmp_path / "a").digest == bundle.digest


def test_an_object_that_was_replaced_in_s3_is_refused(bucket: str, make: MakeBundle, tmp_path: Path) -> None:
    address = publish(make("6", 0.25), f"{bucket}/attacked")
    store, _ = store_of(bucket)
    contents = bytearray(store.cat_file("models/attacked/gate-6.tar"))
    contents[600] ^= 1
    store.pipe_file("models/attacked/gate-6.tar", bytes(contents))
    with pytest.raises(ModelError, match="not the file that was pinned"):
        fetch(address, tmp_path / "a")
    with pytest.raises(ModelError, match=r"gone\.tar: cannot be fetched"):
        fetch(f"{bucket}/gone.tar", tmp_path / "b")


def test_mlflow_keeps_parameters_metrics_archive_and_aliases(
    registry: str, make: MakeBundle, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    one, two = make("1", 0.25), make("2", 0.5)
    first, second = publish(one, "mlflow"), publish(two, "mlflow")
    assert (first, second) == ("models:/gate/1", "models:/gate/2")
    assert fetch(first, tmp_path / "a").digest == one.digest
    assert fetch("models:/gate@candidate", tmp_path / "b").digest == two.digest
    client = MlflowClient()
    version = client.get_model_version("gate", "2")
    run = client.get_run(version.run_id)
    assert run.data.metrics == {"map50_95": 0.5}
    assert run.data.params["licence"] == "Apache-2.0"
    assert (run.data.params["input_size"], run.data.params["classes"]) == ("64", "2")
    assert version.tags["digest"] == two.digest


def test_mlflow_knows_who_activated_what(registry: str, make: MakeBundle, tmp_path: Path) -> None:
    library = Library(tmp_path / "models")
    one = library.keep(make("1", 0.25))
    two = library.keep(make("2", 0.5))
    for bundle in (one, two):
        publish(bundle, "mlflow")
    before = len(mlflow_registry.history("gate"))
    mlflow_registry.record(library.activate(two, by="ada", reason="sees goats"))
    assert fetch("models:/gate@champion", tmp_path / "a").digest == two.digest
    mlflow_registry.record(library.activate(one, by="bob", action="rollback", reason="too slow"))
    assert fetch("models:/gate@champion", tmp_path / "b").digest == one.digest
    told = mlflow_registry.history("gate")[before:]
    assert [(one.version, one.previous, one.by, one.action, one.reason) for one in told] == [
        ("2", "1", "ada", "activate", "sees goats"),
        ("1", "2", "bob", "rollback", "too slow"),
    ]


def test_what_is_not_in_the_registry_is_said(registry: str, make: MakeBundle, tmp_path: Path) -> None:
    for address in ("models:/nobody@champion", "models:/nobody/7"):
        with pytest.raises(ModelError, match="cannot fetch from the MLflow registry"):
            fetch(address, tmp_path / address[-1])
    with pytest.raises(ModelError, match="expected models:/NAME@ALIAS"):
        fetch("models:/gate", tmp_path / "x")
    library = Library(tmp_path / "models")
    alone = library.keep(make("99", 0.75))
    with pytest.raises(ModelError, match="publish it first"):
        mlflow_registry.record(library.activate(alone, by="ada"))


def test_a_registry_that_is_away_is_one_line(make: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ModelError) as caught:
        publish(make("1", 0.25), "mlflow")
    assert "secret" not in str(caught.value)
    assert os.linesep not in str(caught.value)
