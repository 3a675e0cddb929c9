"""How long the database has been away, and when to try again: exponential, jittered, capped."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 15.0


class Outage:
    """Of one writer. It begins with a failure and ends with `over`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s: float | None = None
        self._retry_at_s = 0.0
        self.failures = 0
        """Attempts that failed since it began."""

    @property
    def is_on(self) -> bool:
        """Whether the last attempt failed."""
        return self._began_s is not None

    def failed(self) -> None:
        """One more attempt was in vain."""
        if self._began_s is None:
            self._began_s = self._clock()
        self.failures += 1
        longest_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self.failures - 1, 16))
        # Jitter: a thousand writers do not come back in the same instant.
        self._retry_at_s = self._clock() + longest_s * random.uniform(0.5, 1.0)

    def over(self) -> None:
        """An attempt went well."""
        self._began_s, self._retry_at_s, self.failures = None, 0.0, 0

    def wait_s(self) -> float:
        """Until the next attempt; 0 when it is due."""
        return max(0.0, self._retry_at_s - self._clock())

    def lasted_s(self) -> float:
        """Since the first failure; 0 when there is no outage."""
        return 0.0 if self._began_s is None else self._clock() - self._began_s
