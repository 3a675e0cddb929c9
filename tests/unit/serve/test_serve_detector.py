"""The detector with real engines on networks made here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from framegrid_serve.bundle import Bundle, load_bundle
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.engines.openvino_engine import OpenVinoEngine
from framegrid_serve.wire import FrameStatus

MakeBundle = Callable[..., Bundle]
MakeJpeg = Callable[[int, int], bytes]


@pytest.fixture
def one_person() -> np.ndarray:
    """YOLOv8 layout: one person in the middle, one faint car."""
    output = np.zeros((1, 6, 4), np.float32)
    output[0, :, 0] = [32, 32, 16, 32, 0.75, 0]
    output[0, :, 1] = [8, 8, 4, 4, 0, 0.3]
    return output


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_each_engine_gives_the_same_boxes(
    make_bundle: MakeBundle, jpeg: MakeJpeg, one_person: np.ndarray, engine: str
) -> None:
    detector = Detector(make_bundle(one_person), EngineSettings(threads=2, engine=engine))
    (result,) = detector.detect([jpeg(64, 64)])
    assert (detector.engine.name, detector.streams, detector.max_batch) == (engine, 2, 1)
    assert result.status is FrameStatus.OK
    np.testing.assert_allclose(result.scores, [0.75, 0.3], atol=0.01)
    np.testing.assert_allclose(result.boxes_xyxy[0], [0.375, 0.25, 0.625, 0.75], atol=0.01)
    assert result.class_ids.tolist() == [0, 1]
    assert result.infer_ms > 0


def test_openvino_ties_no_thread_to_a_core(make_bundle: MakeBundle, one_person: np.ndarray) -> None:
    """It would take the first core in every replica. Threads are tied only while they run: so this asks."""
    engine = OpenVinoEngine(make_bundle(one_person), EngineSettings(threads=1))
    (pool,) = engine._pools.values()
    assert pool.result().compiled.get_property("ENABLE_CPU_PINNING") is False


def test_scores_are_asked_for_per_picture_or_taken_from_the_model(
    make_bundle: MakeBundle, jpeg: MakeJpeg, one_person: np.ndarray
) -> None:
    detector = Detector(make_bundle(one_person, thresholds={"score": 0.5}))
    pictures = [jpeg(64, 64)] * 2
    assert [len(result.scores) for result in detector.detect(pictures, [0.9, 0.2])] == [0, 2]
    assert [len(result.scores) for result in detector.detect(pictures, 0.2)] == [2, 2]
    assert [len(result.scores) for result in detector.detect(pictures)] == [1, 1]


def test_a_corrupt_picture_spoils_no_other(
    make_bundle: MakeBundle, jpeg: MakeJpeg, one_person: np.ndarray
) -> None:
    detector = Detector(make_bundle(one_person))
    results = detector.detect([jpeg(64, 64), b"junk", jpeg(20, 64)])
    assert [result.status.name for result in results] == ["OK", "CORRUPT", "OK"]


def test_arrays_are_taken_as_well_and_wrong_ones_refused(
    make_bundle: MakeBundle, one_person: np.ndarray
) -> None:
    detector = Detector(make_bundle(one_person))
    assert detector.detect_images([np.zeros((10, 20, 3), np.uint8)])[0].status is FrameStatus.OK
    for wrong in (
        np.zeros((10, 20), np.uint8),
        np.zeros((10, 20, 3), np.float32),
        np.zeros((0, 2, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="expected BGR uint8"):
            detector.detect_images([wrong])


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_dynamic_network_takes_every_shape_and_keeps_a_bounded_number(
    make_bundle: MakeBundle, jpeg: MakeJpeg, one_person: np.ndarray, engine: str
) -> None:
    bundle = make_bundle(one_person, dynamic=True)
    detector = Detector(bundle, EngineSettings(threads=2, shapes=1, engine=engine))
    pictures = [jpeg(64, 64), jpeg(20, 64), jpeg(64, 20)] * 4
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda picture: detector.detect([picture])[0], pictures))
    assert {answer.status for answer in answers} == {FrameStatus.OK}


def test_shapes_beyond_the_bound_are_padded_not_compiled_until_they_are_many(
    make_bundle: MakeBundle, jpeg: MakeJpeg, one_person: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framegrid_serve.engines.openvino_engine._COMPILE_AFTER_FRAMES", 5)
    compiled: list[tuple[int, int]] = []
    compile_as_before = OpenVinoEngine._compile

    def spy(engine: OpenVinoEngine, shape: tuple[int, int]) -> Any:
        compiled.append(shape)
        return compile_as_before(engine, shape)

    monkeypatch.setattr(OpenVinoEngine, "_compile", spy)
    bundle = make_bundle(one_person, dynamic=True)
    few = Detector(bundle, EngineSettings(shapes=2, engine="openvino"))
    assert compiled == [(64, 64)]  # 16:9 at this size is the square
    tall, wide = jpeg(64, 20), jpeg(20, 64)
    own_shape = few.detect([tall])[0]
    assert compiled == [(64, 64), (64, 32)]
    padded = few.detect([wide] * 5)
    assert compiled == [(64, 64), (64, 32)], "a third shape must not be compiled: it is padded"
    again = few.detect([wide])[0]
    assert compiled[2:] == [(32, 64)], "the sixth frame of it is worth an executable of its own"
    np.testing.assert_allclose(padded[0].boxes_xyxy, again.boxes_xyxy, atol=1e-6)
    few.detect([jpeg(64, 64)])
    assert len(compiled) == 3, "the square, which holds every picture, is never given away"
    assert own_shape.status is FrameStatus.OK


class FakeEngine:
    """An engine of a GPU's kind: one stream, batches; it remembers them, and fails on black pictures."""

    name, precision, streams, max_batch, output_shape = "fake", "fp32", 1, 3, (-1, 6, -1)

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, ...]]] = []

    def infer(self, images: Sequence[np.ndarray], read: Callable[[np.ndarray], Any]) -> Any:
        self.batches.append([image.shape for image in images])
        if any(not image.any() for image in images):
            raise RuntimeError("the device is gone")
        return read(np.zeros((len(images), 6, 2), np.float32))

    def close(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setattr("framegrid_serve.detector.open_engine", lambda bundle, settings: engine)
    return engine


def test_batches_hold_pictures_of_one_shape_and_no_more_than_the_engine_takes(
    make_bundle: MakeBundle, fake: FakeEngine, one_person: np.ndarray
) -> None:
    detector = Detector(make_bundle(one_person, dynamic=True))
    fake.batches.clear()
    wide, tall = np.ones((32, 64, 3), np.uint8), np.ones((64, 32, 3), np.uint8)
    results = detector.detect_images([wide, tall, wide, wide, wide])
    assert len(results) == 5
    assert fake.batches == [[(32, 64, 3)] * 3, [(32, 64, 3)], [(64, 32, 3)]]


def test_a_failing_engine_fails_its_pictures_and_no_others(
    make_bundle: MakeBundle, fake: FakeEngine, one_person: np.ndarray
) -> None:
    detector = Detector(make_bundle(one_person, dynamic=True))
    black, white = np.zeros((64, 64, 3), np.uint8), np.ones((32, 64, 3), np.uint8)
    results = detector.detect_images([black, white])
    assert [result.status.name for result in results] == ["FAILED", "OK"]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_packaged_model_finds_its_golden_boxes(engine: str) -> None:
    from framegrid_serve.golden import check_golden
    from framegrid_serve.workshop import resolve

    bundle = load_bundle(resolve("street-sim"))
    assert bundle.manifest.golden is not None
    assert {box.label for box in bundle.manifest.golden.boxes} == {"person", "bicycle", "car", "van"}
    check_golden(Detector(bundle, EngineSettings(engine=engine)))
