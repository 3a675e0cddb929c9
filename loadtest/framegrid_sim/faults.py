"""Faults of a served camera: what can go wrong with one, on command and for a stated time.

A fault is a value with a beginning and an end; whether one is active is a function of the time asked for,
so nothing has to run for it to be undone. The street goes on behind a faulty camera: truth never changes,
and the log of faults tells whoever compares counts with it when the camera could not be seen.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

MAX_LOGGED = 256  # faults remembered per camera: a test plays dozens
MAX_SECONDS = 86_400.0  # a day; a camera broken for longer is a camera to leave out


class FaultKind(str, Enum):
    """Names as in `POST /cameras/<name>/fault?kind=…`."""

    STOP = "stop"  # streams closed, requests refused with 503
    FREEZE = "freeze"  # the same picture again and again, with new timestamps
    BLACK = "black"  # black pictures
    SLOW = "slow"  # a tenth of the frame rate
    STALL = "stall"  # connections stay open and nothing comes
    GARBAGE = "garbage"  # random bytes instead of multipart parts
    TRUNCATED = "truncated"  # whole parts with half a JPEG in each
    RESIZE = "resize"  # pictures of half the size in the middle of the stream
    HUGE = "huge"  # small JPEGs that claim 16384x16384 pixels
    UNAUTHORIZED = "unauthorized"  # streams closed, requests refused with 401
    RESET = "reset"  # streams and requests end in a TCP reset
    NOTVIDEO = "notvideo"  # streams closed, requests answered with a 200 text/html
    EMPTY = "empty"  # streams closed, requests answered with 200 and 0 bytes

    @property
    def closes_streams(self) -> bool:
        """Does this kind end the streams that are open when it begins?"""
        return self in _CLOSING


_CLOSING = frozenset(
    {FaultKind.STOP, FaultKind.UNAUTHORIZED, FaultKind.RESET, FaultKind.NOTVIDEO, FaultKind.EMPTY}
)
CLEAR = "none"  # the kind that ends the active fault
FAULT_NAMES = (*(kind.value for kind in FaultKind), CLEAR)


class FaultError(ValueError):
    """A fault that does not exist, or one of an impossible length."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Active while from_s <= now < until_s, unix seconds."""

    kind: FaultKind
    from_s: float
    until_s: float

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind.value, "from_s": round(self.from_s, 3), "until_s": round(self.until_s, 3)}


def parse_fault(kind: str, seconds: str, now_s: float) -> Fault | None:
    """The fault a request asks for, beginning now; None for `none`. Raises FaultError."""
    if kind not in FAULT_NAMES:
        raise FaultError(f"expected kind to be one of {', '.join(FAULT_NAMES)}, got {kind[:40]!r}")
    if kind == CLEAR:
        return None
    try:
        length_s = float(seconds)
    except ValueError:
        length_s = math.nan
    if not 0 < length_s <= MAX_SECONDS:
        raise FaultError(f"expected seconds above 0 and at most {MAX_SECONDS:.0f}, got {seconds[:40]!r}")
    return Fault(FaultKind(kind), now_s, now_s + length_s)


class FaultLog:
    """A camera's faults, one at a time: a new one ends the one before."""

    def __init__(self) -> None:
        self._faults: deque[Fault] = deque(maxlen=MAX_LOGGED)

    def begin(self, fault: Fault) -> None:
        self.clear(fault.from_s)
        self._faults.append(fault)

    def clear(self, now_s: float) -> None:
        """End the active fault, if any, at now_s."""
        active = self.active(now_s)
        if active is not None:
            self._faults[-1] = Fault(active.kind, active.from_s, now_s)

    def active(self, now_s: float) -> Fault | None:
        if self._faults and self._faults[-1].from_s <= now_s < self._faults[-1].until_s:
            return self._faults[-1]
        return None

    def between(self, from_s: float, to_s: float) -> list[Fault]:
        """Faults active at some time in from_s <= t < to_s, oldest first."""
        return [f for f in self._faults if f.from_s < to_s and f.until_s > from_s]
