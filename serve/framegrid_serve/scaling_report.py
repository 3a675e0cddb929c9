"""What the autoscaling policy decided and why, from the controller to whoever asks a replica.

The policy lives in Serve's controller, which has no port of its own; replicas do. So the controller leaves
its newest report in Ray's key-value store, from a thread because the policy must not wait, and any replica
reads it there for GET /v1/autoscaling. Nothing else depends on it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from framegrid_serve.metrics import POLICY_GAUGES
from framegrid_serve.sizing import Decision

logger = logging.getLogger(__name__)

_NAMESPACE = b"framegrid"
_PREFIX = b"autoscaling:"
# Newest of the changes that a report carries.
KEPT_CHANGES = 8


@dataclass(frozen=True, slots=True)
class Change:
    """The number of replicas that Serve aims at was changed."""

    at_s: float  # unix time by the controller's clock
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class ScalingReport:
    """One deployment's state. Shares are 0 to 1; `needed` is what the load alone asks for."""

    application: str
    deployment: str
    at_s: float
    running: int
    target: int
    desired: int
    needed: int
    min_replicas: int
    max_replicas: int
    limit: str
    reason: str
    silent_replicas: int
    offered_fps: float | None  # None: nobody has reported
    dropped_fps: float | None
    service_s: float | None
    replica_fps: float | None
    utilisation: float | None
    target_utilisation: float
    queued_frames: float | None
    upscale_delay_s: float
    downscale_delay_s: float
    changes: tuple[Change, ...] = ()


def figures_of(decision: Decision, running: int) -> dict[str, float | None]:
    """The measured part of a report."""
    demand = decision.demand
    if demand is None:
        names = ("offered_fps", "dropped_fps", "service_s", "replica_fps", "utilisation", "queued_frames")
        return dict.fromkeys(names)
    return {
        "offered_fps": round(demand.offered_fps, 3),
        "dropped_fps": round(demand.dropped_fps, 3),
        "service_s": round(demand.service_s, 6) if demand.service_s else None,
        "replica_fps": round(demand.streams / demand.service_s, 3) if demand.service_s else None,
        "utilisation": round(demand.replicas / max(1, running), 4),
        "queued_frames": demand.queued_frames,
    }


def reason_for(decision: Decision, target_utilisation: float) -> str:
    """Why, with the figures."""
    demand = decision.demand
    if demand is None or not demand.service_s:
        return decision.reason
    return (
        f"{decision.reason}: {demand.offered_fps:.1f} frames/s x {demand.service_s * 1e3:.1f} ms "
        f"keep {demand.replicas:.2f} replicas busy, at {target_utilisation:.0%} that is {decision.needed}"
    )


class Board:
    """Leaves reports in Ray's key-value store and its metrics. Never blocks, never raises."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._gauges: dict[str, Any] = {}

    def __call__(self, report: ScalingReport) -> None:
        if self._thread is not None and self._thread.is_alive():
            return  # the store is slow; the next report is newer anyway
        self._thread = threading.Thread(target=self._put, args=(report,), name="scaling-report", daemon=True)
        self._thread.start()

    def _put(self, report: ScalingReport) -> None:
        try:
            from ray.experimental import internal_kv

            if not internal_kv._internal_kv_initialized():
                return
            key = _PREFIX + f"{report.application}:{report.deployment}".encode()
            internal_kv._internal_kv_put(key, json.dumps(asdict(report)).encode(), True, namespace=_NAMESPACE)
            self._measure(report)
        except Exception:  # a report is a convenience; autoscaling goes on without
            logger.warning("the autoscaling report was not left", exc_info=True)

    def _measure(self, report: ScalingReport) -> None:
        from ray.util import metrics as ray_metrics

        labels = ("application", "deployment")
        for name, (text, field) in POLICY_GAUGES.items():
            value = getattr(report, field)
            if value is None:
                continue
            if name not in self._gauges:
                self._gauges[name] = ray_metrics.Gauge(name, text, labels)
            self._gauges[name].set(value, {label: getattr(report, label) for label in labels})


def read_reports() -> list[dict[str, Any]]:
    """The newest report of every deployment, for a process of Ray's. Takes milliseconds; raises OSError."""
    from ray.experimental import internal_kv

    try:
        keys = internal_kv._internal_kv_list(_PREFIX, namespace=_NAMESPACE)
        found = [internal_kv._internal_kv_get(key, namespace=_NAMESPACE) for key in sorted(keys)]
    except Exception as error:  # Ray raises many types
        raise OSError(f"Ray's head does not answer ({type(error).__name__})") from error
    return [json.loads(value) for value in found if value]


Publish = Callable[[ScalingReport], None]
