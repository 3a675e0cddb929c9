"""The two clocks: capture time is unix seconds, durations are monotonic."""

from __future__ import annotations

import time


class Clock:
    """The machine's clocks. Tests put their own in its place."""

    def unix_s(self) -> float:
        """Seconds since 1970, UTC. May step when the machine's clock is set."""
        return time.time()

    def monotonic_s(self) -> float:
        """Seconds since some moment; never steps."""
        return time.monotonic()
