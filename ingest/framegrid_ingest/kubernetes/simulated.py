"""Ingest pods and an API server that exist only as events in time: what `membership` does, at any scale.

Each pod has clocks of its own (offset, rate), a watch that lags, writes that take time, fail or succeed
without a reply, and may be frozen, cut off or killed. `Installation.doubled` lists every camera and interval
that two processes recorded; the rules promise that it stays empty. Nothing here is approximate about
ownership: the same `Membership`, `owned_by` and `StatusPlan` run in a real pod.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from framegrid_ingest.kubernetes.membership import MAX_CLOCK_OFFSET_S, MemberLease, Membership, Step, Timing
from framegrid_ingest.kubernetes.rendezvous import Member, owners
from framegrid_ingest.kubernetes.simulated_api import Conditions, SimulatedApi
from framegrid_ingest.kubernetes.status_plan import CameraStatus, StatusPlan

INTERVAL_S = 1.0
_STEP_S = 0.1
_STATUS_S = 2.0
_OPENINGS = 16


@dataclass(slots=True)
class Span:
    """Interval numbers `first`..`last` of one camera, recorded by one process."""

    camera: str
    process: str
    first: int
    last: int


@dataclass(slots=True)
class _Recording:
    since_s: float
    from_unix_s: float


class Pod:
    """One ingest process. `offset_s` and `rate`: its wall clock and how fast its clocks run."""

    def __init__(self, world: Installation, pod: str, offset_s: float = 0.0, rate: float = 1.0) -> None:
        self.world = world
        self.pod = pod
        self.offset_s = offset_s
        self.rate = rate
        self.is_dead = self.is_frozen = self.is_cut_off = self.is_leaving = False
        self.recordings: dict[str, _Recording] = {}
        self.plan = StatusPlan()
        self._status_due_s = 0.0
        self._waiting: list[Callable[[], None]] = []
        self._join(-math.inf)
        world.at(random.Random(pod).random() * _STEP_S, self._tick)

    @property
    def local_s(self) -> float:
        return self.world.now_s * self.rate

    @property
    def unix_s(self) -> float:
        return self.world.now_s + self.offset_s

    def deliver(self, what: Callable[[], None]) -> None:
        """Run it in this process: now, after the thaw, or never."""
        if self.is_dead:
            return
        if self.is_frozen:
            self._waiting.append(what)
        else:
            what()

    def freeze(self) -> None:
        self.is_frozen = True

    def thaw(self) -> None:
        self.is_frozen = False
        waiting, self._waiting = self._waiting, []
        for what in waiting:
            self.deliver(what)

    def kill(self) -> None:
        """SIGKILL."""
        self._close(list(self.recordings))
        self.is_dead = True

    def leave(self) -> None:
        """SIGTERM: let go of everything, then end the own Lease."""
        self.is_leaving = True
        self.world.at(self.world.between(self.world.conditions.let_go_s), lambda: self.deliver(self._left))

    def _left(self) -> None:
        until_s = self._close(list(self.recordings))
        lease = self.world.leases.get(self.member.name)
        self.is_dead = True
        if lease is not None and lease.pod:
            ended = lease._replace(
                pod="", records_until_s=until_s, start_after_s=self.membership.view.start_after_s
            )
            self.world.call(self, lambda: self.world.put(ended, lease.version), lambda _: None)

    def _join(self, start_after_s: float) -> None:
        self.member = Member(f"{self.pod}-{next(self.world.numbers)}", self.pod)
        rng = random.Random(self.member.name)
        self.membership = Membership(self.member, self.world.timing, self.local_s, start_after_s, rng.random)
        self.version = 0
        self.until_s = -math.inf  # the promise of the last write that succeeded
        self._is_writing = self._is_applying = False
        self._acting_on = 0
        self._relist()

    def _relist(self) -> None:
        name = self.member.name

        def take(answer: tuple[list[MemberLease], int]) -> None:
            if name == self.member.name:
                self.membership.listed(*answer, self.local_s, self.unix_s)
                self.world.watch(self, answer[1])

        self.world.call(self, self.world.list, take, lambda: self.world.at(0.5, self._relist_again))

    def _relist_again(self) -> None:
        self.deliver(self._relist)

    def cut_off(self) -> None:
        """No request arrives, no event comes."""
        self.is_cut_off = True
        self.world.unwatch(self)

    def reconnect(self) -> None:
        """The network is back; list and watch again."""
        self.is_cut_off = False
        self.deliver(self._relist)

    def saw(self, name: str, kind: str, lease: MemberLease) -> None:
        """An event of the watch."""
        if name != self.member.name:
            return
        (self.membership.gone if kind == "DELETED" else self.membership.saw)(lease, self.local_s)

    def _tick(self) -> None:
        if self.is_dead:
            return
        self.world.at(_STEP_S, self._tick)
        if not self.is_frozen:
            self.world.arrived(self)
        if not self.is_frozen and not self.is_leaving:
            self._act()
            if self.world.now_s >= self._status_due_s:
                self._status_due_s = self.world.now_s + _STATUS_S
                self._write_status()

    def _act(self) -> None:
        if self.membership.is_lost:
            floor_s = max(
                self.membership.view.start_after_s, self.until_s, self._close(list(self.recordings))
            )
            self.world.unwatch(self)
            self._join(floor_s)
            return
        step = self.membership.step(self.local_s)
        if step.write and not self._is_writing:
            self._write(step)
        for name in step.end:
            self._end(name)
        for name in step.remove:
            self.membership.put_off(name, self.local_s)
            self.world.call(self, functools.partial(self.world.delete, name), lambda _: None)
        view = self.membership.view
        if view.number != self._acting_on and not self._is_applying:
            self._acting_on = view.number
            self._is_applying = True
            self._apply()

    def _write(self, step: Step) -> None:
        self._is_writing = True
        name, sent_s, version = self.member.name, self.local_s, self.version
        until_s = self.unix_s + self.world.timing.record_s if step.is_active else 0.0
        lease = MemberLease(
            name,
            self.pod,
            0,
            self.world.timing.lease_s,
            step.is_member,
            step.seen,
            until_s,
            step.start_after_s,
        )

        def done(written: int) -> None:
            if name != self.member.name:
                return
            self._is_writing = False
            if written > 0:
                self.version, self.until_s = written, max(self.until_s, until_s or -math.inf)
                self.membership.wrote(step, written, sent_s)
            else:
                self._write_failed()

        self.world.call(self, lambda: self.world.put(lease, version), done, lambda: self._unknown(name))

    def _unknown(self, name: str) -> None:
        if name == self.member.name:
            self._is_writing = False
            self._write_failed()

    def _write_failed(self) -> None:
        """Nobody knows, or a conflict: read the own Lease."""
        self.membership.failed(self.local_s)
        name = self.member.name

        def take(lease: MemberLease | None) -> None:
            if name != self.member.name:
                return
            if lease is not None and lease.pod:
                self.version = lease.version
            elif self.version:
                self.membership.is_lost = True

        self.world.call(self, lambda: self.world.leases.get(name), take)

    def _end(self, name: str) -> None:
        lease = self.membership.lease_of(name)
        self.membership.put_off(name, self.local_s)
        self.world.call(self, lambda: self.world.put(lease._replace(pod=""), lease.version), lambda _: None)

    def _apply(self) -> None:
        name, view = self.member.name, self.membership.view
        mine = self.world.owned(self.member, view.members) if view.is_active else set()
        lost = [camera for camera in self.recordings if camera not in mine]

        def let_go() -> None:
            if name != self.member.name:
                return
            self._is_applying = False
            until_s = self._close(lost)
            self.membership.applied(view.number, until_s)
            gained = sorted(mine - self.recordings.keys())
            random.Random(name).shuffle(gained)
            slots = [0.0] * _OPENINGS
            for camera in gained:
                at_s = heapq.heappop(slots) + self.world.between(self.world.conditions.open_s)
                heapq.heappush(slots, at_s)
                self._record(camera, at_s, view.start_after_s)

        delay_s = self.world.between(self.world.conditions.let_go_s) if lost else 0.0
        self.world.at(delay_s, lambda: self.deliver(let_go))

    def _record(self, camera: str, open_s: float, floor_s: float) -> None:
        if floor_s > self.unix_s + MAX_CLOCK_OFFSET_S:
            floor_s = -math.inf
        after_s = (math.floor(floor_s / INTERVAL_S) + 1) * INTERVAL_S if floor_s > -math.inf else -math.inf
        # Ticks begin at once, missed ones too: only the first picture has to wait for the camera.
        from_s = max(self.unix_s, after_s)
        self.recordings[camera] = _Recording(self.world.now_s, from_s)
        shown_s = max(self.world.now_s + open_s, self.world.now_s + from_s - self.unix_s)
        self.world.at(shown_s - self.world.now_s, lambda: self._shown(camera, from_s))

    def _shown(self, camera: str, from_s: float) -> None:
        recording = self.recordings.get(camera)
        if not self.is_dead and recording is not None and recording.from_unix_s == from_s:
            self.world.shown[camera] = self.world.now_s

    def _close(self, cameras: Sequence[str]) -> float:
        """Stop recording these; the last tick that any of them may have."""
        last_s = min(self.unix_s, self.until_s)
        for camera in cameras:
            recording = self.recordings.pop(camera)
            self.world.let_go[camera] = self.world.now_s
            if recording.from_unix_s <= last_s:
                first, last = math.floor(recording.from_unix_s / INTERVAL_S), math.floor(last_s / INTERVAL_S)
                self.world.spans.append(Span(camera, self.member.name, first, last))
        return last_s if cameras else -math.inf

    def _write_status(self) -> None:
        wanted = {
            camera: CameraStatus("running", "rtsp", "", self.pod, 1, 10.0, self.world.now_s)
            for camera in self.recordings
        }
        for camera in self.plan.due(wanted, len(self.world.cameras), self.local_s):
            self.plan.tried(camera, wanted[camera], self.local_s, is_written=True)
            self.world.count("patch status")


class Installation(SimulatedApi["Pod"]):
    """Pods and cameras around a simulated API server. Advance with `run`."""

    def __init__(
        self, cameras: int, seed: int = 0, timing: Timing | None = None, conditions: Conditions | None = None
    ) -> None:
        super().__init__(seed, conditions or Conditions())
        self.timing = timing or Timing()
        self.cameras = [f"camera-{number}" for number in range(cameras)]
        self.pods: dict[str, Pod] = {}
        self.spans: list[Span] = []
        self.shown: dict[str, float] = {}
        self.let_go: dict[str, float] = {}
        self.numbers = itertools.count()
        self._owner_cache: dict[frozenset[Member], list[Member]] = {}

    def add(self, name: str, offset_s: float = 0.0, rate: float = 1.0) -> Pod:
        """Start a pod (or a new process in a pod whose process is dead)."""
        pod = self.pods[name] = Pod(self, name, offset_s, rate)
        return pod

    def owned(self, me: Member, members: frozenset[Member]) -> set[str]:
        """As `owned_by`, kept for the next pod that asks."""
        if members not in self._owner_cache:
            if len(self._owner_cache) > 8:
                self._owner_cache.clear()
            self._owner_cache[members] = owners(self.cameras, members)
        found = self._owner_cache[members]
        return {camera for camera, owner in zip(self.cameras, found, strict=True) if owner == me}

    @property
    def recorded_by(self) -> dict[str, list[str]]:
        """Who records each camera now."""
        by_camera: dict[str, list[str]] = {camera: [] for camera in self.cameras}
        for pod in self.pods.values():
            for camera in pod.recordings if not pod.is_dead else ():
                by_camera[camera].append(pod.pod)
        return by_camera

    def doubled(self) -> list[tuple[Span, Span]]:
        """Pairs of spans of one camera, by two processes, that share an interval. Ends all recordings."""
        for pod in self.pods.values():
            if not pod.is_dead:
                pod._close(list(pod.recordings))
        found = []
        by_camera: dict[str, list[Span]] = {}
        for span in self.spans:
            by_camera.setdefault(span.camera, []).append(span)
        for spans in by_camera.values():
            spans.sort(key=lambda span: (span.first, span.last))
            latest: Span | None = None
            for span in spans:
                if latest is not None and span.first <= latest.last and span.process != latest.process:
                    found.append((latest, span))
                if latest is None or span.last > latest.last:
                    latest = span
        return found
