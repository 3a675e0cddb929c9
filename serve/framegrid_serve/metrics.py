"""Every metric that serve exports, and the one place that writes them.

Requests only append to a list; a thread publishes once a second, because one update of a Ray metric costs
as much as a frame's wire work. Ray prefixes names with `ray_` and adds application, deployment and replica.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framegrid_serve.service import DetectService

logger = logging.getLogger(__name__)

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]

# name -> (description, labels)
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "framegrid_serve_frames_total": ("Frames answered, by outcome.", ("model", "status")),
    "framegrid_serve_requests_total": ("Requests answered, by HTTP status.", ("code",)),
    "framegrid_serve_busy_seconds_total": ("Time that engine streams spent on frames.", ()),
    "framegrid_serve_batches_total": ("Calls of an engine.", ()),
    "framegrid_serve_refused_frames_total": ("Frames refused because the queue was full.", ()),
    "framegrid_serve_offered_frames_total": ("Frames that cameras produced, as senders say.", ()),
    "framegrid_serve_sender_dropped_frames_total": ("Of those, frames the senders lost, as they say.", ()),
    "framegrid_serve_model_swaps_total": ("Models loaded and taken into service.", ()),
    "framegrid_serve_model_swap_failures_total": ("Models that did not load; the old one stayed.", ()),
    "framegrid_serve_model_rollbacks_total": ("Models that misbehaved after their activation.", ()),
    "framegrid_serve_shadow_frames_total": (
        "Live frames that a candidate saw too.",
        ("model", "version"),
    ),
    "framegrid_serve_shadow_boxes_total": (
        "Boxes compared on those frames, of both models.",
        ("model", "version"),
    ),
    "framegrid_serve_shadow_agreeing_boxes_total": (
        "Of those, boxes that both models have.",
        ("model", "version"),
    ),
}
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "framegrid_serve_queue_frames": ("Frames waiting for an engine.", ()),
    "framegrid_serve_queue_capacity_frames": ("Frames that may wait at most.", ()),
    "framegrid_serve_frame_service_seconds": ("Running mean of the time a frame takes a stream.", ()),
    "framegrid_serve_shadow_p95_seconds": (
        "95th percentile of the candidate's engine time over its last frames.",
        ("model", "version"),
    ),
    "framegrid_serve_model_info": ("1 for each model that serves.", ("model", "version", "digest")),
}
# Of the controller, by application and deployment: name -> (description, field of ScalingReport)
POLICY_GAUGES: dict[str, tuple[str, str]] = {
    "framegrid_serve_offered_fps": (
        "Frames per second that cameras offer, lost ones included.",
        "offered_fps",
    ),
    "framegrid_serve_dropped_fps": ("Of those, frames per second that senders lose.", "dropped_fps"),
    "framegrid_serve_service_seconds": ("Engine time of one frame, mean over the replicas.", "service_s"),
    "framegrid_serve_replica_capacity_fps": ("Frames per second that keep one replica full.", "replica_fps"),
    "framegrid_serve_utilisation_ratio": (
        "Replicas that the load would keep full, over those that run.",
        "utilisation",
    ),
    "framegrid_serve_target_utilisation_ratio": ("What the policy aims at.", "target_utilisation"),
    "framegrid_serve_needed_replicas": ("Replicas that the load alone asks for.", "needed"),
    "framegrid_serve_desired_replicas": ("The same within the limits: what Serve is told.", "desired"),
    "framegrid_serve_running_replicas": ("Replicas that answer.", "running"),
    "framegrid_serve_min_replicas": ("Fewest replicas allowed.", "min_replicas"),
    "framegrid_serve_max_replicas": ("Most replicas allowed.", "max_replicas"),
    "framegrid_serve_silent_replicas": ("Running replicas without a recent report.", "silent_replicas"),
}
HISTOGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "framegrid_serve_queue_seconds": ("Arrival of a frame until an engine took it.", ("model",)),
    "framegrid_serve_infer_seconds": ("The engine's time for a frame.", ("model",)),
}


class Publisher:
    """Publishes a service's figures every `period_s` from its own thread, until `stop`."""

    def __init__(self, service: DetectService, period_s: float = 1.0) -> None:
        # Ray Serve's metrics take the replica's labels only when made inside the replica.
        from ray.serve import metrics as ray_metrics

        self._service = service
        self._period_s = period_s
        self._counters: dict[str, Any] = {
            name: ray_metrics.Counter(name.removesuffix("_total"), text, labels)
            for name, (text, labels) in COUNTERS.items()
        }
        self._gauges: dict[str, Any] = {
            name: ray_metrics.Gauge(name, text, labels) for name, (text, labels) in GAUGES.items()
        }
        self._histograms: dict[str, Any] = {
            name: ray_metrics.Histogram(name, text, _SECONDS, labels)
            for name, (text, labels) in HISTOGRAMS.items()
        }
        self._last: dict[tuple[str, str], float] = {}
        self._shown_models: set[tuple[str, str, str]] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._publish_forever, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Publish once more and end the thread."""
        self._stopped.set()
        self._thread.join(timeout=2.0)

    def _publish_forever(self) -> None:
        while not self._stopped.wait(self._period_s):
            self._publish_guarded()
        self._publish_guarded()

    def _publish_guarded(self) -> None:
        try:
            self.publish()
        except Exception:  # metrics must never stop a replica
            logger.exception("metrics were not published")

    def publish(self) -> None:
        """Write everything that changed since the last call."""
        self._publish_samples()
        totals, stats = self._service.totals, self._service.stats()
        registry = self._service.registry
        for code, count in list(totals.requests.items()):
            self._count("framegrid_serve_requests_total", count, code=str(code))
        self._count("framegrid_serve_busy_seconds_total", stats.busy_s)
        self._count("framegrid_serve_batches_total", stats.batches)
        self._count("framegrid_serve_refused_frames_total", stats.refused_frames)
        self._count("framegrid_serve_offered_frames_total", totals.offered_frames)
        self._count("framegrid_serve_sender_dropped_frames_total", totals.sender_dropped_frames)
        self._count("framegrid_serve_model_swaps_total", registry.swaps)
        self._count("framegrid_serve_model_swap_failures_total", registry.swap_failures)
        self._count("framegrid_serve_model_rollbacks_total", registry.rollbacks)
        self._gauges["framegrid_serve_queue_frames"].set(stats.queued_frames)
        self._gauges["framegrid_serve_queue_capacity_frames"].set(stats.capacity_frames)
        self._gauges["framegrid_serve_frame_service_seconds"].set(stats.service_s)
        self._publish_models()
        self._publish_shadows()

    def _publish_samples(self) -> None:
        frames: dict[tuple[str, str], int] = {}
        for sample in self._service.take_samples():
            key = (sample.model, sample.status.name.lower())
            frames[key] = frames.get(key, 0) + 1
            labels = {"model": sample.model}
            self._histograms["framegrid_serve_queue_seconds"].observe(sample.queue_s, labels)
            if sample.infer_s > 0:
                self._histograms["framegrid_serve_infer_seconds"].observe(sample.infer_s, labels)
        for (model, status), count in frames.items():
            self._counters["framegrid_serve_frames_total"].inc(count, {"model": model, "status": status})

    def _publish_models(self) -> None:
        described = self._service.registry.describe()["models"]
        now = {(m["name"], m["version"], m["digest"][:12]) for m in described if m["state"] == "ready"}
        for gone in self._shown_models - now:
            self._set_model(gone, 0)
        for model in now:
            self._set_model(model, 1)
        self._shown_models |= now

    def _publish_shadows(self) -> None:
        for name, shadowing in self._service.registry.shadows.items():
            labels = {"model": name, "version": shadowing.other.version}
            seen = shadowing.other.shadow_seen
            self._count("framegrid_serve_shadow_frames_total", seen.frames, **labels)
            self._count("framegrid_serve_shadow_boxes_total", seen.compared_boxes, **labels)
            self._count("framegrid_serve_shadow_agreeing_boxes_total", seen.agreeing_boxes, **labels)
            self._gauges["framegrid_serve_shadow_p95_seconds"].set(seen.p95_s, labels)

    def _set_model(self, model: tuple[str, str, str], value: int) -> None:
        labels = dict(zip(("model", "version", "digest"), model, strict=True))
        self._gauges["framegrid_serve_model_info"].set(value, labels)

    def _count(self, name: str, total: float, **labels: str) -> None:
        """Ray's counters take increments; ours are totals."""
        key = (name, ",".join(labels.values()))
        increment = total - self._last.get(key, 0.0)
        if increment > 0:
            self._counters[name].inc(increment, labels)
            self._last[key] = total
