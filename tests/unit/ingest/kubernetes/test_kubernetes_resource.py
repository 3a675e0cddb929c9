"""One camera model for cameras.yaml and for `kubectl apply`."""

from pathlib import Path
from typing import Any

import pytest
from framegrid_ingest.config import CameraConfig, parse_cameras
from framegrid_ingest.errors import ConfigError
from framegrid_ingest.kubernetes import crd
from framegrid_ingest.kubernetes.resource import camera_config, config_message, declared

CRD_FILE = Path(__file__).parents[4] / "charts/framegrid/crds/cameras.framegrid.io.yaml"


def camera(spec: dict[str, Any], name: str = "gate") -> Any:
    return declared({"metadata": {"name": name, "uid": "u", "generation": 4}, "spec": spec, "status": {}})


def test_the_chart_has_the_definition_that_the_model_makes() -> None:
    made = crd.text()
    assert CRD_FILE.read_text() == made, "run: python -m framegrid_ingest.kubernetes.crd > " + str(CRD_FILE)


def test_the_spec_has_every_key_of_cameras_yaml_and_says_what_it_means() -> None:
    properties = crd.spec_schema()["properties"]
    assert set(properties) == (set(CameraConfig.model_fields) - crd.NOT_IN_SPEC) | {"secretRef"}
    assert all(schema["description"] for schema in properties.values())
    assert set(crd.DESCRIPTIONS) == set(properties) - {"secretRef"}


def structural(schema: dict[str, Any], path: str = "") -> list[str]:
    """What a structural schema must not have or must have."""
    wrong = [
        f"{path}: {key}" for key in ("$ref", "anyOf", "prefixItems", "const", "default") if key in schema
    ]
    if "type" not in schema:
        wrong.append(f"{path}: no type")
    if schema.get("type") == "array" and "items" not in schema:
        wrong.append(f"{path}: no items")
    if schema.get("type") == "object" and not {"properties", "additionalProperties"} & set(schema):
        wrong.append(f"{path}: an object without content")
    for key, value in schema.get("properties", {}).items():
        wrong += structural(value, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            wrong += structural(schema[key], f"{path}.{key}")
    return wrong


def test_the_schema_is_structural_and_bounded() -> None:
    spec = crd.spec_schema()
    assert structural(spec) == []
    for name, schema in spec["properties"].items():  # CEL needs bounds to know its cost
        if schema["type"] == "array":
            assert "maxItems" in schema, name
        if schema["type"] == "string" and "enum" not in schema:
            assert "maxLength" in schema, name


def test_columns_are_those_that_a_person_wants() -> None:
    version = crd.definition()["spec"]["versions"][0]
    names = [column["name"].upper() for column in version["additionalPrinterColumns"]]
    assert names == ["SOURCE-KIND", "STATE", "FPS", "LAST-FRAME", "OWNER", "MESSAGE"]
    assert version["subresources"] == {"status": {}}


def test_the_same_keys_make_the_same_camera() -> None:
    text = """
cameras:
  - name: gate
    url: rtsp://viewer:${password}@192.0.2.5/stream
    fps: 5
    model: yolo11n
    classes: {person: {of: [person], min_score: 0.5}}
    zones: [{name: door, polygon: [[0.1, 0.1], [0.5, 0.1], [0.5, 0.9]]}]
    lines: [{name: in, start: [0.1, 0.5], end: [0.9, 0.5]}]
    stall_s: 20
"""
    secret = {"password": "p@ss/word"}
    (from_file,) = parse_cameras(text, "cameras.yaml", secret)
    spec = {
        "url": "rtsp://viewer:${password}@192.0.2.5/stream",
        "secretRef": {"name": "gate"},
        "fps": 5,
        "model": "yolo11n",
        "classes": {"person": {"of": ["person"], "min_score": 0.5}},
        "zones": [{"name": "door", "polygon": [[0.1, 0.1], [0.5, 0.1], [0.5, 0.9]]}],
        "lines": [{"name": "in", "start": [0.1, 0.5], "end": [0.9, 0.5]}],
        "stall_s": 20,
    }
    from_resource = camera_config(camera(spec), secret)
    assert from_resource == from_file
    assert "p%40ss%2Fword" in from_resource.url.reveal()
    assert "p@ss" not in str(from_resource) and "p%40ss" not in repr(from_resource)


@pytest.mark.parametrize(
    ("spec", "secret", "message"),
    [
        (
            {"url": "rtsp://h/s", "fsp": 5},
            {},
            "spec.fsp: unknown key, did you mean 'fps'?; allowed: ",
        ),
        (
            {"url": "rtsp://u:${password}@h/s", "secretRef": {"name": "gate"}},
            {},
            "spec.url: the key password of Secret gate is not set; set it",
        ),
        (
            {"url": "rtsp://u:${password}@h/s", "secretRef": {"name": "gate"}},
            {"password": ""},
            "spec.url: the key password of Secret gate is empty; set it",
        ),
        (
            {"url": "rtsp://u:${password}@h/s"},
            {},
            "spec.url: expected a Secret for ${password}, got none; name it in secretRef",
        ),
        ({"url": "rtsp://h/s", "pace": "fast"}, {}, "spec.pace: expected native, got fast: "),
        (
            {"url": "rtsp://h/s", "timezone": "Europe/Berln"},
            {},
            "spec.timezone: expected an IANA time zone such as Europe/Berlin, got 'Europe/Berln'",
        ),
        ({}, {}, "spec.url: expected this key, got nothing; add it"),
        (
            {"url": "rtsp://h/s", "zones": [{"name": "a", "polygon": [[0, 0], [0.5, 0.5], [1, 1]]}]},
            {},
            "spec.zones[0].polygon: expected a polygon with an area",
        ),
    ],
    ids=["unknown-key", "no-key", "empty-key", "no-secret", "fast", "timezone", "no-url", "polygon"],
)
def test_a_broken_camera_says_exactly_what_is_wrong(
    spec: dict[str, Any], secret: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        camera_config(camera(spec), secret)
    assert config_message(caught.value).startswith(message)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        camera_config(camera({"url": "rtsp://h/s", "fps": -1, "jpeg_quality": 5}), {})
    assert config_message(caught.value) == (
        "spec.fps: expected a number of more than 0, got -1; "
        "spec.jpeg_quality: expected a number of at least 30, got 5"
    )


def test_a_change_of_status_alone_is_no_change() -> None:
    assert camera({"url": "rtsp://h/s"}).version == ("u", 4)
