"""The gate: which candidates pass, which are blocked, and what the reports say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from framegrid_serve.errors import ModelError
from framegrid_serve.gate import Thresholds, decide, read_thresholds
from framegrid_serve.gate_report import markdown, read_decision, write_report
from framegrid_serve.measurement import Measurement, Speed

MIB = 1024 * 1024


def measured(version: str, **changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "name": "gate",
        "version": version,
        "digest": version * 64,
        "engine": "openvino",
        "precision": "bf16",
        "input_size": 640,
        "size_bytes": 10 * MIB,
        "pictures": 128,
        "map50_95": 0.45,
        "map50": 0.6,
        "per_class": {"person": 0.6, "car": 0.3},
        "speed": Speed(median_ms=20.0, p95_ms=25.0, peak_bytes=200 * MIB),
        "cpu": "a processor",
        "date": "2026-11-21T12:00:00+00:00",
    }
    return Measurement.model_validate({**values, **changes})


def speed(**changes: Any) -> Speed:
    return Speed.model_validate({"median_ms": 20.0, "p95_ms": 25.0, "peak_bytes": 200 * MIB, **changes})


CURRENT = measured("1")


def test_an_equal_candidate_is_deployed() -> None:
    decision = decide(Thresholds(), measured("2"), CURRENT)
    assert decision.deploy
    assert decision.reasons == ()
    assert {check.name for check in decision.checks} >= {"mAP50-95 against current", "person against current"}


@pytest.mark.parametrize(
    ("thresholds", "candidate", "reason"),
    [
        (
            {},
            {"map50_95": 0.43},
            "mAP50-95 against current: expected at least 0.4400, got 0.4300 (current 0.4500)",
        ),
        ({"min_map50_95": 0.5}, {}, "mAP50-95: expected at least 0.5000, got 0.4500 (current 0.4500)"),
        (
            {},
            {"per_class": {"person": 0.7, "car": 0.1}},
            "car against current: expected at least 0.2000, got 0.1000 (current 0.3000)",
        ),
        (
            {"classes": {"person": {"max_loss": 0.01}}},
            {"per_class": {"person": 0.58, "car": 0.5}},
            "person against current: expected at least 0.5900, got 0.5800 (current 0.6000)",
        ),
        (
            {"classes": {"goat": {"min_map50_95": 0.3}}},
            {},
            "goat: expected at least 0.3000, got not measured",
        ),
        (
            {},
            {"per_class": {"person": 0.6}},
            "classes: expected those of the current model, got without car (current 2 seen)",
        ),
        (
            {},
            {"speed": speed(median_ms=25.1)},
            "latency against current: expected at most 25.0 ms, got 25.1 ms (current 20.0 ms)",
        ),
        ({"max_latency_ms": 19}, {}, "latency: expected at most 19.0 ms, got 20.0 ms (current 20.0 ms)"),
        (
            {},
            {"speed": speed(peak_bytes=301 * MIB)},
            "memory against current: expected at most 300.0 MiB, got 301.0 MiB (current 200.0 MiB)",
        ),
        (
            {"max_size_mib": 5},
            {},
            "file size: expected at most 5.0 MiB, got 10.0 MiB (current 10.0 MiB)",
        ),
        ({}, {"map50_95": None}, "mAP50-95 against current: expected at least 0.4400, got not measured"),
        ({}, {"pictures": 5}, "pictures: expected at least 20, got 5"),
    ],
    ids=[
        "map-loss",
        "map",
        "class-loss",
        "class-own",
        "class-unseen",
        "class-lost",
        "slow",
        "too-slow",
        "memory",
        "size",
        "no-labels",
        "few",
    ],
)
def test_each_threshold_blocks_with_its_reason(
    thresholds: dict[str, Any], candidate: dict[str, Any], reason: str
) -> None:
    decision = decide(Thresholds.model_validate(thresholds), measured("2", **candidate), CURRENT)
    assert not decision.deploy
    assert any(reason in told for told in decision.reasons), decision.reasons


def test_the_first_of_a_name_is_judged_by_absolute_thresholds_alone() -> None:
    assert decide(Thresholds(), measured("1"), None).deploy
    assert not decide(Thresholds(min_map50_95=0.9), measured("1"), None).deploy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_map_loss: 1", "max_map_loss: unknown key; allowed are min_pictures, min_map50_95,"),
        (
            "classes: {goat: {min_ap: 1}}",
            "classes.goat.min_ap: unknown key; allowed are min_map50_95",
        ),
        ("max_latency_ms: -1", "max_latency_ms: Input should be greater than 0, got -1"),
        ("- 1", "expected keys and values, got list"),
        ("a: [", "not readable as YAML"),
    ],
    ids=["key", "class-key", "value", "list", "yaml"],
)
def test_wrong_thresholds_are_told(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        read_thresholds(path)
    assert expected in str(caught.value)
    with pytest.raises(ModelError, match="cannot be read"):
        read_thresholds(tmp_path / "gone.yaml")


def test_the_report_says_it_in_three_ways(tmp_path: Path) -> None:
    candidate = measured("2", map50_95=0.40, per_class={"person": 0.5, "car": 0.35, "<goat>": 0.9})
    decision = decide(Thresholds(), candidate, CURRENT)
    paths = write_report(decision, tmp_path / "report")
    assert [path.name for path in paths] == ["gate.json", "gate.md", "gate.svg"]
    assert json.loads(paths[0].read_text())["deploy"] is False
    assert read_decision(paths[0]) == decision
    text = paths[1].read_text()
    assert text.startswith("# Block: gate 2 against gate 1\n\n- mAP50-95 against current: expected at least")
    assert "| latency against current | at most 25.0 ms | 20.0 ms | 20.0 ms | ok |" in text
    root = ElementTree.fromstring(paths[2].read_text())
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "gate: block 2 over 1 (mAP50-95)" in texts
    assert {"all classes", "person", "car", "<goat>", "0.500"} <= set(texts)
    colours = [element.get("fill") for element in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert colours.count("#d1495b") == 2  # worse: all classes, person
    assert markdown(decide(Thresholds(), measured("2"), None)).startswith("# Deploy: gate 2, the first")


def test_a_report_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text("{}")
    with pytest.raises(ModelError, match="expected a report of"):
        read_decision(tmp_path / "gate.json")
    with pytest.raises(ModelError, match="run `framegrid model gate`"):
        read_decision(tmp_path / "gone.json")
