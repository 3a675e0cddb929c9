"""Activating a version: consent, trial, the name, the running serve, and the way back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from framegrid_serve import activation
from framegrid_serve.activation import RUNNING, activate, check_gate, gate_folder, running_serve
from framegrid_serve.bundle import Bundle
from framegrid_serve.errors import ModelError
from framegrid_serve.gate import Thresholds, decide
from framegrid_serve.gate_report import write_report
from framegrid_serve.library import Library
from framegrid_serve.measurement import Measurement, Speed
from framegrid_serve.settings import read_settings, serving_config

MakeBundle = Callable[..., Bundle]


@dataclass
class Shelf:
    """A library with two versions of `gate`, the first active, and what was tried."""

    library: Library
    one: Bundle
    two: Bundle
    tried: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def version(self) -> str:
        folder = self.library.active("gate")
        assert folder is not None
        return folder.name.partition("@")[2]

    def consent(self, *, map50_95: float = 0.5, against: Bundle | None = None) -> None:
        """The gate's report on version 2."""
        now, then = (measured(bundle, 0.5) for bundle in (against or self.one, self.two))
        decision = decide(Thresholds(), then.model_copy(update={"map50_95": map50_95}), now)
        write_report(decision, gate_folder(self.library, self.two.digest))


def measured(bundle: Bundle, value: float) -> Measurement:
    return Measurement(
        name=bundle.name,
        version=bundle.version,
        digest=bundle.digest,
        engine="openvino",
        precision="fp32",
        input_size=64,
        size_bytes=1000,
        pictures=100,
        map50_95=value,
        map50=value,
        per_class={},
        speed=Speed(median_ms=1, p95_ms=1, peak_bytes=1),
        cpu="",
        date="",
    )


