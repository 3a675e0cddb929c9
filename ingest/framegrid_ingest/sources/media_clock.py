"""Wall-clock times for a stream's own time stamps.

Two ways, both pure. `ArrivalClock`: a live stream whose packets come when they are captured, with jitter; the
fastest packets show the true offset. `PacedClock`: a stream that comes in bursts (HLS) or at once (a file)
and is released at its own pace.
"""

from __future__ import annotations

import math

# Jumps of the stream's own time beyond this (seconds) start afresh.
MAX_JUMP_S = 5.0
# How fast a camera's clock may run slow against ours: 1 ms in a second is far more than quartz needs.
_DRIFT = 0.001


class ArrivalClock:
    """Capture time = stream time + the smallest offset seen, allowed to grow slowly."""

    def __init__(self) -> None:
        self._offset_s = math.inf
        self._last_arrived_s = 0.0

    def captured_at(self, media_s: float, arrived_at_s: float) -> float:
        """Unix seconds of capture, never later than arrival."""
        offset_s = arrived_at_s - media_s
        drifted_s = self._offset_s + _DRIFT * max(0.0, arrived_at_s - self._last_arrived_s)
        if not math.isfinite(self._offset_s) or abs(offset_s - self._offset_s) > MAX_JUMP_S:
            self._offset_s = offset_s
        else:
            self._offset_s = min(offset_s, drifted_s)
        self._last_arrived_s = arrived_at_s
        return media_s + self._offset_s


class PacedClock:
    """When a frame is due, if the first is due when it comes. Late frames shift all later ones."""

    def __init__(self, late_s: float) -> None:
        self._late_s = late_s
        self._anchor_s = math.inf
        self._last_media_s = 0.0

    def due_at(self, media_s: float, now_s: float) -> float:
        """Unix seconds at which to release the frame; may be in the past by at most `late_s`."""
        step_s = media_s - self._last_media_s
        is_new = not math.isfinite(self._anchor_s) or not -MAX_JUMP_S < step_s < MAX_JUMP_S
        if is_new or now_s - (self._anchor_s + media_s) > self._late_s:
            self._anchor_s = now_s - media_s
        self._last_media_s = media_s
        return self._anchor_s + media_s
