"""The engine that only waits, and the seam through which serve finds it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from framegrid_load.synthetic import write_bundle
from framegrid_serve.bundle import load_bundle
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.wire import FrameStatus

ENGINE = "framegrid_load.synthetic"


def test_answers_every_picture_after_its_stated_time(tmp_path: Path) -> None:
    detector = Detector(write_bundle(tmp_path, 30.0), EngineSettings(threads=3, engine=ENGINE))
    assert (detector.engine.name, detector.streams, detector.max_batch) == ("synthetic", 3, 1)
    started_s, worked_s = time.monotonic(), time.process_time()
    (result,) = detector.detect_images([np.zeros((360, 640, 3), np.uint8)])
    assert result.status is FrameStatus.OK
    assert len(result.scores) == 1
    assert time.monotonic() - started_s >= 0.03
    assert time.process_time() - worked_s < time.monotonic() - started_s


def test_another_service_time_is_another_digest(tmp_path: Path) -> None:
    digests = {write_bundle(tmp_path / str(ms), ms).digest for ms in (10.0, 20.0)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    "text", ["", "<synthetic/>", '<synthetic service_ms="-1"/>', '<synthetic service_ms="x"/>']
)
def test_refuses_weights_without_a_service_time(tmp_path: Path, text: str) -> None:
    bundle = write_bundle(tmp_path, 1.0)
    bundle.weights_path.write_text(text)
    with pytest.raises(ModelError, match="service_ms"):
        Detector(bundle, EngineSettings(engine=ENGINE))


def test_a_bundle_cannot_name_a_module(tmp_path: Path) -> None:
    write_bundle(tmp_path, 1.0)
    manifest = tmp_path / "model.yaml"
    manifest.write_text(manifest.read_text() + f"engine: {ENGINE}\n")
    with pytest.raises(ModelError, match="expected one of openvino"):
        load_bundle(tmp_path)


def test_a_module_has_to_say_that_it_holds_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "some.module", ModuleType("some.module"))
    monkeypatch.setitem(sys.modules, "some", ModuleType("some"))
    with pytest.raises(ModelError, match="FRAMEGRID_ENGINE"):
        Detector(write_bundle(tmp_path, 1.0), EngineSettings(engine="some.module"))


def test_says_what_is_missing_when_there_is_no_such_module(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not installed; put it on PYTHONPATH"):
        Detector(write_bundle(tmp_path, 1.0), EngineSettings(engine="nowhere.at_all"))


def test_an_unknown_engine_without_a_dot_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dotted name"):
        Detector(write_bundle(tmp_path, 1.0), EngineSettings(engine="antigravity"))
