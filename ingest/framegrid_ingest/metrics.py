"""All Prometheus metrics of ingest. Labels are bounded: cameras, reasons, states; never a frame, never a URL.

expected = processed + sum over reasons of dropped, for every camera at every scrape of a quiet moment.
"""

from __future__ import annotations

from framegrid_store.metrics import StoreMetrics
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from framegrid_ingest.outcomes import DropReason

_LATENCY_BUCKETS_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
_REQUEST_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0)
CAMERA_STATES = ("connecting", "running", "stalled", "failed", "paused", "ended")
_CAMERA = ("camera",)


class IngestMetrics:
    """One set per process, on a registry of its own so that tests do not meet."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        r = self.registry
        self.frames_in = Gauge(
            "framegrid_camera_frames_in_fps",
            "Pictures per second that the camera delivers",
            _CAMERA,
            registry=r,
        )
        self.expected = Counter(
            "framegrid_frames_expected", "Sampling ticks that have an outcome", _CAMERA, registry=r
        )
        self.processed = Counter(
            "framegrid_frames_processed", "Frames analysed and counted", _CAMERA, registry=r
        )
        self.dropped = Counter(
            "framegrid_frames_dropped",
            "Sampling ticks without a counted frame",
            ("camera", "reason"),
            registry=r,
        )
        self.state = Gauge(
            "framegrid_camera_state", "1 for the state that the camera is in", ("camera", "state"), registry=r
        )
        self.reconnects = Counter(
            "framegrid_camera_failures",
            "Times that a camera was lost or did not open",
            ("camera", "fault"),
            registry=r,
        )
        self.capture_to_stored = Histogram(
            "framegrid_capture_to_stored_seconds",
            "From a frame's capture to its count in SQL",
            _CAMERA,
            buckets=_LATENCY_BUCKETS_S,
            registry=r,
        )
        self.requests = Counter(
            "framegrid_serve_requests",
            "Attempts at serve, by HTTP status or kind of failure",
            ("outcome",),
            registry=r,
        )
        self.request_seconds = Histogram(
            "framegrid_serve_request_seconds",
            "From sending a request to its answer, retries included",
            buckets=_REQUEST_BUCKETS_S,
            registry=r,
        )
        self.request_frames = Histogram(
            "framegrid_serve_request_frames",
            "Frames in a request",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=r,
        )
        self.in_flight = Gauge("framegrid_serve_requests_in_flight", "Requests under way", registry=r)
        self.in_flight_limit = Gauge("framegrid_serve_requests_limit", "Most requests under way", registry=r)
        self.waiting = Gauge(
            "framegrid_frames_waiting", "Cameras with a frame that waits for a request", registry=r
        )
        self.serve_up = Gauge("framegrid_serve_up", "1 while serve answers", registry=r)
        self.rows = Counter("framegrid_store_rows", "Rows handed to the store's writer", registry=r)
        # The writer's own, as it says them; see framegrid_store/metrics.py.
        self.store = StoreMetrics(r)
        self.config_ok = Gauge(
            "framegrid_config_ok", "0 while cameras.yaml has a mistake and is not used", registry=r
        )
        self.cameras = Gauge("framegrid_cameras", "Cameras of this process", registry=r)
        self.kubernetes_requests = Counter(
            "framegrid_kubernetes_requests",
            "Requests to the API server, by HTTP status; 0 for no answer",
            ("verb", "resource", "outcome"),
            registry=r,
        )

    def camera_settled(self, camera: str, reason: DropReason | None) -> None:
        """One tick has its outcome."""
        self.expected.labels(camera).inc()
        if reason is None:
            self.processed.labels(camera).inc()
        else:
            self.dropped.labels(camera, reason.value).inc()

    def camera_state(self, camera: str, state: str) -> None:
        """The camera's state is now this one."""
        for known in CAMERA_STATES:
            self.state.labels(camera, known).set(1.0 if known == state else 0.0)

    def forget(self, camera: str) -> None:
        """The camera is gone from the configuration: its gauges go, its counters stay."""
        for known in CAMERA_STATES:
            self.state.remove(camera, known)
        self.frames_in.remove(camera)

    def page(self) -> tuple[bytes, str]:
        """What Prometheus scrapes, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
