"""What stands between a new model and the frames: golden frame, trial, watch, rollback, memory."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import simplejpeg
import yaml
from framegrid_serve.bundle import Bundle, load_bundle
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.golden import check_golden, golden_boxes
from framegrid_serve.registry import ModelRegistry
from framegrid_serve.replica import checked_detector
from framegrid_serve.spec import BundleRef, ModelSpec, ServingConfig
from framegrid_serve.trial import try_bundle
from framegrid_serve.watch import WatchSettings
from framegrid_serve.wire import FrameResult, FrameStatus

MakeBundle = Callable[..., Bundle]
ENGINE = EngineSettings()


def seeing(score: float, *, class_number: int = 0, x: float = 32.0) -> np.ndarray:
    """Output of a network that finds one box at the picture's middle height."""
    output = np.zeros((1, 6, 3), np.float32)
    output[0, :4, 0] = [x, 32.0, 16.0, 16.0]
    output[0, 4 + class_number, 0] = score
    return output


def with_golden(bundle: Bundle, *boxes: dict[str, Any]) -> Bundle:
    jpeg = simplejpeg.encode_jpeg(np.full((64, 64, 3), 90, np.uint8), colorspace="BGR")
    (bundle.path / "golden.jpg").write_bytes(jpeg)
    path = bundle.path / "model.yaml"
    values = yaml.safe_load(path.read_text())
    values["golden"] = {"sha256": hashlib.sha256(jpeg).hexdigest(), "boxes": list(boxes)}
    path.write_text(yaml.safe_dump(values))
    return load_bundle(bundle.path)


PERSON = {"label": "person", "score": 0.9, "box": [0.375, 0.375, 0.625, 0.625]}


def problem_of(bundle: Bundle) -> str:
    with pytest.raises(ModelError) as caught:
        check_golden(Detector(bundle))
    return str(caught.value)


def test_a_model_that_finds_the_golden_boxes_passes(make_bundle: MakeBundle) -> None:
    bundle = with_golden(make_bundle(seeing(0.9)), PERSON)
    detector = checked_detector(bundle, ENGINE)
    (box,) = golden_boxes(detector, (bundle.path / "golden.jpg").read_bytes())
    assert (box.label, round(box.score, 2), [round(side, 3) for side in box.box]) == (
        "person",
        0.9,
        PERSON["box"],
    )
    check_golden(Detector(with_golden(make_bundle(seeing(0.78)), PERSON)))  # as a quantised model may


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (seeing(0.0), "expected person 0.90 at 0.38, 0.38, 0.62, 0.62, got nothing"),
        (seeing(0.9, class_number=1), "expected person 0.90 at 0.38, 0.38, 0.62, 0.62, got car 0.90"),
        (seeing(0.6), "got person 0.60 at 0.38, 0.38, 0.62, 0.62: scores are lower by 0.30 on average"),
        (seeing(0.9, x=20.0), "got person 0.90 at 0.19"),
    ],
    ids=["nothing", "class", "score", "place"],
)
def test_a_model_that_finds_something_else_does_not(
    make_bundle: MakeBundle, output: np.ndarray, expected: str
) -> None:
    assert expected in problem_of(with_golden(make_bundle(output), PERSON))


def test_boxes_that_should_not_be_there_are_refused(make_bundle: MakeBundle) -> None:
    assert "expected only nothing, got person 0.90" in problem_of(with_golden(make_bundle(seeing(0.9))))


def test_swapped_classes_are_noticed(make_bundle: MakeBundle) -> None:
    bundle = with_golden(make_bundle(seeing(0.9), classes=["car", "person"]), PERSON)
    assert "expected person 0.90 at 0.38, 0.38, 0.62, 0.62, got car 0.90" in problem_of(bundle)


def test_the_golden_picture_is_verified_like_the_weights(make_bundle: MakeBundle) -> None:
    bundle = with_golden(make_bundle(seeing(0.9)), PERSON)
    (bundle.path / "golden.jpg").write_bytes(b"another")
    with pytest.raises(ModelError, match=r"golden\.jpg: expected sha256"):
        load_bundle(bundle.path)


