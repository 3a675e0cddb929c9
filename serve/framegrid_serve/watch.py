"""The watch after an activation: does the new model behave, or does the old one come back?

Pure: `judge` decides from what was seen before and since. The registry feeds it and acts. The watch is
bounded: after `window_s` it decides with what it has, and the old model's memory is freed.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field

# Frames remembered of a model: enough for a p95, forgotten after some seconds of load.
RECENT_FRAMES = 500
# Fewer say nothing about a median.
_LEAST_FOR_LATENCY = 20
# What a scheduler may add to any call; far below the time of a model worth watching.
_LATENCY_SLACK_S = 0.005


class WatchSettings(BaseModel):
    """Bands that a new model may not leave in its first `window_s`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_s: float = Field(default=60.0, ge=0.0, le=3600.0)  # 0 = no watch, no automatic rollback
    min_frames: int = Field(default=50, ge=1, le=RECENT_FRAMES)  # before a decision within the window
    max_failed_ratio: float = Field(default=0.02, ge=0.0, le=1.0)  # failed, above the old's share
    # Median time of the engine over the old one's. Not its p95, which triples on a busy machine.
    max_latency_ratio: float = Field(default=3.0, ge=1.0, le=100.0)
    # Share of boxes on which old and new agree, on a sample of live frames; 0 = the old one is not run.
    min_agreement: float = Field(default=0.0, ge=0.0, le=1.0)


class Decision(Enum):
    """What to do with the new model."""

    WAIT = "wait"
    KEEP = "keep"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision, and why."""

    decision: Decision
    reason: str = ""


@dataclass(slots=True)
class Seen:
    """The last frames of one model. Appended to by one thread, read by any."""

    infer_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_FRAMES))
    failed: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT_FRAMES))
    frames: int = 0  # since the model serves, not only the last ones
    agreeing_boxes: int = 0  # both models' boxes: 2 x those that agree
    compared_boxes: int = 0

    def add(self, infer_s: float, failed: bool) -> None:
        """One frame that the engine ran."""
        self.frames += 1
        self.failed.append(failed)
        if not failed:
            self.infer_s.append(infer_s)

    @property
    def failed_ratio(self) -> float:
        return sum(list(self.failed)) / len(self.failed) if self.failed else 0.0

    @property
    def median_s(self) -> float:
        """Of the engine's time; 0 without frames."""
        times = list(self.infer_s)
        return statistics.median(times) if times else 0.0

    @property
    def p95_s(self) -> float:
        """Nearest-rank 95th percentile of the engine's time; 0 without frames."""
        times = sorted(self.infer_s.copy())
        return times[math.ceil(0.95 * len(times)) - 1] if times else 0.0

    @property
    def agreement(self) -> float:
        return self.agreeing_boxes / self.compared_boxes if self.compared_boxes else 1.0


def judge(before: Seen, since: Seen, elapsed_s: float, settings: WatchSettings) -> Verdict:
    """The verdict now; never WAIT once `window_s` is over."""
    is_over = elapsed_s >= settings.window_s
    frames = len(since.failed)
    if frames < settings.min_frames and not is_over:
        return Verdict(Decision.WAIT)
    reason = _left_band(before, since, settings)
    if reason:
        return Verdict(Decision.ROLL_BACK, reason)
    if is_over:
        return Verdict(Decision.KEEP, f"{frames} frames in {elapsed_s:.0f} s within all bands")
    return Verdict(Decision.WAIT)


def _left_band(before: Seen, since: Seen, settings: WatchSettings) -> str:
    allowed = before.failed_ratio + settings.max_failed_ratio
    if since.failed_ratio > allowed:
        return f"failed frames: expected at most {allowed:.1%}, got {since.failed_ratio:.1%}"
    if min(len(before.infer_s), len(since.infer_s)) >= _LEAST_FOR_LATENCY:
        limit_s = before.median_s * settings.max_latency_ratio + _LATENCY_SLACK_S
        if since.median_s > limit_s:
            limit, got = (f"{seconds * 1e3:.1f} ms" for seconds in (limit_s, since.median_s))
            return f"median time of the engine: expected at most {limit}, got {got}"
    if since.compared_boxes >= settings.min_frames and since.agreement < settings.min_agreement:
        return f"agreement: expected at least {settings.min_agreement:.0%}, got {since.agreement:.0%}"
    return ""
