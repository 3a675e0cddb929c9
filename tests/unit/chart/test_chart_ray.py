"""Ray with and without its operator, from one Serve config."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chart.rendering import CHART, RefusedError, Rendered
from framegrid_serve.autoscaling import FramesPolicy
from framegrid_serve.settings import AutoscalingSettings
from framegrid_serve.spec import ServingConfig

Chart = Callable[..., Rendered]


def detector(rendered: Rendered) -> dict[str, Any]:
    (application,) = rendered.serve_config()["applications"]
    (deployment,) = application["deployments"]
    assert isinstance(deployment, dict)
    return deployment


def test_both_modes_deploy_the_same_config_but_for_the_number_of_replicas(chart: Chart) -> None:
    static, kuberay = chart("ray.mode=static").serve_config(), chart("ray.mode=kuberay").serve_config()
    for config in (static, kuberay):
        for key in ("num_replicas", "max_replicas_per_node", "autoscaling_config"):
            config["applications"][0]["deployments"][0].pop(key, None)
    assert static == kuberay


def test_a_static_worker_always_has_exactly_one_replica(chart: Chart) -> None:
    rendered = chart("ray.mode=static", "ray.static.workers=5")
    scale = detector(rendered)["autoscaling_config"]
    assert (scale["min_replicas"], scale["max_replicas"]) == (5, 5)
    assert detector(rendered)["max_replicas_per_node"] == 1
    assert rendered.one("Deployment", "ray-worker")["spec"]["replicas"] == 5


def test_a_static_worker_is_replaced_only_after_it_has_gone(chart: Chart) -> None:
    strategy = chart("ray.mode=static").one("Deployment", "ray-worker")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_static_worker_that_never_serves_is_started_anew(chart: Chart) -> None:
    rendered = chart("ray.mode=static", "ray.static.startTimeoutSeconds=90")
    (container,) = rendered.one("Deployment", "-ray-worker")["spec"]["template"]["spec"]["containers"]
    probe = container["startupProbe"]
    assert probe["httpGet"] == container["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": 8000}
    assert probe["periodSeconds"] * probe["failureThreshold"] == 90
    assert (
        container["livenessProbe"]["httpGet"]["port"] == 52365
    )  # one that has served may be without replica


def test_the_static_head_keeps_its_state_and_never_runs_twice(chart: Chart) -> None:
    head = chart("ray.mode=static").one("StatefulSet", "ray-head")
    assert head["spec"]["replicas"] == 1
    assert [c["metadata"]["name"] for c in head["spec"]["volumeClaimTemplates"]] == ["gcs"]
    env = {e["name"]: e.get("value") for e in head["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["RAY_gcs_storage"] == "rocksdb"
    assert env["RAY_gcs_storage_path"] == "/gcs/2.60.0", "another version of Ray starts afresh"


def test_frames_go_to_static_workers_and_not_to_the_head(chart: Chart) -> None:
    service = chart("ray.mode=static").one("Service", "-serve")
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == "ray-worker"


def test_static_mode_needs_no_operator_and_makes_no_resource_of_one(chart: Chart) -> None:
    rendered = chart("ray.mode=static", apis=())
    assert not rendered.of("RayService")
    groups = {o["apiVersion"].partition("/")[0] for o in rendered.objects}
    assert groups <= {
        "v1",
        "apps",
        "batch",
        "policy",
        "autoscaling",
        "networking.k8s.io",
        "rbac.authorization.k8s.io",
        "framegrid.io",
    }


@pytest.mark.parametrize(
    ("mode", "url"),
    [
        ("static", "http://fg-framegrid-serve.cameras.svc:8000"),
        ("kuberay", "http://fg-framegrid-serve-svc.cameras.svc:8000"),
    ],
)
def test_ingest_asks_the_service_that_the_mode_makes(chart: Chart, mode: str, url: str) -> None:
    config = chart(f"ray.mode={mode}").one("ConfigMap", "-ingest")["data"]["ingest.yaml"]
    assert f"serve_url: {url}" in config


def test_a_new_version_of_the_chart_builds_no_new_ray_cluster(chart: Chart, tmp_path: Path) -> None:
    newer = tmp_path / "framegrid"
    shutil.copytree(CHART, newer)
    text = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(text.replace("version: 0.1.0", "version: 9.9.9", 1))
    before, after = chart("image.tag=v1"), chart("image.tag=v1", chart=newer)
    assert before.one("Deployment", "-ingest") != after.one("Deployment", "-ingest")
    assert before.one("RayService")["spec"] == after.one("RayService")["spec"]


def test_models_replicas_and_delays_change_in_place(chart: Chart) -> None:
    """KubeRay deploys a changed serveConfigV2 in place; any other changed byte is a new cluster."""
    before = chart().one("RayService")["spec"]
    after = chart(
        "serve.autoscaling.min_replicas=2",
        "serve.deployment.user_config.models[1].name=gate",
        "serve.deployment.user_config.models[1].path=/opt/framegrid/models/gate",
        "serve.deployment.user_config.models[0].name=street-sim",
        "serve.deployment.user_config.models[0].path=/opt/framegrid/models/street-sim",
        "ingest.replicas=3",
    ).one("RayService")["spec"]
    assert before["serveConfigV2"] != after["serveConfigV2"]
    before, after = copy.deepcopy(before), copy.deepcopy(after)
    del before["serveConfigV2"], after["serveConfigV2"]
    assert before == after


def test_kuberay_scales_by_ray_s_autoscaler_and_serve_s(chart: Chart) -> None:
    rendered = chart("ray.kuberay.minWorkers=2", "ray.kuberay.maxWorkers=20")
    cluster = rendered.one("RayService")["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 20)
    assert detector(rendered)["num_replicas"] == "auto"
    assert detector(rendered)["autoscaling_config"]["max_replicas"] == 16


def test_replicas_scale_by_frames_with_the_same_settings_as_on_one_machine(chart: Chart) -> None:
    scale = detector(chart("ray.mode=kuberay"))["autoscaling_config"]
    assert scale == AutoscalingSettings().config(1, 16)
    FramesPolicy(**scale["policy"]["policy_kwargs"])


def test_an_unknown_or_senseless_setting_of_the_policy_is_refused(chart: Chart) -> None:
    kwargs = "serve.autoscaling.policy.policy_kwargs"
    with pytest.raises(RefusedError, match="target_utilization"):
        chart(f"{kwargs}.target_utilization=0.7")
    with pytest.raises(RefusedError, match="target_utilisation"):
        chart(f"{kwargs}.target_utilisation=1.5")


def test_a_kuberay_worker_is_probed_without_wget_and_drains_before_it_goes(chart: Chart) -> None:
    cluster = chart().one("RayService")["spec"]["rayClusterConfig"]
    pod = cluster["workerGroupSpecs"][0]["template"]["spec"]
    assert pod["containers"][0]["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": 8000}
    env = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
    assert int(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]) < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("mode", ["static", "kuberay"])
def test_haproxy_runs_in_every_ray_pod_and_ray_wants_its_token(chart: Chart, mode: str) -> None:
    rendered = chart(f"ray.mode={mode}")
    ray = [c for _, c in rendered.containers() if c["name"] in ("head", "worker", "ray-head", "ray-worker")]
    assert len(ray) == 2
    for container in ray:
        env = {e["name"]: e for e in container["env"]}
        assert env["RAY_SERVE_ENABLE_HA_PROXY"]["value"] == "1"
        if mode == "static":
            assert env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]["key"] == "auth_token"
    if mode == "kuberay":  # the operator hands it to the pods
        auth = rendered.one("RayService")["spec"]["rayClusterConfig"]["authOptions"]
        assert auth == {"mode": "token", "secretName": "fg-framegrid-ray-token"}


def test_gpus_are_asked_for_by_the_pod_and_by_the_replica(chart: Chart) -> None:
    rendered = chart("ray.mode=static", "ray.workerGpus=1")
    worker = rendered.one("Deployment", "ray-worker")["spec"]["template"]["spec"]["containers"][0]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "--num-gpus=1" in worker["command"]
    assert rendered.serve_config()["applications"][0]["args"]["gpus_per_replica"] == 1


def test_models_of_one_s_own_come_by_a_volume(chart: Chart) -> None:
    rendered = chart(
        "ray.mode=static",
        "serve.modelVolume.persistentVolumeClaim.claimName=models",
        "serve.deployment.user_config.models[0].name=gate",
        "serve.deployment.user_config.models[0].path=/models/gate",
        "serve.deployment.user_config.default_model=gate",
    )
    for name in ("StatefulSet/fg-framegrid-ray-head", "Deployment/fg-framegrid-ray-worker"):
        spec = dict(rendered.pods())[name]
        assert {"name": "models", "persistentVolumeClaim": {"claimName": "models"}} in spec["volumes"]
        assert {"name": "models", "mountPath": "/models", "readOnly": True} in spec["containers"][0][
            "volumeMounts"
        ]


def test_replicas_may_fetch_models_themselves_pinned_by_digest(chart: Chart) -> None:
    models = "serve.deployment.user_config.models[0]"
    wanted = (
        f"{models}.name=goats",
        f"{models}.source=s3://models/farm/goats-2.tar",
        "serve.deployment.user_config.default_model=goats",
        "serve.deployment.user_config.watch.window_s=30",
    )
    rendered = chart(*wanted, f"{models}.digest={'a' * 64}")
    (model,) = detector(rendered)["user_config"]["models"]
    assert (model["source"], model["digest"]) == ("s3://models/farm/goats-2.tar", "a" * 64)
    ServingConfig.model_validate(detector(rendered)["user_config"])
    with pytest.raises(RefusedError, match="missing property 'digest'"):
        chart(*wanted)
