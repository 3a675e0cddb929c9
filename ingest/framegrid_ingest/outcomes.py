"""Exact accounting: every tick has exactly one outcome, settled in the order of the ticks.

`Ledger` takes outcomes in any order (several requests are in flight) and hands them out in tick order, so
that tracking sees frames as they were captured and an interval closes when its last tick is settled.
Invariant, per interval and for ever: expected = processed + sum(dropped). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class DropReason(str, Enum):
    """Why a tick has no counted frame. The value is the word in rows, status and metrics."""

    NO_FRAME = "no_frame"
    OVERLOAD = "overload"
    STALE = "stale"
    REFUSED = "refused"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class Settled(Generic[T]):
    """A tick and what became of it: a result, or the reason why there is none."""

    number: int
    result: T | None
    reason: DropReason | None


class Ledger(Generic[T]):
    """Outcomes of one camera's ticks. `next_number` is the first tick that is not settled in order."""

    def __init__(self, first_number: int) -> None:
        self.next_number = first_number
        self.expected = 0
        self.processed = 0
        self.dropped = dict.fromkeys(DropReason, 0)
        self._waiting: dict[int, Settled[T]] = {}
        self._skips: dict[int, int] = {}

    @property
    def waiting(self) -> int:
        """Outcomes that wait for an earlier tick's."""
        return len(self._waiting)

    def processed_frame(self, number: int, result: T) -> list[Settled[T]]:
        """The frame of tick `number` was analysed. Returns what is now settled in order."""
        return self._settle(Settled(number, result, None))

    def drop(self, number: int, reason: DropReason) -> list[Settled[T]]:
        """Tick `number` will have no result. Returns what is now settled in order."""
        return self._settle(Settled(number, None, reason))

    def skip(self, numbers: range) -> list[Settled[T]]:
        """These ticks were never expected (a clock was set, the camera was paused)."""
        if numbers:
            self._skips[numbers.start] = numbers.stop
        return self._in_order()

    def rewind(self, number: int) -> None:
        """Go on from an earlier tick after the clock went back. Nothing may be waiting."""
        if self._waiting:
            raise ValueError(f"expected no outcome to wait at a rewind, got {len(self._waiting)}")
        self._skips.clear()
        self.next_number = number

    def _settle(self, settled: Settled[T]) -> list[Settled[T]]:
        if settled.number < self.next_number or settled.number in self._waiting:
            raise ValueError(f"expected one outcome for each tick, got a second one for {settled.number}")
        self._waiting[settled.number] = settled
        return self._in_order()

    def _in_order(self) -> list[Settled[T]]:
        ready: list[Settled[T]] = []
        while True:
            if self.next_number in self._skips:
                self.next_number = self._skips.pop(self.next_number)
                continue
            settled = self._waiting.pop(self.next_number, None)
            if settled is None:
                return ready
            self.next_number += 1
            self.expected += 1
            if settled.reason is None:
                self.processed += 1
            else:
                self.dropped[settled.reason] += 1
            ready.append(settled)
