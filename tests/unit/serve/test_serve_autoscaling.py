"""The policy as Ray calls it, without Ray: contexts made by hand, clocks that the test moves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from framegrid_serve.autoscaling import STALE_S, FramesPolicy
from framegrid_serve.scaling_report import KEPT_CHANGES, ScalingReport
from framegrid_serve.sizing import ReplicaStats

FULL = ReplicaStats(1.0, 1.0, 50, 0, 0, service_s=0.02, streams=1, queued_frames=0)
QUIET = replace(FULL, busy=0.1, offered=0.1, offered_fps=5)


@dataclass
class Point:
    timestamp: float
    value: float


@dataclass
class Cluster:
    """What Ray would hand to the policy, second by second."""

    now_s: float = 1000.0
    wall_s: float = 1_700_000_000.0
    target: int = 2
    reports: dict[str, tuple[float, ReplicaStats]] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    told: list[ScalingReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policy = FramesPolicy(clock=lambda: self.now_s, publish=self.told.append)

    def report(self, stats: ReplicaStats, *replicas: str, skew_s: float = 0.0) -> None:
        for replica in replicas:
            self.reports[replica] = (self.wall_s + skew_s, stats)
            if replica not in self.running:
                self.running.append(replica)

    def ask(self, seconds: float = 1.0) -> int:
        self.now_s += seconds
        self.wall_s += seconds
        desired, state = self.policy(self.context())
        assert state == {}
        return desired

    def context(self) -> Any:
        raw: dict[str, dict[str, list[Point]]] = {}
        for replica in self.running:
            if replica in self.reports:
                told_s, stats = self.reports[replica]
                for name, value in stats.to_metrics().items():
                    raw.setdefault(name, {})[replica] = [Point(told_s - 1, 0.0), Point(told_s, value)]
        return SimpleNamespace(
            current_num_replicas=len(self.running),
            target_num_replicas=self.target,
            running_replicas=list(self.running),
            capacity_adjusted_min_replicas=1,
            capacity_adjusted_max_replicas=100,
            raw_metrics=raw,
            current_time=self.wall_s,
            config=SimpleNamespace(upscale_delay_s=3.0, downscale_delay_s=30.0),
            app_name="framegrid",
            deployment_name="detector",
        )


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_follows_the_newest_reports(cluster: Cluster) -> None:
    cluster.report(replace(FULL, offered=3.0), "a", "b")
    assert cluster.ask() == 9
    cluster.report(FULL, "a", "b")
    assert cluster.ask() == 3


def test_a_dead_replica_s_last_figures_do_not_count_for_ever(cluster: Cluster) -> None:
    cluster.report(replace(FULL, offered=1.4), "a", "b")
    assert cluster.ask() == 4
    for _ in range(int(STALE_S) + 2):
        cluster.report(replace(FULL, busy=0.7, offered=0.7), "a")
        desired = cluster.ask()
    assert desired == 2, "b's load is what a reports by now; and b's silence takes no replica away"


def test_only_running_replicas_count(cluster: Cluster) -> None:
    cluster.report(FULL, "a", "gone")
    cluster.running.remove("gone")
    assert cluster.ask() == 2


def test_without_reports_everything_stays(cluster: Cluster) -> None:
    assert cluster.ask() == 2
    cluster.running = ["a", "b"]
    assert cluster.ask() == 2
    assert cluster.policy.last is not None and "no replica has said" in cluster.policy.last.reason


def test_clocks_of_other_nodes_do_not_matter(cluster: Cluster) -> None:
    for _ in range(30):
        cluster.report(replace(FULL, offered=1.4), "a", skew_s=-7200)
        cluster.report(replace(FULL, offered=1.4), "b", skew_s=7200)
        assert cluster.ask() == 4


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0], ids=["back", "forward"])
def test_when_the_clock_is_set_the_delays_start_afresh(cluster: Cluster, step_s: float) -> None:
    """Ray times its delays by the wall clock, and forgets them when nothing is wanted for one call."""
    cluster.report(replace(FULL, offered=2.8), "a", "b")
    assert cluster.ask() == 8
    cluster.wall_s += step_s
    assert cluster.ask() == cluster.target
    assert cluster.ask() == 8


def test_wishes_for_as_many_as_the_busiest_moment_of_the_quiet_time_needs(cluster: Cluster) -> None:
    """Serve takes the wish of the moment when its delay is over, whatever was before."""
    cluster.target = 8
    names = [f"r{n}" for n in range(8)]
    wishes = []
    for share in (0.6, 0.1, 0.5, 0.1, 0.1, 0.65, 0.1):
        cluster.report(replace(FULL, busy=share, offered=share), *names)
        wishes.append(cluster.ask(8))
    assert wishes == [8, 4, 7, 7, 7, 8, 4]


def test_an_error_in_the_policy_changes_nothing(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    context = cluster.context()
    context.raw_metrics = {"framegrid_busy": {"a": [None]}}
    context.running_replicas = ["a"]
    for _ in range(100):
        assert cluster.policy(context) == (2, {})
    assert sum("left as it is" in record.message for record in caplog.records) == 7


def test_reports_what_it_decided_and_the_reason_of_each_change(cluster: Cluster) -> None:
    cluster.report(replace(FULL, busy=1.0, offered=1.4, offered_fps=70, dropped_fps=20), "a", "b")
    for _ in range(4):
        cluster.ask(0.5)
    assert len(cluster.told) == 1, "now and then, not at every call"
    cluster.target = 4
    cluster.ask(0.5)
    report = cluster.told[-1]
    assert (report.offered_fps, report.dropped_fps, report.service_s, report.replica_fps) == (
        140,
        40,
        0.02,
        50,
    )
    assert (report.running, report.target, report.desired, report.needed) == (2, 4, 4, 4)
    assert (report.utilisation, report.limit, report.silent_replicas) == (1.4, "", 0)
    (change,) = report.changes
    assert (change.before, change.after) == (2, 4)
    assert change.reason == (
        "the load needs more: 140.0 frames/s x 20.0 ms keep 2.80 replicas busy, at 70% that is 4"
    )
    for target in range(5, 30):
        cluster.target = target
        cluster.ask()
    assert len(cluster.told[-1].changes) == KEPT_CHANGES


def test_a_report_without_figures_has_none(cluster: Cluster) -> None:
    cluster.running = ["a"]
    cluster.ask()
    report = cluster.told[-1]
    assert (report.offered_fps, report.utilisation, report.silent_replicas) == (None, None, 1)


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="target_utilization: unknown key; allowed are target_utilisation,"):
        FramesPolicy(target_utilization=0.7)


def test_the_policy_loads_in_the_controller_without_engines_or_ray() -> None:
    code = (
        "import sys, framegrid_serve.autoscaling; "
        "sys.exit(', '.join({'ray', 'numpy', 'cv2', 'openvino', 'pydantic'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
