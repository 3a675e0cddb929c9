"""What holds for every pod of every way to install."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml
from chart.rendering import EXAMPLES, Rendered

Chart = Callable[..., Rendered]
WAYS = [
    *(pytest.param({"example": name}, id=name) for name in EXAMPLES),
    pytest.param(
        {"values": ("database.mode=cnpg", "sim.enabled=true", "videos.enabled=true")},
        id="defaults, cnpg, simulator, videos",
    ),
]


@pytest.fixture(params=WAYS)
def rendered(request: pytest.FixtureRequest, chart: Chart) -> Rendered:
    options = dict(request.param)
    return chart(*options.pop("values", ()), **options)


def test_every_pod_is_an_ordinary_user_with_the_usual_seccomp_profile(rendered: Rendered) -> None:
    for where, spec in rendered.pods():
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, where
        assert security["runAsUser"] == 10001, where
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, where


def test_every_container_is_read_only_without_capabilities_or_escalation(rendered: Rendered) -> None:
    for where, container in rendered.containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, where


def test_every_container_asks_for_cpu_and_memory_and_has_limits(rendered: Rendered) -> None:
    for where, container in rendered.containers():
        for side in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][side]), f"{where} {side}"


def test_only_ingest_holds_a_token_of_the_api_server(rendered: Rendered) -> None:
    for where, spec in rendered.pods():
        if where.startswith("RayService") and where.endswith("/head"):
            continue  # KubeRay gives its autoscaler an account of its own
        assert spec.get("automountServiceAccountToken") is (where == "Deployment/fg-framegrid-ingest"), where


def test_no_pod_sees_the_service_links_that_would_set_ray_variables(rendered: Rendered) -> None:
    assert all(spec["enableServiceLinks"] is False for _, spec in rendered.pods())


def test_everything_that_runs_for_long_is_probed(rendered: Rendered) -> None:
    for item in rendered.objects:
        if item["kind"] not in ("Deployment", "StatefulSet"):
            continue
        for container in item["spec"]["template"]["spec"]["containers"]:
            if container["name"] in ("keeper", "maintain"):
                continue  # no port; both end with an error when they cannot go on
            assert {"readinessProbe", "startupProbe"} <= set(container), container["name"]


def test_no_pod_mounts_what_it_does_not_have_and_no_volume_is_left_over(rendered: Rendered) -> None:
    claims = {
        claim["metadata"]["name"]
        for item in rendered.of("StatefulSet")
        for claim in item["spec"].get("volumeClaimTemplates", [])
    }
    for where, spec in rendered.pods():
        mounted = {m["name"] for c in spec["containers"] for m in c.get("volumeMounts", [])}
        volumes = {v["name"] for v in spec.get("volumes", [])}
        assert mounted <= volumes | claims, where
        assert volumes <= mounted, where


def test_every_selector_finds_the_pods_that_it_means(rendered: Rendered) -> None:
    for item in rendered.objects:
        if item["kind"] in ("Deployment", "StatefulSet"):
            wanted = item["spec"]["selector"]["matchLabels"]
            labels = item["spec"]["template"]["metadata"]["labels"]
            assert wanted.items() <= labels.items(), item["metadata"]["name"]
            assert "helm.sh/chart" not in wanted


def test_every_image_is_of_the_registry_and_tag_that_were_asked_for(chart: Chart) -> None:
    rendered = chart(
        "image.registry=example.org/cameras", "image.tag=v7", "ray.mode=static", "sim.enabled=true"
    )
    images = {container["image"] for _, container in rendered.containers()}
    assert images == {
        f"example.org/cameras/framegrid-{part}:v7"
        for part in ("serve", "ingest", "dashboards", "sim", "database")
    }


def test_a_digest_goes_before_a_tag(chart: Chart) -> None:
    digest = "sha256:" + "ab" * 32
    rendered = chart("ray.mode=static", f"serve.image.digest={digest}")
    images = {c["image"] for where, c in rendered.containers() if "ray-" in where}
    assert images == {f"localhost/framegrid-serve@{digest}"}


def test_every_secret_and_config_that_a_pod_names_is_there_with_its_key(rendered: Rendered) -> None:
    """But for Secrets that the user has made: those of the production example."""
    own = {("Secret", "framegrid-database"), ("Secret", "framegrid-ray-token")}
    held = {(o["kind"], o["metadata"]["name"]): set(o["data"]) for o in rendered.objects if "data" in o}
    wanted: list[tuple[str, str, str, str]] = []
    for where, spec in rendered.pods():
        for container in spec["containers"]:
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    wanted.append((where, "Secret", reference["name"], reference["key"]))
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                wanted.append((where, "ConfigMap", volume["configMap"]["name"], ""))
            for item in volume.get("secret", {}).get("items", []):
                wanted.append((where, "Secret", volume["secret"]["secretName"], item["key"]))
    assert wanted
    for where, kind, name, key in wanted:
        if (kind, name) in own and (kind, name) not in held:
            continue
        assert (kind, name) in held, f"{where}: no {kind} {name}"
        assert not key or key in held[kind, name], f"{where}: no key {key} in {kind} {name}"


def spool_of(rendered: Rendered) -> tuple[int, dict[str, object]]:
    """Bound (MiB) in ingest's settings, and the volume that it is on."""
    settings = yaml.safe_load(rendered.one("ConfigMap", "-ingest")["data"]["ingest.yaml"])
    spec = rendered.one("Deployment", "-ingest")["spec"]["template"]["spec"]
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "spool"]
    assert settings["store_spool_dir"].startswith(f"{mount['mountPath']}/")
    (volume,) = [v for v in spec["volumes"] if v["name"] == "spool"]
    return settings["store_spool_bytes"] // 2**20, volume


@pytest.mark.parametrize(("mebibytes", "limit"), [(16, "84Mi"), (1024, "1344Mi"), (1_048_576, "1310784Mi")])
def test_waiting_rows_are_bounded_well_below_what_the_pod_would_be_evicted_for(
    chart: Chart, mebibytes: int, limit: str
) -> None:
    bound, volume = spool_of(chart("ray.mode=static", f"ingest.spool.mebibytes={mebibytes}"))
    assert bound == mebibytes
    assert volume == {"name": "spool", "emptyDir": {"sizeLimit": limit}}


def test_waiting_rows_can_outlive_their_pod_on_a_claim_that_all_share(chart: Chart) -> None:
    bound, volume = spool_of(chart("ray.mode=static", "ingest.spool.existingClaim=rows"))
    assert bound == 1024
    assert volume == {"name": "spool", "persistentVolumeClaim": {"claimName": "rows"}}
