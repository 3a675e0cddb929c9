"""Between a camera's reader and its lane: sampling, the newest-frame slot, and what is missed.

A reader shows every picture it has to `offer`; only those that claim a tick are kept. `drain` says which
ticks have become hopeless, `take` hands out the waiting frame; neither ever blocks. Thread-safe: readers
may be threads, the lane is on the event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from framegrid_ingest.clock import Clock
from framegrid_ingest.outcomes import DropReason
from framegrid_ingest.pictures import Picture
from framegrid_ingest.sampler import Sampler, Tick
from framegrid_ingest.slot import Slot

# Capture times that a camera sends are believed when they are at most this much before or after arrival.
MAX_CAPTURE_LAG_S = 30.0
MAX_CAPTURE_LEAD_S = 0.5


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What is known of an open stream. `fps` and sizes are 0 where the stream does not say."""

    kind: str
    codec: str
    width: int
    height: int
    fps: float = 0.0

    def __str__(self) -> str:
        rate = f" at {self.fps:.4g} fps" if self.fps else ""
        return f"{self.kind}, {self.codec} {self.width} x {self.height}{rate}"


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A sampled frame, not yet encoded."""

    tick: Tick
    captured_at_s: float
    arrived_at_s: float
    arrived_monotonic_s: float
    picture: Picture


class Missed(NamedTuple):
    """Ticks without a frame. `reason` None: never expected (the clock was set)."""

    numbers: range
    reason: DropReason | None


class Intake:
    """One camera's way in. `wake` is called from any thread when there is something to drain or take."""

    def __init__(
        self,
        sampler: Sampler,
        slot: Slot[SourceFrame],
        clock: Clock,
        wake: Callable[[], None],
        on_opened: Callable[[StreamFacts], None],
        *,
        is_recording: bool = False,
    ) -> None:
        self._sampler = sampler
        self._slot = slot
        self._clock = clock
        self._wake = wake
        self._on_opened = on_opened
        self._is_recording = is_recording
        self._lock = threading.Lock()
        self._missed: list[Missed] = []
        self._is_held = False
        self._is_closed = False
        self.facts: StreamFacts | None = None
        self.frames_in = 0
        self.clock_errors = 0
        self.last_frame_monotonic_s = clock.monotonic_s()

    @property
    def next_tick(self) -> Tick:
        """First tick neither claimed nor missed; every earlier one is, or will be, drained or taken."""
        with self._lock:
            return self._sampler.next_tick

    @property
    def is_held(self) -> bool:
        """The clock went back: no tick is claimed until `release`."""
        return self._is_held

    def opened(self, facts: StreamFacts) -> None:
        """The stream delivers pictures like these. Call again when its size changes."""
        if facts != self.facts:
            self.facts = facts
            self._on_opened(facts)

    def reopen(self) -> None:
        """The next `opened` is news even when nothing changed: the stream was lost in between."""
        self.facts = None

    def offer(self, picture: Picture, captured_at_s: float | None = None) -> bool:
        """Show a picture, in order of capture. True when it was wanted.

        `captured_at_s` None, or not believable, means now. Blocks only where the slot's policy is WAIT.
        """
        tick, captured_at_s, now_s = self._claim(captured_at_s)
        if tick is None:
            return False
        frame = SourceFrame(tick, captured_at_s, now_s, self._clock.monotonic_s(), picture)
        lost = self._slot.put(frame)
        if lost is not None:
            # After close the frame itself comes back; its tick is settled by whoever closed.
            with self._lock:
                self._missed.append(Missed(_one(lost.tick), DropReason.OVERLOAD))
        self._wake()
        return True

    def may_want(self, captured_at_s: float) -> bool:
        """Whether a frame of that time would claim a tick; asked before decoding what may not be needed."""
        if self._is_held:
            return False
        with self._lock:
            return self._sampler.may_want(captured_at_s)

    def corrupt(self, captured_at_s: float | None = None) -> None:
        """Tell of a picture that cannot be decoded; it uses up the tick it would have claimed."""
        tick, _, _ = self._claim(captured_at_s)
        if tick is not None:
            with self._lock:
                self._missed.append(Missed(_one(tick), DropReason.CORRUPT))
            self._wake()

    def sweep(self) -> None:
        """Give up ticks whose time is over. Call a few times a second while frames are expected."""
        if self._is_recording or self._is_held:
            return
        now_s = self._clock.unix_s()
        with self._lock:
            if self._sampler.has_jumped(now_s):
                skipped = self._sampler.restart(now_s) if now_s > self._sampler.next_tick.time_s else None
                if skipped is None:
                    self._is_held = True
                    return
                self._missed.append(Missed(skipped, None))
                return
            numbers = self._sampler.expire(now_s)
            if numbers:
                self._missed.append(Missed(numbers, DropReason.NO_FRAME))

    def release(self) -> int:
        """Go on from now after the clock went back. Returns the number of the next tick."""
        with self._lock:
            self._sampler.restart(self._clock.unix_s())
            self._is_held = False
            return self._sampler.next_tick.number

    def drain(self) -> list[Missed]:
        """What was missed since the last call."""
        with self._lock:
            missed, self._missed = self._missed, []
            return missed

    def take(self) -> SourceFrame | None:
        """The waiting frame, or None."""
        return self._slot.take()

    @property
    def waiting(self) -> int:
        """Frames that wait to be taken."""
        return len(self._slot)

    def close(self, reason: DropReason) -> None:
        """Take no more frames; those that wait are settled with `reason`. A blocked `offer` returns."""
        self._is_closed = True  # a reader's thread may still be on its way here
        left = self._slot.close()
        with self._lock:
            self._missed += [Missed(_one(frame.tick), reason) for frame in left]

    def _claim(self, captured_at_s: float | None) -> tuple[Tick | None, float, float]:
        now_s = self._clock.unix_s()
        self.frames_in += 1
        self.last_frame_monotonic_s = self._clock.monotonic_s()
        if self._is_held or self._is_closed:
            return None, now_s, now_s
        if self._is_recording:
            captured_s, arrived_s = (now_s if captured_at_s is None else captured_at_s), None
        else:
            captured_s = self._believable(captured_at_s, now_s)
            arrived_s = now_s
        with self._lock:
            offer = self._sampler.offer(captured_s, arrived_s)
            if offer.missed:
                self._missed.append(Missed(offer.missed, DropReason.NO_FRAME))
        return offer.tick, captured_s, now_s

    def _believable(self, captured_at_s: float | None, now_s: float) -> float:
        if captured_at_s is None:
            return now_s
        if -MAX_CAPTURE_LEAD_S <= now_s - captured_at_s <= MAX_CAPTURE_LAG_S:
            return captured_at_s
        self.clock_errors += 1
        return now_s


def _one(tick: Tick) -> range:
    return range(tick.number, tick.number + 1)
