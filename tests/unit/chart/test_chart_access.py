"""Who may reach whom, and what ingest may do at the API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from chart.rendering import EXAMPLES, Rendered

Chart = Callable[..., Rendered]
COMPONENT = "app.kubernetes.io/component"


def components(selector: dict[str, Any]) -> set[str]:
    found = {selector["matchLabels"][COMPONENT]} if COMPONENT in selector.get("matchLabels", {}) else set()
    for expression in selector.get("matchExpressions", []):
        found |= set(expression["values"]) if expression["key"] == COMPONENT else set()
    return found


def senders(policy: dict[str, Any], port: int) -> set[str]:
    """Components that may reach that port; `anybody` for a rule without a pod selector."""
    found: set[str] = set()
    for rule in policy["spec"]["ingress"]:
        if port not in {p["port"] for p in rule.get("ports", [{"port": port}])}:
            continue
        for peer in rule.get("from", [{}]):
            found |= components(peer["podSelector"]) if "podSelector" in peer else {"anybody"}
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_pod_stands_behind_a_policy(chart: Chart, example: str) -> None:
    rendered = chart(
        "monitoring.podMonitor.enabled=false", "monitoring.prometheusRule.enabled=false", example=example
    )
    guarded = set().union(*(components(p["spec"]["podSelector"]) for p in rendered.of("NetworkPolicy")))
    running = {
        o["spec"]["template"]["metadata"]["labels"][COMPONENT]
        for o in rendered.objects
        if o["kind"] in ("Deployment", "StatefulSet")
    }
    listening = running - {"maintain"}
    assert listening <= guarded


def test_ingest_alone_sends_frames_and_only_ray_reaches_ray_s_own_ports(chart: Chart) -> None:
    policy = chart("ray.mode=static").one("NetworkPolicy", "-ray")
    assert senders(policy, 8000) == {"ingest", "ray-head", "ray-worker"}
    assert senders(policy, 6379) == {"ray-head", "ray-worker"}


def test_the_operator_reaches_the_head_with_kuberay(chart: Chart) -> None:
    policy = chart("ray.kuberay.operatorNamespace=kuberay-system").one("NetworkPolicy", "-ray")
    peers = [
        peer for rule in policy["spec"]["ingress"] for peer in rule["from"] if "namespaceSelector" in peer
    ]
    assert {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
    } in peers


def test_the_database_is_reached_by_those_that_log_in_and_asks_nobody(chart: Chart) -> None:
    policy = chart("ray.mode=static").one("NetworkPolicy", "-database")
    assert senders(policy, 5432) == {"ingest", "migrate", "maintain", "dashboards", "test"}
    assert policy["spec"]["egress"] == []


def test_policies_can_be_left_out(chart: Chart) -> None:
    assert not chart("networkPolicy.enabled=false", "ray.mode=static").of("NetworkPolicy")


def test_ingest_may_read_cameras_write_their_status_and_hold_leases_in_its_namespace(chart: Chart) -> None:
    rendered = chart("ray.mode=static")
    assert not rendered.of("ClusterRole")
    rules = {
        (group, resource): set(rule["verbs"])
        for rule in rendered.one("Role", "-ingest")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert rules == {
        ("framegrid.io", "cameras"): {"get", "list", "watch"},
        ("framegrid.io", "cameras/status"): {"patch"},
        ("coordination.k8s.io", "leases"): {"get", "list", "watch", "create", "update", "delete"},
        ("", "pods"): {"get"},
    }


def test_ingest_may_write_cameras_only_when_its_api_shall(chart: Chart) -> None:
    rules = chart("ray.mode=static", "ingest.apiWritesCameras=true").one("Role", "-ingest")["rules"]
    (rule,) = [rule for rule in rules if rule["resources"] == ["cameras"]]
    assert set(rule["verbs"]) == {"get", "list", "watch", "create", "update", "delete"}


def test_a_camera_of_the_values_brings_the_right_to_read_its_secret(chart: Chart) -> None:
    values = ("cameras[0].name=gate", "cameras[0].url=rtsp://x", "cameras[0].secretRef.name=gate-login")
    rendered = chart("ray.mode=static", *values)
    (rule,) = [r for r in rendered.one("Role", "-ingest")["rules"] if r["resources"] == ["secrets"]]
    assert rule["resourceNames"] == ["gate-login"]
    camera = rendered.one("Camera", "gate")
    assert camera["spec"] == {"url": "rtsp://x", "secretRef": {"name": "gate-login"}}


def test_ingest_reads_the_secrets_that_are_named_and_no_other(chart: Chart) -> None:
    rules = chart("ray.mode=static", "ingest.cameraSecrets={north-gate,depot}").one("Role", "-ingest")[
        "rules"
    ]
    (rule,) = [rule for rule in rules if rule["resources"] == ["secrets"]]
    assert rule == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["depot", "north-gate"],
        "verbs": ["get"],
    }


def test_ingest_scales_by_cpu_and_a_drain_takes_one_pod_at_a_time(chart: Chart) -> None:
    rendered = chart("ray.mode=static", "ingest.autoscaling.minReplicas=3")
    scaler = rendered.one("HorizontalPodAutoscaler", "-ingest")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 10)
    assert "replicas" not in rendered.one("Deployment", "-ingest")["spec"], (
        "an upgrade would undo the scaling"
    )
    assert rendered.one("PodDisruptionBudget", "-ingest")["spec"]["maxUnavailable"] == 1


def test_a_ray_budget_is_a_whole_number_with_kuberay(chart: Chart) -> None:
    budget = chart("ray.mode=kuberay").one("PodDisruptionBudget", "-ray-worker")["spec"]
    assert isinstance(budget["minAvailable"], int), "a RayCluster has no scale subresource"
