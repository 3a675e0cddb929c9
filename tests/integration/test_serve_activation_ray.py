"""Activation on a real Ray Serve, under load: swaps, broken candidates, a slow one rolled back, a shadow."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import simplejpeg
from framegrid_serve.activation import activate, running_serve
from framegrid_serve.bundle import Bundle
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.library import Library
from framegrid_serve.trial import try_bundle
from framegrid_serve.wire import CONTENT_TYPE, DetectRequest, Frame, decode_response, encode_request
from people.api import SIZE, one_person, write_bundle
from people.served import Served

pytestmark = pytest.mark.integration

WATCH = {"window_s": 30, "min_frames": 50, "max_latency_ratio": 5.0}


class Stage:
    """A library, a serve on it, and clients that never stop asking."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = Library(folder / "models")
        self.state_dir = folder / "state"
        self.keep("1", 0.5)
        models = [{"name": "gate", "path": "models/gate"}]
        self.served = Served(folder, models, watch=WATCH)
        self.served.ready_line()
        self.seen: list[tuple[int, str, float]] = []  # status, version, score
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def keep(self, version: str, score: float, **options: Any) -> Bundle:
        with self.library.workspace() as folder:
            made = write_bundle(folder / "bundle", one_person(score), name="gate", version=version, **options)
            return self.library.keep(made)

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
        answer = httpx.get(f"http://127.0.0.1:{self.served.port}/v1/models", timeout=10.0)
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
        self.served.stop()

    def _ask(self) -> None:
        picture = simplejpeg.encode_jpeg(np.full((36, SIZE, 3), 90, np.uint8), colorspace="BGR")
        frames = (Frame("gate", 1, picture), Frame("yard", 1, picture))
        content = encode_request(DetectRequest(frames, timeout_ms=20_000))
        with httpx.Client(base_url=f"http://127.0.0.1:{self.served.port}", timeout=30.0) as client:
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
    stage.served.process.send_signal(signal.SIGHUP)
    stage.wait(lambda: "got NaN or infinity" in stage.told().get("problem", ""))
    assert stage.told()["version"] == before
    damaged = stage.keep("damaged", 0.8)
    stage.library.activate(damaged, by="test")
    damaged.weights_path.write_bytes(b"damaged on its way")
    stage.served.process.send_signal(signal.SIGHUP)
    stage.wait(lambda: "everything stays as it is" in stage.served.log.read_text())
    assert stage.told()["version"] == before
    good = next(b for b in stage.library.versions("gate") if b.name == f"gate@{before}")
    from framegrid_serve.bundle import load_bundle

    stage.library.activate(load_bundle(good), by="test")
    stage.served.process.send_signal(signal.SIGHUP)
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
    stage.served.process.send_signal(signal.SIGHUP)
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
    stage.served.process.send_signal(signal.SIGHUP)
    stage.wait(lambda: "shadow" not in stage.told())


def test_the_note_of_a_running_serve_goes_with_it(stage: Stage) -> None:
    note = stage.state_dir / "serve.json"
    assert json.loads(note.read_text())["replicas"] == 1
    stage.stop()
    assert not note.exists()
    assert running_serve(stage.state_dir) is None
