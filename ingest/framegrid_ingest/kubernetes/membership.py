"""Who is a member and when a member may record: the rules, without any input or output. Pure.

Each ingest process has a Lease of its own (never another's name) and writes it again every `renew_s`. All
watch all Leases. Rendezvous hashing over the members decides who owns a camera; these rules see to it that
no two processes record one camera for the same interval, whatever clocks, network and processes do:

Promise   Each write says "before my next write I record no tick later than `records_until_s`". Ticks beyond
          the promise of the last write that succeeded are not recorded.
End       A member whose Lease did not change for its duration is *ended*: another one clears the holder, with
          the resourceVersion that it saw. After that the ended process cannot write, so its last promise
          stands for ever. An ended process never comes back; it joins anew under a new name.
Consent   A process that wants cameras says so (`is_member`). It owns none until each other member has written
          `seen` >= the version of that claim: that one has let go of what the new one wins.
Floor     What a process takes over, it records from the first interval after `start_after_s`: the largest
          promise of all that ended, and the last tick of all that let go. Members hand it on.

So of two that may record, each has the other among its members until the other has ended, and rendezvous
hashing gives a camera to one of the two. Time decides only how soon cameras move, never who is right. Two
bounds: clocks agree within 30 s (`MAX_CLOCK_OFFSET_S`; a floor further ahead would stop a camera and is not
believed), and nobody deletes the Lease of the only member by hand.

A Lease counts as unchanged only while this process sees its own writes come back in the watch: after an
outage of the API server everybody gets the time to write again.

Versions are resourceVersions as integers: they grow with every write to the API server (KEP-5504), and a
watch that has shown version v has shown all before it.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from framegrid_ingest.kubernetes.rendezvous import Member

MAX_CLOCK_OFFSET_S = 30.0
# Ended Leases are kept for processes that start meanwhile: their floor.
KEEP_ENDED_S = 60.0
# Between two writes of one process; many joiners at once are answered together.
MIN_WRITE_GAP_S = 0.25
_RETRY_S = 0.3


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations in seconds. A crashed member's cameras move about `lease_s` after its last write."""

    lease_s: float = 6.0
    settle_s: float = 1.5

    @property
    def renew_s(self) -> float:
        """Between writes: two may fail before the Lease runs out."""
        return self.lease_s / 3

    @property
    def record_s(self) -> float:
        """How far a promise reaches. Shorter than `lease_s`, or the next owner would have to wait for it."""
        return self.lease_s * 5 / 6


class MemberLease(NamedTuple):
    """What a Lease says. `pod` is "" once it was ended. Times are unix seconds of its writer; 0 is none."""

    name: str
    pod: str
    version: int
    duration_s: float
    is_member: bool
    seen: int
    records_until_s: float
    start_after_s: float


class View(NamedTuple):
    """What the process has to act on; `number` grows with every change."""

    number: int
    members: frozenset[Member]
    is_active: bool
    start_after_s: float


class Step(NamedTuple):
    """What to do now. `write`: my Lease, with a promise when `is_active`. `end`, `remove`: others' Leases."""

    write: bool
    is_member: bool
    is_active: bool
    seen: int
    start_after_s: float
    end: tuple[str, ...]
    remove: tuple[str, ...]


@dataclass(slots=True)
class _Other:
    lease: MemberLease
    changed_s: float
    patience: float
    member_version: int = 0
    not_before_s: float = -math.inf


