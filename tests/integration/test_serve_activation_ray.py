"""Activation on a real Ray Serve, under load: swaps, broken candidates, a slow one rolled back, a shadow."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import simplejpeg
import yaml
from framegrid_local import ports
from framegrid_serve.activation import activate, running_serve
from framegrid_serve.bundle import Bundle, Manifest, file_sha256, write_manifest
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.library import Library
from framegrid_serve.trial import try_bundle
from framegrid_serve.wire import CONTENT_TYPE, DetectRequest, Frame, decode_response, encode_request

onnx = pytest.importorskip("onnx", reason="needs onnx (the test extra) to make tiny networks")

pytestmark = pytest.mark.integration

START_TIMEOUT_S = 180.0
SIZE = 64
WATCH = {"window_s": 30, "min_frames": 50, "max_latency_ratio": 5.0}


def write_network(path: Path, score: float, *, work: int = 0) -> None:
    """Sees one person in the middle of any picture; `work` matrices of 256 x 256 are multiplied first."""
    from onnx import TensorProto, helper, numpy_helper

    output = np.zeros((1, 6, 8), np.float32)
    output[0, :5, 0] = [SIZE / 2, SIZE / 2, SIZE / 4, SIZE / 2, score]
    square = np.eye(256, dtype=np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "square"], ["work0"]),
    ]
    nodes += [helper.make_node("MatMul", [f"work{n}", "square"], [f"work{n + 1}"]) for n in range(work)]
    nodes += [
        helper.make_node("ReduceMean", [f"work{work}", "both"], ["small"], keepdims=0),
        helper.make_node("Mul", ["small", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, list(output.shape))],
        [
            numpy_helper.from_array(output, "answer"),
            numpy_helper.from_array(square, "square"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.arange(4, dtype=np.int64), "axes"),
            numpy_helper.from_array(np.arange(2, dtype=np.int64), "both"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


class Stage:
    """A library, a serve on it, and clients that never stop asking."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = Library(folder / "models")
        self.state_dir = folder / "state"
        self.keep("1", 0.5)
        self.port = ports.free_port()
        self.config = folder / "serve.yaml"
        settings = {
            "http_port": self.port,
            "queue_frames": 64,
            "state_dir": "state",
            "watch": WATCH,
            "models": [{"name": "gate", "path": "models/gate"}],
        }
        self.config.write_text(yaml.safe_dump(settings))
        self.log = folder / "serve.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "framegrid_serve", "--config", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_TIMEOUT_S)
        line = self.process.stdout.readline() if readable else b""
        assert line, f"no ready line; stderr:\n{self.log.read_text()[-3000:]}"
        self.seen: list[tuple[int, str, float]] = []  # status, version, score
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def keep(self, version: str, score: float, **options: Any) -> Bundle:
        with self.library.workspace() as folder:
            made = folder / "bundle"
            made.mkdir()
            write_network(made / "tiny.onnx", score, **options)
            manifest = Manifest(
                name="gate",
                version=version,
                licence="Apache-2.0",
                layout="yolov8",
                classes=("person", "car"),
                input_size=SIZE,
                weights="tiny.onnx",
                sha256=file_sha256(made / "tiny.onnx"),
            )
            return self.library.keep(write_manifest(made, manifest))

    def activate(self, bundle: Bundle, **options: Any) -> float:
        """Seconds from telling serve until every replica answers with the bundle."""
        said: list[str] = []
        serve = running_serve(self.state_dir)
        assert serve is not None
        cache_dir = self.state_dir / "compiled"
        options = {"watch_s": 0.0, **options}
        activate(
            self.library,
            bundle,
            by="test",
            serve=serve,
            force="a test",
            cache_dir=cache_dir,
            say=said.append,
            **options,
        )
        return float(said[1].split()[2])

    def told(self) -> dict[str, Any]:
        answer = httpx.get(f"http://127.0.0.1:{self.port}/v1/models", timeout=10.0)
        return dict(answer.json()["models"][0])

    def wait(self, condition: Callable[[], object], timeout_s: float = 60.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, f"not in time; serve says {self.told()}"
            time.sleep(0.1)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self.process.terminate()
        assert self.process.stdout is not None
        self.process.wait(60)
        self.process.stdout.close()

    def _ask(self) -> None:
        picture = simplejpeg.encode_jpeg(np.full((36, SIZE, 3), 90, np.uint8), colorspace="BGR")
        frames = (Frame("gate", 1, picture), Frame("yard", 1, picture))
        content = encode_request(DetectRequest(frames, timeout_ms=20_000))
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30.0) as client:
            while not self._stop.wait(0.01):
                try:
                    answer = client.post(
                        "/v1/detect", content=content, headers={"Content-Type": CONTENT_TYPE}
                    )
                except httpx.HTTPError:
                    self.seen.append((0, "", 0.0))
                    continue
                version, score = "", 0.0
                if answer.status_code == 200:
                    response = decode_response(answer.content)
                    version, score = response.version, float(response.results[0].scores[0])
                self.seen.append((answer.status_code, version, round(score, 3)))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("activation"))
    yield stage
    stage.stop()


