"""An API server for Leases and a network around it, as events in time: calls that take effect later, go wrong
or are not answered, watches that lag. For `simulated`."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from framegrid_ingest.kubernetes.membership import MemberLease
from framegrid_ingest.kubernetes.rendezvous import Member


class Client(Protocol):
    """What the API server needs to know of a process."""

    pod: str
    member: Member
    is_dead: bool
    is_cut_off: bool

    def deliver(self, what: Callable[[], None]) -> None:
        """Run it in the process: now, after the thaw, or never."""

    def saw(self, name: str, kind: str, lease: MemberLease) -> None:
        """An event of the watch that the process `name` opened."""


ClientT = TypeVar("ClientT", bound=Client)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the network and the cameras are like, in seconds. `trouble` 0..1: share of calls that go wrong."""

    call_s: tuple[float, float] = (0.002, 0.02)
    watch_s: tuple[float, float] = (0.002, 0.05)
    let_go_s: tuple[float, float] = (0.05, 0.4)
    open_s: tuple[float, float] = (0.3, 1.5)
    trouble: float = 0.0
    trouble_s: float = 5.0


@dataclass(slots=True)
class _Watch(Generic[ClientT]):
    pod: ClientT
    process: str
    lag_s: float
    inbox: deque[tuple[float, str, MemberLease]] = field(default_factory=deque)


class SimulatedApi(Generic[ClientT]):
    """Time, the network and the Leases."""

    def __init__(self, seed: int, conditions: Conditions) -> None:
        self.now_s = 1_000_000.0
        self.conditions = conditions
        self.rng = random.Random(seed)
        self.leases: dict[str, MemberLease] = {}
        self.requests: Counter[str] = Counter()
        self.requests_by_second: Counter[int] = Counter()
        self.watch_events = 0
        self.is_away = False
        self._version = 100
        self._watches: dict[str, _Watch[ClientT]] = {}
        self._log: list[tuple[int, str, MemberLease]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until_s = self.now_s + seconds
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
        self.now_s = until_s

    def at(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._order), event))

    def between(self, bounds: tuple[float, float]) -> float:
        return self.rng.uniform(*bounds)

    def count(self, what: str) -> None:
        self.requests[what] += 1
        self.requests_by_second[int(self.now_s)] += 1

    def call(
        self,
        pod: ClientT,
        work: Callable[[], object],
        answered: Callable[..., None],
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """A request: takes effect after a while, is answered a while later; either may go wrong."""
        kind = getattr(work, "__name__", "call")
        trouble = self.rng.random() < self.conditions.trouble
        slow_s = self.rng.uniform(0, self.conditions.trouble_s) if trouble else 0.0
        is_lost, is_unanswered = trouble and self.rng.random() < 0.3, trouble and self.rng.random() < 0.5

        def arrive() -> None:
            if self.is_away or pod.is_cut_off or is_lost:
                self.at(1.0, lambda: pod.deliver(failed))
                return
            self.count("list leases" if kind == "list" else "leases")
            result = work()
            if is_unanswered:
                self.at(1.0, lambda: pod.deliver(failed))
            else:
                self.at(self.between(self.conditions.call_s), lambda: pod.deliver(lambda: answered(result)))

        self.at(self.between(self.conditions.call_s) + slow_s, arrive)

    def list(self) -> tuple[list[MemberLease], int]:
        return list_of(self.leases), self._version

    def put(self, lease: MemberLease, version: int) -> int:
        """Create (version 0) or replace. The new version, or 0 for a conflict."""
        before = self.leases.get(lease.name)
        if (before.version if before else 0) != version:
            return 0
        self._version += 1
        stored = lease._replace(version=self._version)
        self.leases[lease.name] = stored
        self._tell("MODIFIED", stored)
        return self._version

    def delete(self, name: str) -> None:
        lease = self.leases.pop(name, None)
        if lease is not None:
            self._version += 1
            self._tell("DELETED", lease._replace(version=self._version))

    def watch(self, pod: ClientT, version: int) -> None:
        """Send what comes after `version`."""
        lag_s = self.between(self.conditions.watch_s)
        watch = self._watches[pod.pod] = _Watch(pod, pod.member.name, lag_s)
        for at, kind, lease in self._log:
            if at > version:
                self._send(watch, kind, lease)

    def arrived(self, pod: ClientT) -> None:
        """Hand the pod what its watch has brought by now, in order."""
        watch = self._watches.get(pod.pod)
        if watch is not None and watch.pod is pod:
            while watch.inbox and watch.inbox[0][0] <= self.now_s:
                _, kind, lease = watch.inbox.popleft()
                pod.saw(watch.process, kind, lease)

    def unwatch(self, pod: ClientT) -> None:
        self._watches.pop(pod.pod, None)

    def _tell(self, kind: str, lease: MemberLease) -> None:
        self._log.append((self._version, kind, lease))
        if len(self._log) > 4000:
            del self._log[:2000]
        for watch in self._watches.values():
            self._send(watch, kind, lease)

    def _send(self, watch: _Watch[ClientT], kind: str, lease: MemberLease) -> None:
        self.watch_events += 1
        if self.conditions.trouble and self.rng.random() < self.conditions.trouble / 10:
            watch.lag_s = self.rng.uniform(0, self.conditions.trouble_s)
        watch.inbox.append((self.now_s + watch.lag_s, kind, lease))


def list_of(leases: dict[str, MemberLease]) -> list[MemberLease]:
    """A copy, as a list request answers."""
    return [*leases.values()]
