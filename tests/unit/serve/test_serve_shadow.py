"""A candidate beside the live model: what it sees, what is compared, and what it may not disturb."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from framegrid_serve.batcher import Batcher
from framegrid_serve.bundle import Bundle
from framegrid_serve.evaluation import Labelled, agreeing_boxes
from framegrid_serve.registry import ModelRegistry
from framegrid_serve.served import Model, Shadowing
from framegrid_serve.shadow import Shadow
from framegrid_serve.spec import ModelSpec, ServingConfig, ShadowSpec
from framegrid_serve.wire import Buffer, FrameResult, FrameStatus

MakeBundle = Callable[..., Bundle]
OUTPUT = np.zeros((1, 6, 3), np.float32)
LEFT, RIGHT = (0.1, 0.1, 0.3, 0.5), (0.6, 0.1, 0.8, 0.5)


def found(*boxes: tuple[tuple[float, ...], float, int]) -> FrameResult:
    return FrameResult(
        FrameStatus.OK,
        np.array([box for box, _, _ in boxes], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in boxes], np.float32),
        np.array([number for _, _, number in boxes], np.int16),
        0.0,
        5.0,
    )


class Answers:
    """A detector with one answer."""

    max_batch = streams = 1

    def __init__(
        self, bundle: Bundle, answer: FrameResult | None = None, gate: threading.Event | None = None
    ) -> None:
        self.bundle = bundle
        self.engine = SimpleNamespace(name="fake", precision="fp32")
        self.answer = answer or found()
        self.gate = gate
        self.frames = 0

    def detect(self, jpegs: Sequence[Buffer], min_scores: Sequence[float]) -> list[FrameResult]:
        if self.gate is not None:
            assert self.gate.wait(10)
        self.frames += len(jpegs)
        return [self.answer] * len(jpegs)


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher(streams=1, capacity_frames=8)
    batcher.start()
    yield batcher
    batcher.stop()


def model(bundle: Bundle, *answer: object, **kwargs: object) -> Model:
    return Model("gate", bundle.path, Answers(bundle, *answer, **kwargs))  # type: ignore[arg-type]


def settle(shadow: Shadow) -> None:
    assert shadow.settle(10)


def test_boxes_agree_one_to_one_by_class_and_place() -> None:
    first = Labelled(np.array([LEFT, LEFT, RIGHT]), np.array([0, 0, 1]), np.array([0.9, 0.8, 0.7]))
    second = Labelled(np.array([LEFT, RIGHT]), np.array([0, 0]), np.array([0.9, 0.8]))
    assert agreeing_boxes(first, second) == 1  # one partner each; the right one is of another class
    empty = Labelled(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0))
    assert agreeing_boxes(first, empty) == agreeing_boxes(empty, first) == 0


def test_a_share_of_the_live_frames_is_seen_and_compared(make_bundle: MakeBundle, batcher: Batcher) -> None:
    live = model(make_bundle(OUTPUT))
    # The candidate numbers its classes the other way round, and misses the right box.
    other = model(
        make_bundle(OUTPUT, name="other", version="2", classes=["car", "person"]), found((LEFT, 0.8, 1))
    )
    shadow = Shadow(batcher)
    answer = found((LEFT, 0.9, 0), (RIGHT, 0.9, 1), (RIGHT, 0.1, 0))
    offered = 0
    for _ in range(40):
        if shadow.offer(live, Shadowing(other, 0.25), [b"jpeg"], [answer]):
            offered += 1
            settle(shadow)
    assert offered == 10
    seen = other.shadow_seen
    assert (seen.frames, seen.compared_boxes, seen.agreeing_boxes) == (10, 30, 20)
    assert seen.p95_s == 0.005


def test_the_live_path_goes_first(make_bundle: MakeBundle, batcher: Batcher) -> None:
    gate = threading.Event()
    busy = Answers(make_bundle(OUTPUT), gate=gate)
    live = model(busy.bundle)
    other = model(make_bundle(OUTPUT, name="other"))
    shadow = Shadow(batcher)
    waiting = [
        batcher.submit(busy, [b"jpeg"], min_score=0.1, timeout_s=10)  # type: ignore[arg-type]
        for _ in range(3)
    ]
    assert not shadow.offer(live, Shadowing(other, 1.0), [b"jpeg"], [found()])
    gate.set()
    for future in waiting:
        future.result(10)
    assert shadow.offer(live, Shadowing(other, 1.0), [b"jpeg"], [found()])
    settle(shadow)
    assert other.shadow_seen.frames == 1


def test_one_shadow_runs_at_a_time_and_late_ones_are_dropped(
    make_bundle: MakeBundle, batcher: Batcher
) -> None:
    gate = threading.Event()
    live = model(make_bundle(OUTPUT))
    other = model(make_bundle(OUTPUT, name="other"), found(), gate)
    shadow = Shadow(batcher)
    offers = [shadow.offer(live, Shadowing(other, 1.0), [b"jpeg"], [found()]) for _ in range(5)]
    assert offers == [True, False, False, False, False]
    gate.set()
    settle(shadow)


def test_frames_that_failed_are_not_compared(make_bundle: MakeBundle, batcher: Batcher) -> None:
    live, other = model(make_bundle(OUTPUT)), model(make_bundle(OUTPUT, name="other"))
    shadow = Shadow(batcher)
    assert not shadow.offer(
        live, Shadowing(other, 1.0), [b"jpeg"], [FrameResult.without_boxes(FrameStatus.FAILED)]
    )
    failing = model(other.detector.bundle, FrameResult.without_boxes(FrameStatus.FAILED))
    assert shadow.offer(live, Shadowing(failing, 1.0), [b"jpeg"], [found((LEFT, 0.9, 0))])
    settle(shadow)
    assert (failing.shadow_seen.failed_ratio, failing.shadow_seen.compared_boxes) == (1.0, 0)


def test_a_candidate_is_loaded_kept_told_and_dropped(make_bundle: MakeBundle) -> None:
    registry = ModelRegistry(Answers)  # type: ignore[arg-type]
    live, other = make_bundle(OUTPUT), make_bundle(OUTPUT, name="other", version="2")

    def config(shadow: ShadowSpec | None) -> ServingConfig:
        return ServingConfig(models=(ModelSpec(name="tiny", path=live.path, shadow=shadow),))

    assert registry.apply(config(ShadowSpec(path=other.path, share=0.5))) == []
    model = registry.get("")
    first = registry.shadow_of(model)
    assert first is not None
    assert (first.other.version, first.share) == ("2", 0.5)
    assert registry.apply(config(ShadowSpec(path=other.path, share=0.2))) == []
    second = registry.shadow_of(model)
    assert second is not None
    assert second.other is first.other
    assert second.share == 0.2
    (told,) = registry.describe()["models"]
    assert told["shadow"]["version"] == "2"
    assert registry.get("").version == "1"  # nobody is answered by the candidate
    (problem,) = registry.apply(config(ShadowSpec(path=other.path / "gone")))
    assert problem.startswith("tiny: shadow: ")
    assert registry.apply(config(None)) == []
    assert registry.shadow_of(model) is None
