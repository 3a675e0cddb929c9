"""Every object of every example against the schemas of what will read it: Kubernetes, operators, Ray, kind.

Needs helm, kubeconform and kind (`make chart-tools`). Kubernetes' schemas come from the wheel
kubernetes-validate. Those of Ray, Prometheus and CloudNativePG are data under other licences: a folder
`schemas/json` in FRAMEGRID_TEST_DATA; without it these kinds are left out, loudly.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.rendering import CHART, EXAMPLES, KUBERNETES, ROOT, Rendered, find_tool, render

pytestmark = pytest.mark.integration

DATA = Path(os.environ.get("FRAMEGRID_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
CUSTOM_SCHEMAS = DATA / "schemas" / "json"
EVERYTHING = (
    "sim.enabled=true",
    "monitoring.podMonitor.enabled=true",
    "monitoring.prometheusRule.enabled=true",
    "dashboards.ingress.enabled=true",
    "dashboards.ingress.host=page.example.org",
    "ingest.cameraSecrets={north-gate}",
    "image.pullSecrets={registry}",
    "cameras[0].name=north-gate",
    "cameras[0].url=rtsp://192.0.2.5/stream",
)
# The chart sets them, and refuses them in a sentence of its own.
OWN = {
    "cameras",
    "serve_url",
    "database_url",
    "http_host",
    "http_port",
    "store_spool_dir",
    "store_spool_bytes",
}
WAYS = {
    **{name: ((), name) for name in EXAMPLES},
    "kuberay, cnpg, everything on": (
        (*EVERYTHING, "database.mode=cnpg", "database.cnpg.timescaledb=true"),
        "",
    ),
    "static, embedded, everything on": ((*EVERYTHING, "ray.mode=static", "ray.workerGpus=1"), ""),
    "nothing kept": (
        (
            "ray.mode=static",
            "ray.static.head.persistence.enabled=false",
            "database.embedded.persistence.enabled=false",
            "ray.auth.enabled=false",
            "maintain.enabled=false",
            "migrate.enabled=false",
            "dashboards.enabled=false",
        ),
        "",
    ),
}


def tool(name: str) -> str:
    found = find_tool(name)
    if found is None:
        pytest.skip(f"needs {name}: make chart-tools (Go), or put it on PATH")
    return found


@pytest.fixture(params=WAYS, scope="module")
def rendered(request: pytest.FixtureRequest) -> Rendered:
    values, example = WAYS[request.param]
    return render(tool("helm"), *values, example=example)


@pytest.fixture(scope="module")
def kubernetes_schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One self-contained file per kind: kubeconform does not follow the wheel's references by URL."""
    wheel = pytest.importorskip("kubernetes_validate", reason="needs the extra `test`")
    folder = Path(wheel.__file__).parent / "kubernetes-json-schema" / f"v{KUBERNETES}-local-strict"
    document = json.loads((folder / "_definitions.json").read_text())
    made = tmp_path_factory.mktemp("schemas")
    kinds = {
        str(o["kind"])
        for values, example in WAYS.values()
        for o in render(tool("helm"), *values, example=example).objects
    }
    for name, definition in document["$defs"].items():
        for gvk in definition.get("x-kubernetes-group-version-kind", []):
            if gvk["kind"] in kinds:
                parts = (gvk["kind"], gvk["group"].partition(".")[0], gvk["version"])
                schema = {
                    "$schema": document["$schema"],
                    "$ref": f"#/$defs/{name}",
                    "$defs": document["$defs"],
                }
                (made / ("-".join(p.lower() for p in parts if p) + ".json")).write_text(json.dumps(schema))
    crd = yaml.safe_load((CHART / "crds" / "cameras.framegrid.io.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    camera = made / "framegrid.io" / "camera_v1alpha1.json"
    camera.parent.mkdir()
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"] |= {key: {} for key in ("apiVersion", "kind", "metadata")}
    camera.write_text(json.dumps(dialect | closed(schema)))
    return made


def closed(schema: Any) -> Any:
    """A CRD's schema as the API server prunes by it: JSON Schema that refuses what it does not name."""
    if isinstance(schema, list):
        return [closed(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items() if not key.startswith("x-kubernetes")}
    for side, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if made.pop(side, False) is True:  # OpenAPI 3.0 marks a bound, JSON Schema gives it
            made[side] = made.pop(bound)
    if (
        "properties" in made
        and "additionalProperties" not in made
        and "description" not in schema.get("metadata", {})
    ):
        made["additionalProperties"] = False
    return made


def test_every_object_is_what_the_api_server_takes(
    rendered: Rendered, kubernetes_schemas: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "objects.yaml"
    manifest.write_text(rendered.text)
    locations = [
        str(kubernetes_schemas / "{{.ResourceKind}}{{.KindSuffix}}.json"),
        str(kubernetes_schemas / "{{.Group}}" / "{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"),
    ]
    command = [
        tool("kubeconform"),
        "-strict",
        "-output",
        "json",
        "-summary",
        "-kubernetes-version",
        KUBERNETES,
    ]
    if CUSTOM_SCHEMAS.is_dir():
        locations.append(
            str(CUSTOM_SCHEMAS / "{{.Group}}" / "{{.ResourceKind}}_{{.ResourceAPIVersion}}.json")
        )
    else:
        command += ["-skip", "RayService,Cluster,PodMonitor,PrometheusRule"]
    command += [part for location in locations for part in ("-schema-location", location)]
    done = subprocess.run([*command, str(manifest)], capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    wrong = [f"{r['kind']}/{r['name']}: {r['msg']}" for r in report.get("resources", [])]
    assert not wrong
    assert report["summary"]["valid"] + report["summary"]["skipped"] == len(rendered.objects)
    if report["summary"]["skipped"]:
        pytest.skip(f"custom kinds not checked: no {CUSTOM_SCHEMAS}; set FRAMEGRID_TEST_DATA")


def test_kubeconform_would_notice(kubernetes_schemas: Path, tmp_path: Path) -> None:
    text = render(tool("helm"), "ray.mode=static").text.replace(
        "terminationGracePeriodSeconds", "terminationGrace"
    )
    manifest = tmp_path / "objects.yaml"
    manifest.write_text(text)
    location = str(kubernetes_schemas / "{{.ResourceKind}}{{.KindSuffix}}.json")
    done = subprocess.run(
        [tool("kubeconform"), "-strict", "-schema-location", location, str(manifest)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "terminationGrace" in done.stdout


def test_ray_takes_the_serve_config(rendered: Rendered) -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="needs the extra `serve`")
    config = schema.ServeDeploySchema(**rendered.serve_config())
    (application,) = config.applications
    (deployment,) = application.deployments
    assert application.import_path == "framegrid_serve.app:build_app"

    from framegrid_serve.app import DEPLOYMENT_NAME
    from framegrid_serve.registry import ServingConfig
    from framegrid_serve.replica import ReplicaSettings

    assert deployment.name == DEPLOYMENT_NAME
    ReplicaSettings.model_validate(application.args)
    ServingConfig.model_validate(deployment.user_config)


def test_ingest_takes_its_settings_and_knows_the_chart_s_keys(rendered: Rendered) -> None:
    from framegrid_ingest.settings import parse_settings

    text = rendered.one("ConfigMap", "-ingest")["data"]["ingest.yaml"]
    settings = parse_settings(
        text, "ingest.yaml", {"FRAMEGRID_DATABASE_URL": "postgresql://app@db/framegrid"}
    )
    assert settings.http_host == "0.0.0.0"


def test_the_values_schema_has_the_bounds_of_the_settings() -> None:
    from framegrid_ingest.settings import IngestSettings

    values = json.loads((CHART / "values.schema.json").read_text())
    chart = values["properties"]["ingest"]["properties"]["settings"]["properties"]
    program = IngestSettings.model_json_schema()["properties"]
    assert set(chart) == set(program)
    for key, schema in chart.items():
        if key in OWN or key == "kubernetes":  # set by the chart, or a section
            continue
        for bound in ("minimum", "maximum", "enum", "type"):
            assert schema.get(bound) == program[key].get(bound), key


def test_kind_takes_kind_config(tmp_path: Path) -> None:
    """kind parses the file before it asks for Docker; with an empty PATH it can make nothing."""
    kind = tool("kind")

    def said(path: Path) -> str:
        done = subprocess.run(
            [kind, "create", "cluster", "--config", str(path)],
            env={"PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        return done.stderr

    assert "unable to decode config" not in said(ROOT / "kind-config.yaml")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((ROOT / "kind-config.yaml").read_text().replace("extraPortMappings", "extraPorts"))
    assert "field extraPorts not found" in said(wrong)


def test_the_page_of_the_kind_example_is_at_the_port_that_kind_maps() -> None:
    service = render(tool("helm"), example="kind").one("Service", "-dashboards")
    config = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
    mapped = [m["containerPort"] for node in config["nodes"] for m in node.get("extraPortMappings", [])]
    assert [port["nodePort"] for port in service["spec"]["ports"]] == mapped