class Membership:
    """One process under one name. `now_s` is any steady clock; calls come from one thread at a time."""

    def __init__(
        self,
        me: Member,
        timing: Timing,
        now_s: float,
        start_after_s: float = -math.inf,
        random_share: Callable[[], float] = random.random,
    ) -> None:
        self.me = me
        self.is_lost = False
        self._timing = timing
        self._random = random_share
        self._born_s = now_s
        self._others: dict[str, _Other] = {}
        self._is_listed = False
        self._stream = 0
        self._joined_s = now_s
        self._created = 0  # version of my first write; 0 before
        self._claim = 0  # version of the first write that said is_member
        self._claimed_s = math.inf
        self._has_claimed = False
        self._has_promised = False
        self._now_s = now_s
        self._elders: set[str] = set()
        self._is_active = False
        self._has_changed = False
        self._number = 0
        self._applied = 0
        self._changes: deque[tuple[int, int]] = deque()  # number of a view, version shown before its change
        self._seen = 0
        self._published_seen = 0
        self._newest_claim = 0
        self._blocker = ""
        self._scan_s = -math.inf
        self._start_after_s = start_after_s
        self._members: frozenset[Member] = frozenset()
        self._next_write_s = now_s
        self._last_write_s = -math.inf
        self._own_seen_s = -math.inf
        self._fresh_since_s = math.inf

    # What the API server shows.

    def listed(self, leases: Iterable[MemberLease], version: int, now_s: float, unix_s: float) -> None:
        """A consistent list of all Leases."""
        self._now_s = now_s
        leases = list(leases)
        names = {lease.name for lease in leases}
        if 0 < self._created <= version and self.me.name not in names:
            self.is_lost = True
        if not self._is_listed:
            self._elders = {lease.name for lease in leases if lease.pod == self.me.pod}
        for lease in leases:
            self._take(lease, now_s)
        for name in [name for name in self._others if name not in names]:
            other = self._others.pop(name)
            if other.lease.pod:  # deleted by hand while nobody watched: its last promise is not known
                self._raise_floor(max(other.lease.records_until_s, unix_s + self._timing.record_s + 1.0))
                self._has_changed = True
        self._is_listed = True
        self._progress(version)

    def saw(self, lease: MemberLease, now_s: float) -> None:
        """A Lease was added or changed."""
        self._take(lease, now_s)
        self._progress(lease.version)

    def gone(self, lease: MemberLease, now_s: float) -> None:
        """A Lease was deleted; this is what it said last. As good as ended: nobody can write it again."""
        if lease.name == self.me.name:
            self.is_lost = True
            return
        self._take(lease._replace(pod=""), now_s)
        del self._others[lease.name]
        self._progress(lease.version)

    def progress(self, version: int) -> None:
        """A bookmark: the watch has shown everything up to `version`."""
        self._progress(version)

    # What this process did.

    def wrote(self, step: Step, version: int, now_s: float) -> None:
        """My Lease was written as `step` said. `now_s`: when it was sent."""
        self._last_write_s = now_s
        self._next_write_s = now_s + self._timing.renew_s * (0.9 + 0.1 * self._random())
        self._published_seen = max(self._published_seen, step.seen)
        self._created = self._created or version
        self._has_promised = self._has_promised or step.is_active
        if step.is_member and not self._claim:
            self._claim, self._claimed_s = version, now_s
            self._has_changed = True
            self._progress(self._stream)

    def failed(self, now_s: float) -> None:
        """The write did not succeed, or nobody knows. Tried again soon."""
        self._next_write_s = now_s + _RETRY_S * (0.5 + self._random())

    def applied(self, number: int, recorded_until_s: float) -> None:
        """The process acts on view `number`. `recorded_until_s`: the last tick of cameras that it let go."""
        self._raise_floor(recorded_until_s)
        self._applied = max(self._applied, number)
        while self._changes and self._changes[0][0] <= self._applied:
            self._changes.popleft()
        self._seen = self._changes[0][1] if self._changes else self._stream

    # What follows.

    @property
    def view(self) -> View:
        """What to act on now."""
        return View(self._number, self._members, self._is_active, self._start_after_s)

    def step(self, now_s: float) -> Step:
        """What to do at `now_s`. Ask a few times a second."""
        self._now_s = now_s
        if self._claim and not self._is_active:
            self._progress(self._stream)
        # Never taken back: the write that said it may have arrived although its answer did not.
        claims = self._has_claimed = self._has_claimed or self._has_settled(now_s)
        due_s = self._next_write_s
        if claims and (not self._claim or self._owes_answer or self._owes_promise):
            due_s = min(due_s, self._last_write_s + MIN_WRITE_GAP_S)
        is_due = now_s >= due_s and self._is_listed and not self.is_lost
        end, remove = self._overdue(now_s) if now_s >= self._scan_s else ((), ())
        return Step(is_due, claims, self._is_active, self._seen, self._start_after_s, end, remove)

    def lease_of(self, name: str) -> MemberLease:
        """Another's Lease as it was last seen; its version goes into the write that ends it."""
        return self._others[name].lease

    def put_off(self, name: str, now_s: float) -> None:
        """Ending or removing that Lease is under way: not again within a second."""
        if name in self._others:
            self._others[name].not_before_s = now_s + 1.0

    @property
    def _owes_answer(self) -> bool:
        return self._published_seen < self._newest_claim <= self._seen

    @property
    def _owes_promise(self) -> bool:
        return self._is_active and not self._has_promised

    def _has_settled(self, now_s: float) -> bool:
        """Whether to claim: nobody new came for a moment, and that moment was not drawn out for long."""
        settle_s = self._timing.settle_s
        if not self._is_listed or self._last_write_s == -math.inf:
            return False
        return now_s >= min(self._joined_s + settle_s, self._born_s + 3 * settle_s)

    def _overdue(self, now_s: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Leases to end and to remove. Writes only put a Lease's time off, so the next look can wait."""
        end: list[str] = []
        remove: list[str] = []
        next_s = math.inf
        for name, other in self._others.items():
            due_s = max(self._ends_at_s(other, now_s), other.not_before_s)
            if due_s > now_s:
                next_s = min(next_s, due_s)
            else:
                (end if other.lease.pod else remove).append(name)
        self._scan_s = now_s if end or remove else next_s
        return tuple(end), tuple(remove)

    def _ends_at_s(self, other: _Other, now_s: float) -> float:
        """When to end that Lease, or to remove an ended one."""
        if not other.lease.pod:
            return other.changed_s + KEEP_ENDED_S * (1 + other.patience)
        if other.lease.name in self._elders:  # the process before me in this pod is dead
            return now_s
        if now_s - self._own_seen_s > 2 * self._timing.renew_s:
            return now_s + 0.5  # my own writes do not come back: it is the API server, or me
        quiet_from_s = max(other.changed_s, self._fresh_since_s)
        return quiet_from_s + other.lease.duration_s + 0.5 * other.patience

    def _take(self, lease: MemberLease, now_s: float) -> None:
        if lease.name == self.me.name:
            self._take_own(lease, now_s)
            return
        other = self._others.get(lease.name)
        if other is None:
            other = self._others[lease.name] = _Other(lease, now_s, self._random())
            self._scan_s = now_s
            if lease.pod:
                self._joined_s = now_s
        elif lease.version > other.lease.version:
            other.lease, other.changed_s = lease, now_s
        is_member = lease.is_member and bool(lease.pod)
        if is_member != bool(other.member_version):
            other.member_version = lease.version if is_member else 0
            self._has_changed = True
            self._scan_s = now_s
        self._raise_floor(lease.start_after_s)
        if not lease.pod:
            self._raise_floor(lease.records_until_s)

    def _take_own(self, lease: MemberLease, now_s: float) -> None:
        if not lease.pod:
            self.is_lost = True
        elif now_s - self._own_seen_s > 2 * self._timing.renew_s:
            self._fresh_since_s = now_s
        self._own_seen_s = now_s

    def _progress(self, version: int) -> None:
        shown_before, self._stream = self._stream, max(self._stream, version)
        if self._has_changed or (self._claim and not self._is_active):
            self._refresh(shown_before)
        if not self._changes:
            self._seen = self._stream

    def _refresh(self, shown_before: int) -> None:
        """Note a change of the members, or that this process may begin."""
        self._has_changed = False
        self._newest_claim = max((other.member_version for other in self._others.values()), default=0)
        members = {
            Member(other.lease.name, other.lease.pod)
            for other in self._others.values()
            if other.member_version
        }
        if self._claim:
            members.add(self.me)
        is_active = self._is_active or self._may_begin()
        if members != self._members or is_active != self._is_active:
            self._members, self._is_active = frozenset(members), is_active
            self._number += 1
            self._changes.append((self._number, shown_before))

    def _may_begin(self) -> bool:
        """Each other member has seen my claim, and I have seen all claims before it."""
        if not self._claim or self._stream < self._claim:
            return False
        if self._blocks(self._others.get(self._blocker)):  # ask the one that blocked last time first
            return False
        self._blocker = next((name for name, other in self._others.items() if self._blocks(other)), "")
        return not self._blocker and not self._is_first_of_many()

    def _blocks(self, other: _Other | None) -> bool:
        return other is not None and other.member_version > 0 and other.lease.seen < self._claim

    def _is_first_of_many(self) -> bool:
        """Nobody records yet, and others are about to claim: begin together, lest cameras change hands."""
        if self._now_s >= self._claimed_s + 2 * self._timing.settle_s:
            return False
        leases = [other.lease for other in self._others.values() if other.lease.pod]
        return not any(lease.records_until_s for lease in leases) and not all(
            lease.is_member for lease in leases
        )

    def _raise_floor(self, unix_s: float) -> None:
        self._start_after_s = max(self._start_after_s, unix_s)
