"""Cameras -> ingest -> replicas, event by event, on one simulated clock. Deterministic.

Ingest is as the real one is: of each camera the newest frame waits, a bounded number of requests is under
way, what waits is spread over the free ones, frames past their deadline are dropped. Its `Load` and
`RequestLimit` and the replicas' `LoadMeter` are the real classes; so are the policies (`policies.py`).
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from framegrid_ingest.load import Load, Taken
from framegrid_ingest.request_limit import RequestLimit
from framegrid_serve.load_meter import LoadMeter
from framegrid_serve.service_time import ServiceTime
from framegrid_serve.sizing import SizingSettings, replicas_for

from framegrid_local.bench.scaling.loads import FPS, Scenario
from framegrid_local.bench.scaling.policies import MIN_REPLICAS, Autoscaler, simulated_time

TARGET_S = 0.5  # capture to answer
DEADLINE_S = 1.0
INGEST_PODS = 2
MAX_REQUESTS = 64  # of a pod, and
MAX_FRAMES = 8  # of a request: ingest's defaults
QUEUE_FRAMES = 128
START_S = 4.0  # a replica's start on a warm node
CONTROL_LOOP_S = 0.5
_MODEL = "model"


class Net:
    """Stands for a detector."""

    max_batch = 1


@dataclass(eq=False)
class Request:
    """Frames on their way; done when `left` is 0."""

    pod: int
    sent_s: float
    captured: list[float]
    taken: Taken
    left: int
    waited_s: float = 0.0  # of the frame that waited least
    infer_s: float = 0.0


@dataclass(eq=False)
class Replica:
    """One stream, one queue; also the batcher that the real LoadMeter asks."""

    number: int
    started_s: float
    now: Callable[[], float]
    streams: int = 1
    waiting: deque[tuple[Request, float]] = field(default_factory=deque)
    requests: int = 0
    busy_s: float = 0.0
    since_s: float | None = None  # the frame under way
    times: dict[Net, ServiceTime] = field(default_factory=dict)
    is_leaving: bool = False
    meter: Any = None

    def live_busy_s(self) -> float:
        return self.busy_s + (self.now() - self.since_s if self.since_s is not None else 0.0)

    def frame_s(self, detector: Net) -> float | None:
        known = self.times.get(detector)
        return known.frame_s(1) if known is not None else None

    def stats(self) -> Any:
        return self

    @property
    def queued_frames(self) -> int:
        return len(self.waiting)


@dataclass(frozen=True)
class Outcome:
    """What came of one scenario under one policy."""

    offered: int
    in_time: int
    dropped: int
    replica_s: float
    changes: int
    recovered_s: float | None  # of `step`: from the load's change until all is well again
    series: tuple[tuple[float, float, int, float], ...]  # second, offered fps, replicas, share in time


class Simulation:
    """One run; `run` gives what came of it."""

    def __init__(self, scenario: Scenario, policy: str) -> None:
        self.now_s = 0.0
        self._scenario = scenario
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._autoscaler = Autoscaler(policy, self._now)
        self._loads = [Load(self) for _ in range(INGEST_PODS)]  # type: ignore[arg-type]
        self._slots: list[dict[int, float]] = [{} for _ in range(INGEST_PODS)]  # camera -> capture, by turn
        self._limits = [RequestLimit(MAX_REQUESTS) for _ in range(INGEST_PODS)]
        self._under_way = [0] * INGEST_PODS
        self._cameras = 0
        self._service_s = scenario.service[0][1]
        self._net = Net()
        self._replicas: list[Replica] = []
        self._starting: list[int] = []
        self._numbers = itertools.count()
        # All begin with the number that is right for the first load.
        first_load = scenario.cameras[0][1] * FPS * self._service_s
        self._target = max(MIN_REPLICAS, replicas_for(first_load, SizingSettings().target_utilisation))
        self._offered: Counter[int] = Counter()
        self._in_time: Counter[int] = Counter()
        self._dropped = 0
        self._replica_s = 0.0
        self._changes = 0
        self._shown: dict[int, int] = {}

    def monotonic_s(self) -> float:
        """Ingest's clock."""
        return self.now_s

    def run(self) -> Outcome:
        scenario = self._scenario
        for at_s, cameras in scenario.cameras:
            self._at(at_s, self._set_cameras, cameras)
        for at_s, service_s in scenario.service[1:]:
            self._at(at_s, self._swap, service_s)
        for _ in range(self._target):
            self._add_replica()
        self._at(0.0, self._control)
        self._at(self._autoscaler.record_interval_s, self._record)
        with simulated_time(self._now):
            while self._events and self._events[0][0] <= scenario.length_s:
                self.now_s, _, action, values = heapq.heappop(self._events)
                action(*values)
        return self._outcome()

    def _now(self) -> float:
        return self.now_s

    def _at(self, at_s: float, action: Callable[..., None], *values: Any) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), action, values))

    # Cameras and ingest

    def _set_cameras(self, cameras: int) -> None:
        for camera in range(self._cameras, cameras):
            # Cameras are not in step: the golden ratio spreads them.
            self._at(self.now_s + (camera * 0.618 % 1.0) / FPS, self._frame, camera)
        self._cameras = cameras

    def _frame(self, camera: int) -> None:
        if camera >= self._cameras:
            return
        self._at(self.now_s + 1 / FPS, self._frame, camera)
        self._offered[int(self.now_s)] += 1
        pod = camera % INGEST_PODS
        if camera in self._slots[pod]:
            self._drop(pod)
        self._slots[pod][camera] = self.now_s  # keeps its place in the line
        self._send(pod)

    def _drop(self, pod: int) -> None:
        self._dropped += 1
        self._loads[pod].add(_MODEL, is_dropped=True)

    def _send(self, pod: int) -> None:
        slots = self._slots[pod]
        while slots and (free := self._limits[pod].value - self._under_way[pod]) > 0:
            wanted = min(MAX_FRAMES, -(-len(slots) // free))
            captured = [slots.pop(camera) for camera in list(slots)[:wanted]]
            self._under_way[pod] += 1
            taken = self._loads[pod].take(_MODEL)
            request = Request(pod, self.now_s, captured, taken, len(captured))
            replica = min(self._replicas, key=lambda r: (r.is_leaving, r.requests, r.number))
            self._take_in(replica, request)

    def _take_in(self, replica: Replica, request: Request) -> None:
        if len(replica.waiting) + len(request.captured) > QUEUE_FRAMES:
            self._told(replica, request)
            self._limits[request.pod].failed()
            for _ in request.captured:
                self._drop(request.pod)
            self._under_way[request.pod] -= 1
            return
        replica.requests += 1
        replica.waiting.extend((request, captured_s) for captured_s in request.captured)
        if replica.since_s is None:
            self._next(replica)

    # Replicas

    def _next(self, replica: Replica) -> None:
        while replica.waiting and replica.since_s is None:
            request, captured_s = replica.waiting.popleft()
            known = replica.times.get(self._net)
            expected_s = min(known.batch_s(1), DEADLINE_S / 2) if known is not None else 0.0
            if request.left == len(request.captured):
                request.waited_s = self.now_s - request.sent_s
            if self.now_s + expected_s < captured_s + DEADLINE_S:
                replica.since_s = self.now_s
                self._at(self.now_s + self._service_s, self._done, replica, request, captured_s, self._net)
                return
            self._drop(request.pod)
            self._settle(replica, request)

    def _done(self, replica: Replica, request: Request, captured_s: float, net: Net) -> None:
        assert replica.since_s is not None
        elapsed_s = self.now_s - replica.since_s
        replica.busy_s += elapsed_s
        replica.since_s = None
        request.infer_s = elapsed_s
        replica.times.setdefault(net, ServiceTime()).add(1, elapsed_s)
        replica.meter.answered(_MODEL, net, 1)
        self._loads[request.pod].add(_MODEL)
        self._in_time[int(captured_s)] += self.now_s - captured_s <= TARGET_S
        self._settle(replica, request)
        if replica.since_s is None:
            self._next(replica)

    def _settle(self, replica: Replica, request: Request) -> None:
        request.left -= 1
        if request.left:
            return
        replica.requests -= 1
        self._told(replica, request)
        pod = request.pod
        self._limits[pod].answered(request.waited_s, request.infer_s, in_flight=self._under_way[pod])
        self._under_way[pod] -= 1
        self._send(pod)

    def _told(self, replica: Replica, request: Request) -> None:
        if request.taken.dropped:
            replica.meter.dropped(_MODEL, self._net, request.taken.dropped)

    def _swap(self, service_s: float) -> None:
        self._service_s, self._net = service_s, Net()

    # Serve

    def _add_replica(self) -> None:
        replica = Replica(next(self._numbers), self.now_s, self._now)
        replica.meter = LoadMeter(replica, clock=self._now)  # type: ignore[arg-type]
        self._replicas.append(replica)

    def _started(self, number: int) -> None:
        if number in self._starting:
            self._starting.remove(number)
            self._add_replica()

    def _record(self) -> None:
        self._at(self.now_s + self._autoscaler.record_interval_s, self._record)
        running = [replica for replica in self._replicas if not replica.is_leaving]
        stats = {replica.number: replica.meter.stats() for replica in running}
        self._autoscaler.record(sum(replica.requests for replica in running), stats)

    def _control(self) -> None:
        self._at(self.now_s + CONTROL_LOOP_S, self._control)
        self._replicas = [r for r in self._replicas if not (r.is_leaving and r.requests == 0)]
        running = [replica.number for replica in self._replicas if not replica.is_leaving]
        self._replica_s += CONTROL_LOOP_S * (len(self._replicas) + len(self._starting))
        target = self._autoscaler.decide(running, self._target)
        self._changes += target != self._target
        self._target = target
        while len(running) + len(self._starting) < target:
            number = next(self._numbers)
            self._starting.append(number)
            self._at(self.now_s + START_S, self._started, number)
        over = len(running) + len(self._starting) - target
        while over > 0 and self._starting:
            self._starting.pop()
            over -= 1
        for replica in [r for r in reversed(self._replicas) if not r.is_leaving][: max(0, over)]:
            replica.is_leaving = True
        self._shown[int(self.now_s)] = sum(not replica.is_leaving for replica in self._replicas)

    def _outcome(self) -> Outcome:
        seconds = range(int(self._scenario.length_s) - int(DEADLINE_S) - 1)
        series = tuple(
            (float(s), float(self._offered[s]), self._shown[s], self._in_time[s] / max(1, self._offered[s]))
            for s in seconds
        )
        offered = sum(self._offered[s] for s in seconds)
        return Outcome(
            offered=offered,
            in_time=sum(self._in_time[s] for s in seconds),
            dropped=self._dropped,
            replica_s=self._replica_s,
            changes=self._changes,
            recovered_s=_recovered_s(self._scenario, series),
            series=series,
        )


def _recovered_s(scenario: Scenario, series: tuple[tuple[float, float, int, float], ...]) -> float | None:
    """After the first change of load or model: until 95 % of the frames are in time for 5 s on end."""
    steps = [*scenario.cameras[1:2], *scenario.service[1:2]]
    if scenario.name not in ("step", "step12", "swap"):
        return None
    began_s = min(at_s for at_s, _ in steps)
    good = 0
    for second, _, _, share in series:
        if second < began_s:
            continue
        good = good + 1 if share >= 0.95 else 0
        if good == 5:
            return second - 4 - began_s
    return float("inf")
