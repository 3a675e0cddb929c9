"""The policies under test, each as Ray runs it: its own code, wrapped by Ray's `_apply_autoscaling_config`.

Ray times its delays by `time.time()`; here that is the simulation's clock, while `simulated_time` lasts.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from framegrid_serve.settings import AutoscalingSettings
from framegrid_serve.sizing import ReplicaStats

MIN_REPLICAS, MAX_REPLICAS = 1, 24
POLICIES = ("frames", "ray_tuned", "ray_default")
TITLES = {
    "frames": "FramesPolicy",
    "ray_tuned": "Ray's policy, tuned",
    "ray_default": "Ray's policy as it comes",
}
# Ray's own on replicas that run one frame at a time: ongoing requests are then their utilisation.
_TUNED = {
    "target_ongoing_requests": 0.7,
    "metrics_interval_s": 1.0,
    "look_back_period_s": 5.0,
    "upscale_delay_s": 3.0,
    "downscale_delay_s": 300.0,
}


@contextmanager
def simulated_time(now: Callable[[], float]) -> Iterator[None]:
    """Ray's policies see this clock."""
    with mock.patch("ray.serve.autoscaling_policy.time", SimpleNamespace(time=now)):
        yield


class Autoscaler:
    """What Serve's controller does for one deployment; `now` is the simulation's clock."""

    def __init__(self, policy: str, now: Callable[[], float]) -> None:
        from framegrid_serve.autoscaling import FramesPolicy
        from ray.serve.autoscaling_policy import _apply_autoscaling_config, default_autoscaling_policy
        from ray.serve.config import AutoscalingConfig

        bounds = {"min_replicas": MIN_REPLICAS, "max_replicas": MAX_REPLICAS}
        self._now = now
        if policy == "frames":
            settings = AutoscalingSettings()
            config = settings.config(**bounds)
            kwargs = config.pop("policy")["policy_kwargs"]
            function: Any = FramesPolicy(clock=now, publish=lambda report: None, **kwargs)
        else:
            config = {**bounds, **(_TUNED if policy == "ray_tuned" else {})}
            function = default_autoscaling_policy
        self.config = AutoscalingConfig(**config)
        self._policy = _apply_autoscaling_config(function)
        self._state: dict[str, Any] = {}
        # Ray's replicas note what they have every so often, and report it.
        self.record_interval_s = min(0.2 * self.config.look_back_period_s, self.config.metrics_interval_s)
        self._ongoing: deque[tuple[float, float]] = deque()
        self._reported: deque[tuple[float, float]] = deque()
        self._next_push_s = 0.0
        self._stats: dict[int, tuple[float, ReplicaStats]] = {}

    def record(self, ongoing: float, stats: Mapping[int, ReplicaStats]) -> None:
        """What replicas note now: requests in them, and their own statistics."""
        now_s = self._now()
        self._ongoing.append((now_s, ongoing))
        while self._ongoing[0][0] < now_s - self.config.look_back_period_s:
            self._ongoing.popleft()
        self._stats = {replica: (now_s, found) for replica, found in stats.items()}
        if now_s >= self._next_push_s:
            self._next_push_s = now_s + self.config.metrics_interval_s
            self._reported = deque(self._ongoing)

    def decide(self, running: list[int], target: int) -> int:
        """One turn of the controller's loop: the new target."""
        from ray.serve.config import AutoscalingContext

        now_s = self._now()
        raw: dict[str, dict[int, Any]] = {}
        for replica in running:
            if replica in self._stats:
                told_s, stats = self._stats[replica]
                for name, value in stats.to_metrics().items():
                    raw.setdefault(name, {})[replica] = [SimpleNamespace(timestamp=told_s, value=value)]
        context = AutoscalingContext(
            deployment_id=None,
            deployment_name="detector",
            app_name="framegrid",
            current_num_replicas=len(running),
            target_num_replicas=target,
            running_replicas=running,
            total_num_requests=self._mean_ongoing(now_s),
            total_queued_requests=0.0,
            aggregated_metrics={},
            raw_metrics=raw,
            capacity_adjusted_min_replicas=MIN_REPLICAS,
            capacity_adjusted_max_replicas=MAX_REPLICAS,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=now_s,
            config=self.config,
        )
        decision, self._state = self._policy(context)
        return max(MIN_REPLICAS, min(MAX_REPLICAS, int(decision)))

    def _mean_ongoing(self, now_s: float) -> float:
        """Ray's time-weighted mean: each value holds until the next, the last one until now."""
        if not self._reported:
            return 0.0
        points = [*self._reported, (max(now_s, self._reported[-1][0] + 1e-3), 0.0)]
        seconds = points[-1][0] - points[0][0]
        return sum(value * (after - at) for (at, value), (after, _) in itertools.pairwise(points)) / seconds
