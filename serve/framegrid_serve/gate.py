"""The gate: may this model replace that one? A decision from two measurements and a file of thresholds.

Pure. A threshold that cannot be judged (no labels, a class without pictures) blocks: what was asked for and
not seen is not fulfilled. Without a current model only absolute thresholds apply.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from framegrid_serve.errors import ModelError
from framegrid_serve.measurement import Measurement

_MIB = 1024 * 1024


class ClassThresholds(BaseModel):
    """For one class, by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_map50_95: float | None = Field(default=None, ge=0.0, le=1.0)
    max_loss: float | None = Field(default=None, ge=0.0, le=1.0)  # against the current model


class Thresholds(BaseModel):
    """The file: unknown keys are refused. What is left out is not judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_pictures: int = Field(default=20, ge=1)  # fewer say nothing
    min_map50_95: float | None = Field(default=None, ge=0.0, le=1.0)
    max_map50_95_loss: float | None = Field(default=0.01, ge=0.0, le=1.0)  # against the current model
    max_class_loss: float | None = Field(default=0.1, ge=0.0, le=1.0)  # of every class that both have
    classes: dict[str, ClassThresholds] = {}  # classes that matter more
    keep_classes: bool = True  # every class of the current model's truth is known to the candidate
    max_latency_ms: float | None = Field(default=None, gt=0.0)  # median, one thread
    max_latency_ratio: float | None = Field(default=1.25, gt=0.0)
    max_memory_mib: float | None = Field(default=None, gt=0.0)
    max_memory_ratio: float | None = Field(default=1.5, gt=0.0)
    max_size_mib: float | None = Field(default=None, gt=0.0)
    max_size_ratio: float | None = Field(default=None, gt=0.0)


class Check(BaseModel):
    """One threshold, judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    limit: str
    current: str
    candidate: str
    passed: bool


class Decision(BaseModel):
    """The gate's answer. `reasons` are the checks that failed, as sentences."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    deploy: bool
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    candidate: Measurement
    current: Measurement | None


def read_thresholds(path: Path) -> Thresholds:
    """The thresholds in a YAML file. Raises ModelError naming the key and what is allowed."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: not readable as YAML") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: expected keys and values, got {type(values).__name__}")
    try:
        return Thresholds.model_validate(values)
    except ValidationError as error:
        problem: Any = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            allowed = Thresholds if len(problem["loc"]) == 1 else ClassThresholds
            raise ModelError(
                f"{path}: {key}: unknown key; allowed are {', '.join(allowed.model_fields)}"
            ) from error
        raise ModelError(f"{path}: {key}: {problem['msg']}, got {problem['input']!r}") from error


def decide(thresholds: Thresholds, candidate: Measurement, current: Measurement | None) -> Decision:
    """Judge every threshold that applies."""
    checks = [
        _at_least("pictures", thresholds.min_pictures, candidate.pictures, None, "{:.0f}"),
        *_accuracy(thresholds, candidate, current),
        *_classes(thresholds, candidate, current),
        *_costs(thresholds, candidate, current),
    ]
    reasons = [
        f"{check.name}: expected {check.limit}, got {check.candidate}"
        + (f" (current {check.current})" if check.current else "")
        for check in checks
        if not check.passed
    ]
    return Decision(
        deploy=not reasons, reasons=tuple(reasons), checks=tuple(checks), candidate=candidate, current=current
    )


def _accuracy(thresholds: Thresholds, candidate: Measurement, current: Measurement | None) -> list[Check]:
    now = None if current is None else current.map50_95
    checks = []
    if thresholds.min_map50_95 is not None:
        checks.append(_at_least("mAP50-95", thresholds.min_map50_95, candidate.map50_95, now))
    if current is not None and thresholds.max_map50_95_loss is not None:
        limit = None if now is None else now - thresholds.max_map50_95_loss
        checks.append(_at_least("mAP50-95 against current", limit, candidate.map50_95, now))
    return checks


def _classes(thresholds: Thresholds, candidate: Measurement, current: Measurement | None) -> list[Check]:
    before = {} if current is None else current.per_class
    checks = []
    if current is not None and thresholds.keep_classes:
        lost = sorted(set(before) - set(candidate.per_class))
        checks.append(
            Check(
                name="classes",
                limit="those of the current model",
                current=f"{len(before)} seen",
                candidate=f"without {', '.join(lost)}" if lost else "all",
                passed=not lost,
            )
        )
    for name in sorted(set(before) & set(candidate.per_class)):
        own = thresholds.classes.get(name)
        loss = thresholds.max_class_loss if own is None or own.max_loss is None else own.max_loss
        if loss is not None:
            got, now = candidate.per_class[name], before[name]
            checks.append(_at_least(f"{name} against current", now - loss, got, now))
    for name, own in thresholds.classes.items():
        if own.min_map50_95 is not None:
            seen = candidate.per_class.get(name)
            checks.append(_at_least(name, own.min_map50_95, seen, before.get(name)))
    return checks


def _costs(thresholds: Thresholds, candidate: Measurement, current: Measurement | None) -> list[Check]:
    def of(measured: Measurement | None) -> tuple[float | None, float | None, float | None]:
        if measured is None:
            return None, None, None
        speed = measured.speed
        return speed.median_ms, speed.peak_bytes / _MIB, measured.size_bytes / _MIB

    limits = (
        ("latency", "{:.1f} ms", thresholds.max_latency_ms, thresholds.max_latency_ratio),
        ("memory", "{:.1f} MiB", thresholds.max_memory_mib, thresholds.max_memory_ratio),
        ("file size", "{:.1f} MiB", thresholds.max_size_mib, thresholds.max_size_ratio),
    )
    checks = []
    for (name, text, limit, ratio), got, now in zip(limits, of(candidate), of(current), strict=True):
        if limit is not None and got is not None:
            checks.append(_at_most(name, limit, got, now, text))
        if ratio is not None and got is not None and now is not None:
            checks.append(_at_most(f"{name} against current", now * ratio, got, now, text))
    return checks


def _at_least(
    name: str, limit: float | None, got: float | None, now: float | None, text: str = "{:.4f}"
) -> Check:
    return Check(
        name=name,
        limit=f"at least {_told(limit, text)}",
        current="" if now is None else _told(now, text),
        candidate=_told(got, text),
        passed=limit is not None and got is not None and got >= limit,
    )


def _at_most(name: str, limit: float, got: float, now: float | None, text: str) -> Check:
    return Check(
        name=name,
        limit=f"at most {_told(limit, text)}",
        current="" if now is None else _told(now, text),
        candidate=_told(got, text),
        passed=got <= limit,
    )


def _told(value: float | None, text: str) -> str:
    return "not measured" if value is None else text.format(value)
