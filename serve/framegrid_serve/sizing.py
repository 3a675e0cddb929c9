"""How many replicas the offered frames need. Functions of values: no Ray, no clock, no I/O.

    desired = demand / target_utilisation
    demand  = max(busy time, offered frames/s x service time per frame), in replicas that would be full

Frames that cameras lost before they reached serve are part of what was offered, so the answer is right in
one step even when everything is saturated and neither busy time nor queues can say how much is missing.
Going up follows the demand; going down follows its peak, and neither does anything within a tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum

# Sums of shares of 1,000 replicas are that much off at most; they must not cost a replica.
_ROUNDING = 1e-6
# Means of replicas and of senders still hold the busy time before a quiet one for so long.
_SETTLING_S = 6.0


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """One replica's last seconds, as it reports them. Shares are of this replica's capacity: 1 is full.

    A replica with s engine streams has the capacity of s seconds of engine time per second. Work of negative
    priority (videos, shadow runs) is not part of it: it takes what is left over.
    """

    busy: float  # share of its engine time that was spent
    offered: float  # share that the offered frames would take; frames of unmeasured models are not in it
    offered_fps: float  # frames answered, and frames that senders lost, by their own account
    dropped_fps: float  # of those, the lost ones
    unmeasured_fps: float  # of those, the ones of models whose service time is not known here yet
    service_s: float  # engine time of one frame, mean over the models by their frames; 0: not known yet
    streams: float
    queued_frames: float

    def to_metrics(self) -> dict[str, float]:
        """For `record_autoscaling_stats`."""
        return {_PREFIX + name: float(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metrics(cls, values: Mapping[str, float]) -> ReplicaStats | None:
        """What `to_metrics` made; None when something is missing or is not a number from 0 on."""
        found = [values.get(_PREFIX + field.name, -1.0) for field in fields(cls)]
        if any(not math.isfinite(value) or value < 0 for value in found):
            return None
        return cls(*found)


# Ray names metrics for the whole deployment; ours stand apart from its own.
_PREFIX = "framegrid_"
METRIC_NAMES = tuple(_PREFIX + field.name for field in fields(ReplicaStats))


# Lowest and highest value of each field of SizingSettings.
SIZING_BOUNDS: Mapping[str, tuple[float, float]] = {
    "target_utilisation": (0.05, 1.0),
    "tolerance": (0.0, 0.5),
    "max_step_up": (1.1, 1000.0),
    "max_step_down": (0.0, 0.99),
}


@dataclass(frozen=True, slots=True)
class SizingSettings:
    """Why these defaults: serve/AUTOSCALING.md. Raises ValueError for what makes no sense."""

    # Share of the replicas' time to use: the rest takes bursts, cameras in step, and one replica's loss.
    target_utilisation: float = 0.7
    # Nothing changes while utilisation is within this share of the target, up or down.
    tolerance: float = 0.1
    # At most so many times the running replicas at once: a wrong figure may not order a whole cluster.
    max_step_up: float = 8.0
    # At least this share of the replicas stays at once.
    max_step_down: float = 0.5

    def __post_init__(self) -> None:
        for name, (low, high) in SIZING_BOUNDS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"policy_kwargs.{name}: expected {low} to {high}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The replicas now. `reports` are the recent ones of running replicas; the others are silent."""

    running: int
    target: int
    min_replicas: int
    max_replicas: int
    reports: Sequence[ReplicaStats]

    @property
    def silent(self) -> int:
        return max(0, self.running - len(self.reports))


class Limit(str, Enum):
    """What kept the number of replicas from what the load needs."""

    NONE = ""
    MIN_REPLICAS = "min_replicas"
    MAX_REPLICAS = "max_replicas"
    MAX_STEP_UP = "max_step_up"
    MAX_STEP_DOWN = "max_step_down"


@dataclass(frozen=True, slots=True)
class Demand:
    """What the fleet is asked for, in full replicas, with the figures it follows from."""

    replicas: float
    busy: float
    offered: float
    offered_fps: float
    dropped_fps: float
    service_s: float  # engine time of one frame; 0: not known
    streams: float  # per replica; 0: not known
    queued_frames: float


@dataclass(frozen=True, slots=True)
class Decision:
    """`desired` is what Serve is told; `needed` what the load alone would ask for."""

    desired: int
    needed: int
    limit: Limit
    reason: str
    demand: Demand | None  # None: nobody reported


