"""What a replica tells the autoscaling policy: rates over its last seconds, by its own monotonic clock.

Counts come from the requests, times from the batcher. Reading it changes nothing, so metrics, status and
Ray may all ask.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from framegrid_serve.batcher import Batcher, Detects
from framegrid_serve.sizing import ReplicaStats

# Long enough for a rate of a few frames a second, short enough to see a step whole within upscale_delay_s.
WINDOW_S = 3.0
# Askers come about once a second; more often than this there is nothing new.
_LEAST_STEP_S = 0.1


@dataclass(frozen=True, slots=True)
class _Counts:
    at_s: float
    busy_s: float
    answered: Mapping[str, int]  # by model
    dropped: Mapping[str, int]


class LoadMeter:
    """One per replica. Thread-safe."""

    def __init__(self, batcher: Batcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._batcher = batcher
        self._clock = clock
        self._lock = threading.Lock()
        self._answered: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self._detectors: dict[str, Detects] = {}
        self._past: deque[_Counts] = deque([self._counts()])

    def answered(self, model: str, detector: Detects, frames: int) -> None:
        """Frames of live priority were run on this detector."""
        with self._lock:
            self._detectors[model] = detector
            self._answered[model] = self._answered.get(model, 0) + frames

    def dropped(self, model: str, detector: Detects, frames: int) -> None:
        """A sender says that it lost so many frames of this model."""
        with self._lock:
            self._detectors[model] = detector
            self._dropped[model] = self._dropped.get(model, 0) + frames

    def stats(self) -> ReplicaStats:
        """Rates over the last WINDOW_S, or since the start when that is later."""
        with self._lock:
            now = self._counts()
            while len(self._past) > 1 and self._past[1].at_s <= now.at_s - WINDOW_S:
                self._past.popleft()
            then = self._past[0]
            if now.at_s - self._past[-1].at_s >= _LEAST_STEP_S:
                self._past.append(now)
            detectors = dict(self._detectors)
        return self._rates(then, now, detectors)

    def _counts(self) -> _Counts:
        busy_s = self._batcher.live_busy_s()
        return _Counts(self._clock(), busy_s, dict(self._answered), dict(self._dropped))

    def _rates(self, then: _Counts, now: _Counts, detectors: Mapping[str, Detects]) -> ReplicaStats:
        elapsed_s = max(now.at_s - then.at_s, 1e-3)
        streams = self._batcher.streams
        answered_fps = dropped_fps = unmeasured_fps = measured_fps = work = answered_work = 0.0
        has_batches = False
        for model, detector in detectors.items():
            done_fps = (now.answered.get(model, 0) - then.answered.get(model, 0)) / elapsed_s
            lost_fps = (now.dropped.get(model, 0) - then.dropped.get(model, 0)) / elapsed_s
            answered_fps, dropped_fps = answered_fps + done_fps, dropped_fps + lost_fps
            frame_s = self._batcher.frame_s(detector)
            has_batches = has_batches or detector.max_batch > 1
            if frame_s is None:
                unmeasured_fps += done_fps + lost_fps
                continue
            measured_fps += done_fps + lost_fps
            work += (done_fps + lost_fps) * frame_s
            answered_work += done_fps * frame_s
        busy = (now.busy_s - then.busy_s) / elapsed_s / streams
        if has_batches:  # small batches take time that full ones would not
            busy = min(busy, answered_work / streams)
        if measured_fps > 0:
            service_s = work / measured_fps
        else:  # idle: what the models took when there was something to do
            known = [time_s for d in detectors.values() if (time_s := self._batcher.frame_s(d)) is not None]
            service_s = sum(known) / len(known) if known else 0.0
        return ReplicaStats(
            busy=max(0.0, busy),
            offered=work / streams,
            offered_fps=answered_fps + dropped_fps,
            dropped_fps=dropped_fps,
            unmeasured_fps=unmeasured_fps,
            service_s=service_s,
            streams=streams,
            queued_frames=self._batcher.stats().queued_frames,
        )