def test_cut_off_weights_are_told_by_their_size(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(seeing(0.9))
    path = bundle.path / "model.yaml"
    size = bundle.weights_path.stat().st_size
    path.write_text(f"{path.read_text()}size_bytes: {size + 1}\n")
    with pytest.raises(ModelError, match=f"expected {size + 1} bytes, got {size}: cut off or replaced"):
        load_bundle(bundle.path)


def test_a_good_bundle_passes_its_trial_once(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = with_golden(make_bundle(seeing(0.9)), PERSON)
    passed = tmp_path / "passed"
    report = try_bundle(bundle, ENGINE, passed_dir=passed)
    assert report.engine in ("openvino", "onnxruntime")
    assert report.peak_bytes > 20_000_000
    (note,) = passed.iterdir()
    note.write_text(json.dumps({**report.model_dump(), "peak_bytes": 1}))
    assert try_bundle(bundle, ENGINE, passed_dir=passed).peak_bytes == 1  # told by the note
    with_golden(bundle)  # another golden frame: the note does not count
    with pytest.raises(ModelError, match="expected only nothing, got person"):
        try_bundle(load_bundle(bundle.path), ENGINE, passed_dir=passed)


def test_a_model_of_nan_does_not_pass(make_bundle: MakeBundle) -> None:
    with pytest.raises(ModelError, match="expected numbers from the model, got NaN or infinity"):
        try_bundle(make_bundle(np.full((1, 6, 3), np.nan, np.float32)), ENGINE)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it was ended by SIGSEGV"),
        ("import sys; print('torn apart', file=sys.stderr); sys.exit(9)", "exit status 9): torn apart"),
        ("import time; time.sleep(60)", "expected an answer within 1 s in a trial, got none"),
    ],
    ids=["crash", "exit", "hang"],
)
def test_what_happens_to_the_child_is_told(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, expected: str
) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -c {json.dumps(code)}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(ModelError) as caught:
        try_bundle(make_bundle(seeing(0.9)), ENGINE, timeout_s=1.0)
    assert expected in str(caught.value)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Fake:
    max_batch = streams = 1

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.engine = SimpleNamespace(name="fake", precision="fp32")


def config(bundle: Bundle, **fields: Any) -> ServingConfig:
    watch = fields.pop("watch", WatchSettings())
    return ServingConfig(models=(ModelSpec(name="tiny", path=bundle.path, **fields),), watch=watch)


def results(count: int, *, failed: int = 0, infer_ms: float = 10.0) -> list[FrameResult]:
    good = [FrameResult.without_boxes(FrameStatus.OK, infer_ms=infer_ms)] * (count - failed)
    return good + [FrameResult.without_boxes(FrameStatus.FAILED)] * failed


class Swapped:
    """A registry in which version 2 has just replaced version 1."""

    def __init__(self, make_bundle: MakeBundle, **watch: Any) -> None:
        self.clock = Clock()
        self.registry = ModelRegistry(Fake, clock=self.clock)  # type: ignore[arg-type]
        self.old = make_bundle(seeing(0.9))
        self.new = make_bundle(seeing(0.8), name="other", version="2")
        self.watch = WatchSettings(**watch)
        assert self.registry.apply(config(self.old, watch=self.watch)) == []
        self.registry.saw(self.registry.get(""), results(100))
        assert self.registry.apply(config(self.new, watch=self.watch)) == []
        assert self.version == "2"

    @property
    def version(self) -> str:
        return self.registry.get("").version

    def see(self, *args: Any, **kwargs: Any) -> None:
        self.registry.saw(self.registry.get(""), results(*args, **kwargs))


def test_failing_frames_bring_the_old_model_back(make_bundle: MakeBundle) -> None:
    swapped = Swapped(make_bundle)
    swapped.see(49, failed=10)
    assert swapped.version == "2"  # too few to judge
    swapped.see(1)
    assert swapped.version == "1"
    (told,) = swapped.registry.describe()["models"]
    assert told["problem"] == (
        "version 2 was rolled back to 1: failed frames: expected at most 2.0%, got 20.0%"
    )
    assert swapped.registry.rollbacks == 1


def test_a_rolled_back_model_is_not_taken_again_until_another_was_asked_for(make_bundle: MakeBundle) -> None:
    swapped = Swapped(make_bundle)
    swapped.see(60, failed=60)
    (problem,) = swapped.registry.apply(config(swapped.new, watch=swapped.watch))
    assert "tiny: version 2 was rolled back to 1" in problem
    assert swapped.version == "1"
    assert swapped.registry.apply(config(swapped.old)) == []
    assert swapped.registry.apply(config(swapped.new)) == []
    assert swapped.version == "2"


def test_a_slow_model_is_rolled_back_and_a_slower_one_within_the_band_is_kept(
    make_bundle: MakeBundle,
) -> None:
    swapped = Swapped(make_bundle)
    swapped.see(60, infer_ms=36.0)
    assert swapped.version == "1"
    told = "median time of the engine: expected at most 35.0 ms, got 36.0 ms"
    assert told in str(swapped.registry.describe())
    swapped = Swapped(make_bundle)
    swapped.see(40, infer_ms=29.0)
    swapped.see(20, infer_ms=500.0)  # a busy moment
    assert swapped.version == "2"