@pytest.fixture
def shelf(make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    library = Library(tmp_path / "models")
    output = np.zeros((1, 6, 3), np.float32)
    one = library.add(str(make_bundle(output).path), name="gate", version="1")
    two = library.add(str(make_bundle(output + 1, name="b").path), name="gate", version="2")
    shelf = Shelf(library, one, two)

    class Report:
        engine, precision, peak_bytes = "openvino", "fp32", 10**8

    def try_bundle(bundle: Bundle, settings: Any, passed_dir: Path | None = None) -> type[Report]:
        shelf.tried.append(bundle.version)
        return Report

    monkeypatch.setattr(activation, "try_bundle", try_bundle)
    return shelf


@dataclass
class FakeServe:
    """Answers like `/v1/models`, one replica after another, some polls after it was told."""

    shelf: Shelf
    replicas: int = 2
    slow_polls: int = 3
    problem: str = ""
    rolls_back: bool = False
    url: str = "http://127.0.0.1:1"
    reloads: int = 0
    polls: int = 0

    def reload(self) -> None:
        self.reloads += 1
        self.polls = 0

    def models(self) -> dict[str, Any]:
        self.polls += 1
        wanted = self.shelf.two if self.shelf.version == "2" else self.shelf.one
        is_new = self.polls > self.slow_polls + self.polls % 2  # replicas do not swap at the same time
        if wanted is self.shelf.two and self.problem:
            return {"gate": {"digest": self.shelf.one.digest, "problem": self.problem}}
        if wanted is self.shelf.two and self.rolls_back and self.polls > 20:
            return {"gate": {"digest": self.shelf.one.digest, "problem": "version 2 was rolled back to 1"}}
        return {"gate": {"digest": wanted.digest if is_new else self.shelf.one.digest}}


def run(shelf: Shelf, serve: FakeServe | None = None, **options: Any) -> Any:
    options = {"by": "ada", "watch_s": 0.0, **options}
    return activate(shelf.library, shelf.two, serve=serve, say=shelf.said.append, **options)  # type: ignore[arg-type]


def test_without_the_gates_consent_nothing_is_activated(shelf: Shelf) -> None:
    with pytest.raises(ModelError, match="expected a gate that compared it with 1, got none"):
        run(shelf)
    assert (shelf.version, shelf.tried) == ("1", [])


def test_a_block_is_respected_and_a_reason_overrules_it(shelf: Shelf) -> None:
    shelf.consent(map50_95=0.1)
    with pytest.raises(ModelError, match="blocked by the gate: mAP50-95 against current"):
        run(shelf)
    run(shelf, force="the old one sees no goats at all")
    assert shelf.version == "2"
    (told,) = shelf.library.history()
    assert (told.reason, told.by, told.previous) == ("the old one sees no goats at all", "ada", "1")


def test_consent_counts_for_the_pair_that_was_compared(shelf: Shelf, make_bundle: MakeBundle) -> None:
    third = shelf.library.add(
        str(make_bundle(np.full((1, 6, 3), 3, np.float32), name="c").path), name="gate", version="3"
    )
    shelf.consent(against=third)
    with pytest.raises(ModelError, match="compared it with another version than 1"):
        run(shelf)
    assert check_gate(shelf.library, shelf.two, None) is None  # the first of its name


def test_with_consent_every_replica_is_waited_for(shelf: Shelf) -> None:
    shelf.consent()
    serve = FakeServe(shelf)
    done = run(shelf, serve)
    assert (done.version, done.previous, shelf.version, shelf.tried) == ("2", "1", "2", ["2"])
    assert serve.reloads == 1
    assert serve.polls >= 2 * 3 + serve.slow_polls
    assert any(text.startswith("serves after ") for text in shelf.said)


def test_a_version_that_serve_does_not_take_is_taken_back(shelf: Shelf) -> None:
    shelf.consent()
    serve = FakeServe(shelf, problem="it crashed")
    with pytest.raises(ModelError, match="gate 2: not taken: it crashed; the old version serves on"):
        run(shelf, serve)
    assert (shelf.version, serve.reloads) == ("1", 2)
    assert [one.action for one in shelf.library.history()] == ["activate", "rollback"]


def test_a_rollback_within_the_watch_is_written_down(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation.time, "sleep", lambda seconds: None)
    shelf.consent()
    with pytest.raises(ModelError, match="version 2 was rolled back to 1"):
        run(shelf, FakeServe(shelf, rolls_back=True), watch_s=5.0)
    assert shelf.version == "1"
    assert "rolled back" in shelf.library.history()[-1].reason


def test_the_active_version_is_not_activated_again(shelf: Shelf) -> None:
    with pytest.raises(ModelError, match="expected another version, this one is active"):
        activate(shelf.library, shelf.one, by="ada", serve=None)


def test_a_rollback_needs_no_consent(shelf: Shelf) -> None:
    run(shelf, force="because")
    done = activate(
        shelf.library, shelf.library.before("gate"), by="bob", serve=None, action="rollback", force="slow"
    )
    assert (done.action, done.version, shelf.version) == ("rollback", "1", "1")


def test_a_damaged_active_version_can_be_left_by_a_rollback_or_with_a_reason(shelf: Shelf) -> None:
    run(shelf, force="because")
    shelf.two.weights_path.write_bytes(b"damaged where it lies")
    with pytest.raises(ModelError, match=r"damaged or replaced.*roll back, or activate with a reason"):
        activate(shelf.library, shelf.one, by="ada", serve=None)
    done = activate(
        shelf.library, shelf.library.before("gate"), by="ada", serve=None, action="rollback", force="damaged"
    )
    assert (done.version, done.previous, shelf.version) == ("1", "2", "1")


def test_the_running_serve_is_found_by_what_it_wrote(tmp_path: Path) -> None:
    assert running_serve(tmp_path) is None
    told = {"pid": os.getpid(), "url": "http://127.0.0.1:8000", "replicas": 1}
    (tmp_path / RUNNING).write_text(json.dumps(told))
    assert running_serve(tmp_path) is None  # this process is pytest: the number was taken over
    (tmp_path / RUNNING).write_text(json.dumps({**told, "pid": 2**22 + 1}))
    assert running_serve(tmp_path) is None
    (tmp_path / RUNNING).write_text("half a li")
    assert running_serve(tmp_path) is None


def test_a_config_follows_the_active_version_its_previous_and_its_shadow(
    shelf: Shelf, tmp_path: Path
) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("models: [{name: gate, path: models/gate}]\nwatch: {window_s: 5}\n")
    (spec,) = serving_config(read_settings(path)).models
    assert (spec.path, spec.previous, spec.shadow) == (shelf.one.path, None, None)
    shelf.library.set_shadow("gate", shelf.two, 0.25)
    (spec,) = serving_config(read_settings(path)).models
    assert spec.shadow is not None
    assert (spec.shadow.path, spec.shadow.digest, spec.shadow.share) == (
        shelf.two.path,
        shelf.two.digest,
        0.25,
    )
    shelf.library.set_shadow("gate", None)
    run(shelf, force="because")
    config = serving_config(read_settings(path))
    (spec,) = config.models
    assert (spec.path, spec.shadow, config.watch.window_s) == (shelf.two.path, None, 5)
    assert spec.previous is not None
    assert spec.previous.digest == shelf.one.digest
