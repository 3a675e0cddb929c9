"""Waiting times between attempts: exponential, jittered, capped, reset after a healthy time."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Call `failed()` for the wait before the next attempt, `healthy(for_s)` with how long it last worked.

    Half of each wait is random, so that a hundred cameras behind one broken switch do not come back in step.
    """

    def __init__(
        self,
        first_s: float = 0.5,
        cap_s: float = 30.0,
        reset_after_s: float = 10.0,
        random_share: Callable[[], float] = random.random,
    ) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._reset_after_s = reset_after_s
        self._random_share = random_share
        self.failures = 0

    def failed(self, at_least_s: float = 0.0) -> float:
        """Seconds to wait now."""
        # 2**64 is beyond every cap and within a float.
        wait_s = min(self._cap_s, self._first_s * 2.0 ** min(self.failures, 64))
        self.failures += 1
        return max(at_least_s, wait_s) * (0.5 + 0.5 * self._random_share())

    def healthy(self, for_s: float) -> None:
        """It worked for `for_s` seconds; long enough, and the next failure waits the shortest time."""
        if for_s >= self._reset_after_s:
            self.failures = 0