def test_the_watch_ends_and_frees_the_old_model(make_bundle: MakeBundle) -> None:
    swapped = Swapped(make_bundle, window_s=60)
    swapped.see(100)
    swapped.clock.now_s += 60
    swapped.see(1)
    assert swapped.registry._watches == {}
    swapped.see(300, failed=300)
    assert swapped.version == "2"


def test_a_watch_that_saw_few_frames_decides_with_them_at_its_end(make_bundle: MakeBundle) -> None:
    swapped = Swapped(make_bundle)
    swapped.see(3, failed=3)
    assert swapped.version == "2"
    swapped.clock.now_s += 60
    swapped.registry.review()
    assert swapped.version == "1"


def test_no_window_means_no_rollback(make_bundle: MakeBundle) -> None:
    swapped = Swapped(make_bundle, window_s=0)
    swapped.see(500, failed=500)
    assert swapped.version == "2"


def test_disagreement_with_the_old_model_rolls_back(make_bundle: MakeBundle) -> None:
    swapped = Swapped(make_bundle, min_agreement=0.8)
    model = swapped.registry.get("")
    shadowing = swapped.registry.shadow_of(model)
    assert shadowing is not None
    assert shadowing.other.version == "1"
    model.seen.compared_boxes, model.seen.agreeing_boxes = 100, 79
    swapped.see(60)
    assert swapped.version == "1"
    assert "agreement: expected at least 80%, got 79%" in str(swapped.registry.describe())


def test_a_trial_that_fails_leaves_the_old_model(make_bundle: MakeBundle) -> None:
    tried: list[str] = []

    def trial(bundle: Bundle) -> None:
        tried.append(bundle.version)
        raise ModelError("it crashed")

    registry = ModelRegistry(Fake, trial=trial)  # type: ignore[arg-type]
    assert registry.apply(config(make_bundle(seeing(0.9)))) == []  # nothing serves yet: nothing to guard
    assert registry.apply(config(make_bundle(seeing(0.8), name="other", version="2"))) == ["tiny: it crashed"]
    assert (registry.get("").version, tried, registry.swap_failures) == ("1", ["2"], 1)


def test_a_replica_that_starts_with_a_broken_model_takes_the_previous_one(make_bundle: MakeBundle) -> None:
    registry = ModelRegistry(Fake)  # type: ignore[arg-type]
    old = make_bundle(seeing(0.9))
    spec = ModelSpec(name="tiny", path=Path("/nowhere"), previous=BundleRef(path=old.path, digest=old.digest))
    (problem,) = registry.apply(ServingConfig(models=(spec,)))
    assert problem.endswith("; the previous one serves")
    assert registry.get("").version == "1"


def test_a_pickle_is_never_served(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(seeing(0.9))
    (bundle.path / "tiny.pt").write_bytes(b"\x80\x04.")
    digest = hashlib.sha256(b"\x80\x04.").hexdigest()
    values = yaml.safe_load((bundle.path / "model.yaml").read_text())
    values.update(weights="tiny.pt", sha256=digest, engine="ultralytics")
    (bundle.path / "model.yaml").write_text(yaml.safe_dump(values))
    registry = ModelRegistry(lambda bundle: Detector(bundle, ENGINE))
    (problem,) = registry.apply(config(bundle))
    assert "a .pt is a pickle, which a server never opens" in problem


def test_memory_is_flat_over_a_hundred_swaps(make_bundle: MakeBundle) -> None:
    """Real engines, in this process; the old one is freed when its watch ends."""
    clock = Clock()
    registry = ModelRegistry(lambda bundle: checked_detector(bundle, ENGINE), clock=clock)
    bundles = [
        with_golden(make_bundle(seeing(0.9 - step / 10), name=f"v{step}", version=str(step)), PERSON)
        for step in range(2)
    ]
    sizes: list[int] = []
    for swap in range(100):
        assert registry.apply(config(bundles[swap % 2])) == []
        clock.now_s += 61
        registry.review()
        if swap in (19, 99):
            gc.collect()
            sizes.append(_resident_bytes())
    assert registry.swaps == 100
    assert sizes[1] - sizes[0] < 12_000_000, f"grew by {(sizes[1] - sizes[0]) / 80 / 1e3:.0f} kB a swap"


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