def test_ten_activations_lose_no_request(stage: Stage) -> None:
    bundles = [stage.keep("2", 0.6), stage.keep("3", 0.7)]
    for bundle in bundles:  # as `framegrid model gate` has done long before
        try_bundle(bundle, EngineSettings(), passed_dir=stage.state_dir / "compiled")
    took_s = [stage.activate(bundles[turn % 2]) for turn in range(10)]
    print(f"\nactivations: {sorted(took_s)} s, {len(stage.seen)} answers")
    assert {status for status, _, _ in stage.seen} == {200}
    # Never an answer of one version under the name of another.
    assert {(version, score) for _, version, score in stage.seen} == {("1", 0.5), ("2", 0.6), ("3", 0.7)}
    assert len(stage.library.history("gate")) == 10


def test_a_broken_candidate_changes_nothing(stage: Stage) -> None:
    before = stage.told()["version"]
    nan = stage.keep("nan", float("nan"))
    with pytest.raises(ModelError, match="got NaN or infinity"):
        stage.activate(nan)
    # Past the command's own checks, as a hand-made config would come: the replica has the same checks.
    stage.library.activate(nan, by="test")
    stage.process.send_signal(signal.SIGHUP)
    stage.wait(lambda: "got NaN or infinity" in stage.told().get("problem", ""))
    assert stage.told()["version"] == before
    damaged = stage.keep("damaged", 0.8)
    stage.library.activate(damaged, by="test")
    damaged.weights_path.write_bytes(b"damaged on its way")
    stage.process.send_signal(signal.SIGHUP)
    stage.wait(lambda: "everything stays as it is" in stage.log.read_text())
    assert stage.told()["version"] == before
    good = next(b for b in stage.library.versions("gate") if b.name == f"gate@{before}")
    from framegrid_serve.bundle import load_bundle

    stage.library.activate(load_bundle(good), by="test")
    stage.process.send_signal(signal.SIGHUP)
    stage.wait(lambda: "problem" not in stage.told())
    assert {status for status, _, _ in stage.seen} == {200}


def test_a_slow_model_is_rolled_back_by_itself(stage: Stage) -> None:
    before = stage.told()["version"]
    slow = stage.keep("slow", 0.9, work=150)
    with pytest.raises(
        ModelError, match=f"version slow was rolled back to {before}: median time of the engine"
    ):
        stage.activate(slow, watch_s=60.0)
    assert stage.told()["version"] == before
    folder = stage.library.active("gate")
    assert folder is not None
    assert folder.name == f"gate@{before}"
    assert "rolled back" in stage.library.history("gate")[-1].reason
    assert {status for status, _, _ in stage.seen} == {200}


def test_a_shadow_sees_live_frames_and_answers_nobody(stage: Stage) -> None:
    before = stage.told()["version"]
    other = stage.keep("shadow", 0.95)
    stage.library.set_shadow("gate", other, 0.5)
    stage.process.send_signal(signal.SIGHUP)
    stage.wait(lambda: stage.told().get("shadow", {}).get("frames", 0) > 20)
    told = stage.told()
    assert (told["version"], told["shadow"]["version"], told["shadow"]["agreement"]) == (
        before,
        "shadow",
        1.0,
    )
    assert told["shadow"]["p95_ms"] > 0
    assert "shadow" not in {version for _, version, _ in stage.seen}
    stage.library.set_shadow("gate", None)
    stage.process.send_signal(signal.SIGHUP)
    stage.wait(lambda: "shadow" not in stage.told())


def test_the_note_of_a_running_serve_goes_with_it(stage: Stage) -> None:
    note = stage.state_dir / "serve.json"
    assert json.loads(note.read_text())["replicas"] == 1
    stage.stop()
    assert not note.exists()
    assert running_serve(stage.state_dir) is None
