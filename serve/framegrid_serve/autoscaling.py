"""Ray Serve's custom autoscaling policy `framegrid_serve.autoscaling:FramesPolicy`: a shell around `sizing`.

Ray calls it from the controller's loop, so it does no I/O and never raises: whatever goes wrong, the number
of replicas stays. Ray applies min_replicas, max_replicas and the delays to what it returns. Ages are by this
process's monotonic clock, from when a report last changed: clocks of other nodes are not trusted.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from framegrid_serve.scaling_report import (
    KEPT_CHANGES,
    Board,
    Change,
    Publish,
    ScalingReport,
    figures_of,
    reason_for,
)
from framegrid_serve.sizing import (
    METRIC_NAMES,
    Decision,
    Fleet,
    Limit,
    QuietPeak,
    ReplicaStats,
    SizingSettings,
    decide,
    demand_of,
)

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

logger = logging.getLogger(__name__)

# Replicas report every second; one that was silent for so long hangs, is gone, or its node's clock jumped.
STALE_S = 10.0
# Wall clock against monotonic clock between two calls; beyond this somebody set the clock.
_CLOCK_STEP_S = 1.0
# How old the report that people see may be.
_REPORT_EVERY_S = 2.0


class _Seen(NamedTuple):
    """A replica's newest report: its own time, ours when it came, and what it says."""

    told_s: float
    came_s: float
    stats: ReplicaStats | None


class FramesPolicy:
    """See the module. `policy_kwargs` are the fields of SizingSettings; a change restarts the replicas."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        publish: Publish | None = None,
        **settings: float,
    ) -> None:
        unknown = sorted(set(settings) - set(SizingSettings.__dataclass_fields__))
        if unknown:
            allowed = ", ".join(SizingSettings.__dataclass_fields__)
            raise ValueError(f"policy_kwargs.{unknown[0]}: unknown key; allowed are {allowed}")
        self.settings = SizingSettings(**settings)
        self.last: Decision | None = None
        self._clock = clock
        self._publish = publish or Board()
        self._published_s: float | None = None
        self._silent = 0
        self._changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        self._target: int | None = None
        self._peak = QuietPeak()
        self._seen: dict[Any, _Seen] = {}
        self._last_call: tuple[float, float] | None = None
        self._failures = 0

    def __call__(self, ctx: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        try:
            before, self.last = self.last, self._decide(ctx)
            self._report(ctx, self.last, before)
            self._failures = 0
            return self.last.desired, {}
        except Exception:  # the controller's loop must go on
            self._failures += 1
            if self._failures & (self._failures - 1) == 0:  # the 1st, 2nd, 4th, 8th, ... in a row
                logger.exception("autoscaling left as it is", extra={"failures": self._failures})
            return ctx.target_num_replicas, {}

    def _decide(self, ctx: AutoscalingContext) -> Decision:
        now_s = self._clock()
        fleet = Fleet(
            running=ctx.current_num_replicas,
            target=ctx.target_num_replicas,
            min_replicas=ctx.capacity_adjusted_min_replicas,
            max_replicas=ctx.capacity_adjusted_max_replicas,
            reports=self._reports(ctx, now_s),
        )
        self._silent = fleet.silent
        demand = demand_of(fleet.reports)
        peak = 0.0
        if demand is not None:
            peak = self._peak.add(now_s, demand.replicas, fleet.target, self.settings)
        if self._clock_was_set(ctx.current_time, now_s):
            # Ray times its delays by the wall clock; seeing no wish for a change it starts them afresh.
            reason = "this node's clock was set: left as it is"
            return Decision(fleet.target, fleet.target, Limit.NONE, reason, demand)
        return decide(fleet, demand, peak, self.settings)

    def _report(self, ctx: AutoscalingContext, decision: Decision, before: Decision | None) -> None:
        """Tell now and then; at once when the number of replicas has changed, by the decision before."""
        changed = self._target is not None and self._target != ctx.target_num_replicas
        utilisation = self.settings.target_utilisation
        if changed and self._target is not None:
            why = reason_for(before or decision, utilisation)
            self._changes.append(Change(ctx.current_time or 0.0, self._target, ctx.target_num_replicas, why))
        self._target = ctx.target_num_replicas
        now_s = self._clock()
        if not changed and self._published_s is not None and now_s - self._published_s < _REPORT_EVERY_S:
            return
        self._published_s = now_s
        self._publish(
            ScalingReport(
                application=ctx.app_name or "",
                deployment=ctx.deployment_name,
                at_s=ctx.current_time or 0.0,
                running=ctx.current_num_replicas,
                target=ctx.target_num_replicas,
                desired=decision.desired,
                needed=decision.needed,
                min_replicas=ctx.capacity_adjusted_min_replicas,
                max_replicas=ctx.capacity_adjusted_max_replicas,
                limit=decision.limit.value,
                reason=reason_for(decision, utilisation),
                silent_replicas=self._silent,
                target_utilisation=utilisation,
                upscale_delay_s=ctx.config.upscale_delay_s,
                downscale_delay_s=ctx.config.downscale_delay_s,
                changes=tuple(self._changes),
                **figures_of(decision, ctx.current_num_replicas),
            )
        )

    def _reports(self, ctx: AutoscalingContext, now_s: float) -> list[ReplicaStats]:
        """Recent reports of running replicas. One that has not changed is not read again: 1,000 are 20 ms."""
        metrics: Mapping[str, Mapping[Any, Any]] = ctx.raw_metrics or {}
        first = metrics.get(METRIC_NAMES[0], {})
        seen: dict[Any, _Seen] = {}
        for replica in ctx.running_replicas:
            series = first.get(replica)
            if not series:
                continue
            known = self._seen.get(replica)
            if known is None or known.told_s != series[-1].timestamp:
                newest = {name: _newest(metrics.get(name, {}).get(replica)) for name in METRIC_NAMES}
                known = _Seen(series[-1].timestamp, now_s, ReplicaStats.from_metrics(newest))
            seen[replica] = known
        self._seen = seen
        return [
            known.stats
            for known in seen.values()
            if known.stats is not None and now_s - known.came_s <= STALE_S
        ]

    def _clock_was_set(self, wall_s: float | None, now_s: float) -> bool:
        if wall_s is None:
            return False
        last, self._last_call = self._last_call, (wall_s, now_s)
        if last is None:
            return False
        return abs((wall_s - last[0]) - (now_s - last[1])) > _CLOCK_STEP_S


def _newest(series: Any) -> float:
    return float(series[-1].value) if series else -1.0
