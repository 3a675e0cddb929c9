"""Whether keyframes alone are enough for a camera that is sampled slowly.

Decoding only keyframes costs what demuxing costs, but they must come at least as often as frames are wanted.
`auto` decodes everything until it has measured how far apart they are (a file's index tells at once), then
keyframes only where that is enough; when they come too seldom all the same, everything again from the next
keyframe on. Pure.
"""

from __future__ import annotations

from collections import deque

# Below this sampling interval cameras never send keyframes often enough.
MIN_SAMPLING_S = 0.5
_REMEMBERED = 4


class KeyframePolicy:
    """Told of every packet in order; answers which are decoded."""

    def __init__(self, decode: str, sampling_s: float) -> None:
        self._is_auto = decode == "auto" and sampling_s >= MIN_SAMPLING_S
        self._sampling_s = sampling_s
        self._gaps_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._last_key_s: float | None = None
        self._needs_key = False
        self.keyframes_only = decode == "keyframes"

    @property
    def interval_s(self) -> float | None:
        """The longest of the last few gaps between keyframes; None until two have been seen."""
        return max(self._gaps_s) if self._gaps_s else None

    def known(self, interval_s: float) -> None:
        """The stream's index says that keyframes are at most this far apart."""
        self._gaps_s.append(interval_s)
        self._decide()

    def wants(self, is_keyframe: bool, media_s: float) -> bool:
        """Whether to decode this packet."""
        if is_keyframe:
            if self._last_key_s is not None and media_s > self._last_key_s:
                self._gaps_s.append(media_s - self._last_key_s)
            self._last_key_s = media_s
            self._needs_key = False
            self._decide()
            return True
        if self._is_auto and self.keyframes_only and self._is_overdue(media_s):
            # What refers to frames that were not decoded cannot be decoded either.
            self.keyframes_only, self._needs_key = False, True
        return not self.keyframes_only and not self._needs_key

    def _decide(self) -> None:
        interval_s = self.interval_s
        if self._is_auto and interval_s is not None:
            self.keyframes_only = interval_s <= self._sampling_s

    def _is_overdue(self, media_s: float) -> bool:
        return self._last_key_s is not None and media_s - self._last_key_s > self._sampling_s
