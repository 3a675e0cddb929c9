"""Whether keyframes alone are enough for a camera that is sampled slowly.

Decoding only keyframes costs what demuxing costs, but they must come at least as often as frames are wanted.
`auto` starts with keyframes where the sampling interval allows hope, measures how far apart they are, and
changes its mind at a keyframe. Pure.
"""

from __future__ import annotations

from collections import deque

# Below this sampling interval cameras never send keyframes often enough.
MIN_SAMPLING_S = 0.5
_REMEMBERED = 4


class KeyframePolicy:
    """Told of every packet in order; answers whether only keyframes are decoded."""

    def __init__(self, decode: str, sampling_s: float) -> None:
        self._decode = decode
        self._sampling_s = sampling_s
        self._gaps_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._last_key_s: float | None = None
        self.keyframes_only = decode == "keyframes" or (decode == "auto" and sampling_s >= MIN_SAMPLING_S)

    @property
    def interval_s(self) -> float | None:
        """The longest of the last few gaps between keyframes; None until two have been seen."""
        return max(self._gaps_s) if self._gaps_s else None

    def see(self, is_keyframe: bool, media_s: float) -> bool:
        """A packet. True when the decision has just changed (only ever at a keyframe)."""
        if not is_keyframe:
            return False
        if self._last_key_s is not None and media_s > self._last_key_s:
            self._gaps_s.append(media_s - self._last_key_s)
        self._last_key_s = media_s
        interval_s = self.interval_s
        if self._decode != "auto" or self._sampling_s < MIN_SAMPLING_S or interval_s is None:
            return False
        enough = interval_s <= self._sampling_s
        changed = enough != self.keyframes_only
        self.keyframes_only = enough
        return changed

    def is_overdue(self, media_s: float) -> bool:
        """Whether no keyframe has come for longer than frames may be apart: all must be decoded from here."""
        waiting_s = media_s - self._last_key_s if self._last_key_s is not None else 0.0
        return self._decode == "auto" and self.keyframes_only and waiting_s > self._sampling_s

    def decode_all(self) -> None:
        """Give up on keyframes until they are seen to come often enough."""
        self.keyframes_only = False
