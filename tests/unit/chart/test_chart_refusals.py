"""Wrong values: one clear sentence that names the key, and nothing is installed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from chart.rendering import OPERATORS, RefusedError, Rendered

Chart = Callable[..., Rendered]
STATIC = "ray.mode=static"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["ray.mode=docker"], "at '/ray/mode': value must be one of 'kuberay', 'static'"),
        (["ray.workers=3"], "at '/ray': additional properties 'workers' not allowed"),
        (["ingest.autoscale.enabled=true"], "at '/ingest': additional properties 'autoscale' not allowed"),
        ([STATIC, "ray.static.workers=0"], "at '/ray/static/workers': minimum: got 0, want 1"),
        ([STATIC, "ray.workerCpus=0.5"], "at '/ray/workerCpus': got string, want integer"),
        (["ray.objectStoreMegabytes=10"], "at '/ray/objectStoreMegabytes': minimum: got 10, want 75"),
        (["ray.worker.memory.limit=2Gigs"], "'2Gigs' does not match pattern"),
        (["database.mode=mysql"], "at '/database/mode': value must be one of 'embedded', 'cnpg', 'external'"),
        (["database.port=99999"], "at '/database/port': maximum: got 99,999, want 65,535"),
        (["image.pullPolicy=Sometimes"], "at '/image/pullPolicy': value must be one of"),
        (["serve.deployment.num_replicas=3"], "additional properties 'num_replicas' not allowed"),
        (["serve.args.queue_frames=1"], "at '/serve/args/queue_frames': minimum: got 1, want 64"),
        (["serve.config.http_options.port=80"], "at '/serve/config/http_options/port': value must be 8000"),
        (["cameras[0].name=North Gate"], "at '/cameras/0'"),
        (["fullnameOverride=Framegrid_1"], "at '/fullnameOverride'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_schema_names_the_key_and_what_is_allowed(chart: Chart, values: list[str], sentence: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        chart(*values)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            [STATIC, "database.mode=external"],
            "database.existingSecret: expected the name of a Secret with the keys owner-url, app-url",
        ),
        (
            [STATIC, "database.existingSecret=mine"],
            "database.existingSecret is for database.mode=external, got mode embedded; remove it",
        ),
        (
            [STATIC, "serve.args.cpus_per_replica=4"],
            "serve.args.cpus_per_replica: expected at most ray.workerCpus (1), got 4; a replica",
        ),
        (
            ["ray.kuberay.maxWorkers=3"],
            "serve.autoscaling.max_replicas: expected at most 3, what ray.kuberay.maxWorkers has room for",
        ),
        (["ray.kuberay.minWorkers=20"], "ray.kuberay: expected minWorkers up to maxWorkers (16), got 20"),
        (["serve.autoscaling.min_replicas=17"], "expected min_replicas up to max_replicas (16), got 17"),
        (
            [STATIC, "ingest.autoscaling.minReplicas=11"],
            "ingest.autoscaling: expected minReplicas up to maxReplicas (10), got 11",
        ),
        (
            [STATIC, "ingest.settings.store_spool_bytes=1048576"],
            "ingest.settings.store_spool_bytes is set by the chart; remove it",
        ),
        ([STATIC, "ingest.settings.http_port=1"], "ingest.settings.http_port is set by the chart; remove it"),
        (
            [STATIC, "serve.deployment.user_config.default_model=gate"],
            "default_model: expected one of street-sim, got gate",
        ),
        (
            [
                STATIC,
                "serve.deployment.user_config.models[0].name=street-sim",
                "serve.deployment.user_config.models[0].path=/models/a",
            ],
            "model street-sim lies under /models, where serve.modelVolume is mounted",
        ),
        (
            [STATIC, *(f"cameras[{i}].name=a,cameras[{i}].url=rtsp://x" for i in (0, 1))],
            "cameras: expected each name once, got a twice; rename one",
        ),
        ([STATIC, "dashboards.ingress.enabled=true"], "dashboards.ingress.host: expected a host name"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_what_a_schema_cannot_say_is_one_sentence_too(chart: Chart, values: list[str], sentence: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        chart(*values)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "api", "sentence"),
    [
        (["ray.mode=kuberay"], "RayService", "ray.mode=kuberay needs the KubeRay operator"),
        ([STATIC, "database.mode=cnpg"], "Cluster", "database.mode=cnpg needs the CloudNativePG operator"),
        ([STATIC, "monitoring.podMonitor.enabled=true"], "PodMonitor", "needs Prometheus' operator"),
        ([STATIC, "monitoring.prometheusRule.enabled=true"], "PrometheusRule", "needs Prometheus' operator"),
    ],
    ids=["KubeRay", "CloudNativePG", "PodMonitor", "PrometheusRule"],
)
def test_a_missing_operator_is_told_with_what_to_do(
    chart: Chart, values: list[str], api: str, sentence: str
) -> None:
    chart(*values)
    with pytest.raises(RefusedError) as refusal:
        chart(*values, apis=tuple(name for name in OPERATORS if not name.endswith("/" + api)))
    assert sentence in str(refusal.value)
    assert "install the operator first" in str(refusal.value)
    assert "\n" not in str(refusal.value)
