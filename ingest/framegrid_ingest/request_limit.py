"""How many requests may be under way: as many as serve has replicas free for, found by how long frames wait.

Too few, and replicas that were added stay idle; too many, and frames grow old in serve's queues instead of
being replaced here by newer ones. Every answer says how long its frames waited for an engine: while that is
short and all requests are in use, there may be more; when it is long, or serve is full, there are fewer
(additive increase, multiplicative decrease). Pure.
"""

from __future__ import annotations

_FIRST = 4
_LEAST = 2
# Waits are compared with the time that the frames themselves took: a replica finishes one before the next.
_SHORT_S = 0.05
_LONG_S = 0.1
# For each answer while all are in use: doubles them within two rounds, in time for replicas that start.
_STEP = 0.5
_FACTOR = 0.8


class RequestLimit:
    """At most `most`. For one event loop."""

    def __init__(self, most: int) -> None:
        self._least = min(_LEAST, most)
        self._most = most
        self._value = float(min(_FIRST, most))
        self._answers_until_next_cut = 0

    @property
    def value(self) -> int:
        """Requests that may be under way now."""
        return int(self._value)

    def answered(self, waited_s: float, infer_s: float, *, in_flight: int) -> None:
        """An answer came for a frame that waited so long for an engine and took it so long."""
        self._answers_until_next_cut = max(0, self._answers_until_next_cut - 1)
        if waited_s > _LONG_S + 2 * infer_s:
            self._cut()
        elif waited_s < _SHORT_S + infer_s and in_flight >= self.value:
            self._value = min(self._most, self._value + _STEP)

    def failed(self) -> None:
        """Serve was full, or did not answer in time."""
        self._answers_until_next_cut = max(0, self._answers_until_next_cut - 1)
        self._cut()

    def _cut(self) -> None:
        """Once in a round: the answers under way were asked for before the last cut."""
        if self._answers_until_next_cut:
            return
        self._value = max(self._least, self._value * _FACTOR)
        self._answers_until_next_cut = self.value