def demand_of(reports: Sequence[ReplicaStats]) -> Demand | None:
    """Sums over the replicas. None without a report, or when no service time is known for offered frames."""
    if not reports:
        return None
    busy = sum(report.busy for report in reports)
    offered = sum(report.offered for report in reports)
    measured = [report for report in reports if report.service_s > 0]
    weights = sum(report.offered_fps for report in measured)
    if weights > 0:
        service_s = sum(report.service_s * report.offered_fps for report in measured) / weights
    else:
        service_s = sum(report.service_s for report in measured) / len(measured) if measured else 0.0
    streams = sum(report.streams for report in reports) / len(reports)
    unmeasured_fps = sum(report.unmeasured_fps for report in reports)
    if unmeasured_fps > 0:
        if not measured or streams <= 0:
            return None
        # A replica that has just started does not know yet what its frames cost; the others do.
        offered += unmeasured_fps * service_s / streams
    return Demand(
        replicas=max(busy, offered),
        busy=busy,
        offered=offered,
        offered_fps=sum(report.offered_fps for report in reports),
        dropped_fps=sum(report.dropped_fps for report in reports),
        service_s=service_s,
        streams=streams,
        queued_frames=sum(report.queued_frames for report in reports),
    )


def decide(fleet: Fleet, demand: Demand | None, peak: float, settings: SizingSettings) -> Decision:
    """The number of replicas. `peak`: the highest demand since fewer would do (QuietPeak)."""
    if fleet.running == 0 or demand is None:
        what = "no replica runs yet" if fleet.running == 0 else "no replica has said what it does yet"
        return Decision(fleet.target, fleet.target, Limit.NONE, f"{what}: left as it is", demand)
    needed = replicas_for(demand.replicas, settings.target_utilisation)
    high = settings.target_utilisation * (1 + settings.tolerance)
    low = settings.target_utilisation * (1 - settings.tolerance)
    if replicas_for(demand.replicas, high) > fleet.target:
        return _up(fleet, demand, needed, settings)
    if replicas_for(max(peak, demand.replicas), low) < fleet.target:
        return _down(fleet, demand, replicas_for(max(peak, demand.replicas), low), settings)
    if needed < fleet.target == fleet.min_replicas:
        reason = "the fewest replicas allowed; the load needs fewer"
        return Decision(fleet.target, needed, Limit.MIN_REPLICAS, reason, demand)
    return _bounded(fleet, Decision(fleet.target, needed, Limit.NONE, "as many as the load needs", demand))


def replicas_for(demand: float, utilisation: float) -> int:
    """Replicas that `demand` keeps at `utilisation`."""
    return math.ceil(demand / utilisation - _ROUNDING)


def _up(fleet: Fleet, demand: Demand, needed: int, settings: SizingSettings) -> Decision:
    # Of running ones: those that are starting have not shown yet what they change.
    most = math.ceil(settings.max_step_up * fleet.running)
    desired = max(fleet.target, min(needed, most))
    limit = Limit.MAX_STEP_UP if desired < needed else Limit.NONE
    return _bounded(fleet, Decision(desired, needed, limit, "the load needs more", demand))


def _down(fleet: Fleet, demand: Demand, wanted: int, settings: SizingSettings) -> Decision:
    if fleet.silent or fleet.running < fleet.target:
        missing = max(fleet.silent, fleet.target - fleet.running)
        reason = f"the load needs fewer, but {missing} of the replicas said nothing lately: left as it is"
        return Decision(fleet.target, wanted, Limit.NONE, reason, demand)
    least = math.ceil(settings.max_step_down * fleet.target - _ROUNDING)
    desired = max(wanted, least)
    limit = Limit.MAX_STEP_DOWN if desired > max(wanted, fleet.min_replicas) else Limit.NONE
    return _bounded(fleet, Decision(desired, wanted, limit, "the load needs fewer", demand))


def _bounded(fleet: Fleet, wish: Decision) -> Decision:
    bounded = max(fleet.min_replicas, min(fleet.max_replicas, wish.desired))
    limit, reason = wish.limit, wish.reason
    if bounded < max(wish.desired, wish.needed) and bounded == fleet.max_replicas:
        limit, reason = Limit.MAX_REPLICAS, "the load needs more than the most replicas allowed"
    elif bounded == fleet.min_replicas and bounded > wish.needed:
        limit, reason = Limit.MIN_REPLICAS, "the fewest replicas allowed; the load needs fewer"
    return replace(wish, desired=bounded, limit=limit, reason=reason)


class QuietPeak:
    """The highest demand since it has been low enough for fewer replicas.

    Serve waits downscale_delay_s and then takes the wish of that moment; this makes it the whole time's.
    """

    def __init__(self) -> None:
        self._peak = 0.0
        self._since_s = 0.0
        self._target = -1

    def add(self, now_s: float, demand: float, target: int, settings: SizingSettings) -> float:
        """Note the demand of now, by a monotonic clock."""
        low = settings.target_utilisation * (1 - settings.tolerance)
        if target != self._target or replicas_for(demand, low) >= target:
            self._peak, self._since_s, self._target = 0.0, now_s, target
        if now_s - self._since_s < _SETTLING_S:
            return demand
        self._peak = max(self._peak, demand)
        return self._peak
