"""The video service in the chart, and the API for people in the Serve config."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import yaml
from chart.rendering import CHART, NAMESPACE, RefusedError, Rendered
from framegrid_ingest.videos.settings import VideoSettings
from framegrid_serve.people.settings import PeopleSettings
from framegrid_serve.replica import ReplicaSettings

Chart = Callable[..., Rendered]
ADDRESS = f"http://fg-framegrid-videos.{NAMESPACE}.svc:9481"


def people_of(rendered: Rendered) -> ReplicaSettings:
    (application,) = rendered.serve_config()["applications"]
    return ReplicaSettings.model_validate(application["args"])


def test_without_it_there_is_a_page_and_no_videos(chart: Chart) -> None:
    rendered = chart()
    settings = people_of(rendered).people
    assert (settings.enabled, settings.videos_url) == (True, "")
    assert not [o for o in rendered.objects if o["metadata"]["name"].endswith("-videos")]


@pytest.mark.parametrize("mode", ["kuberay", "static"])
def test_serve_passes_videos_on_to_the_service(chart: Chart, mode: str) -> None:
    rendered = chart(
        f"ray.mode={mode}",
        "videos.enabled=true",
        "videos.settings.max_video_s=60",
        "serve.args.people.max_images=2",
    )
    people = people_of(rendered).people
    assert (people.videos_url, people.max_images) == (ADDRESS, 2)
    text = rendered.one("ConfigMap", "-videos")["data"]["videos.yaml"]
    settings = VideoSettings.model_validate(yaml.safe_load(text))
    assert settings.serve_url.endswith(f".{NAMESPACE}.svc:8000")
    assert settings.max_video_s == 60
    (port,) = rendered.one("Service", "-videos")["spec"]["ports"]
    assert port["port"] == settings.http_port
    spec = rendered.one("Deployment", "-videos")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    (container,) = spec["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(settings.folder).startswith(mounts["videos"])


def test_the_network_lets_serve_and_the_service_meet_and_nobody_else(chart: Chart) -> None:
    rendered = chart("videos.enabled=true")
    videos = rendered.one("NetworkPolicy", "-videos")["spec"]
    (rule,) = videos["ingress"]
    (peer,) = rule["from"]
    (expression,) = peer["podSelector"]["matchExpressions"]
    assert expression["values"] == ["ray-head", "ray-worker"]
    rules = rendered.one("NetworkPolicy", "-ray")["spec"]["ingress"]
    peers = [peer for rule in rules for peer in rule.get("from", ())]
    components = [
        peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component")
        for peer in peers
    ]
    assert "videos" in components
    closed = chart().one("NetworkPolicy", "-ray")["spec"]["ingress"]
    assert "videos" not in str(closed)


def test_an_ingress_controller_is_let_in_when_it_is_named(chart: Chart) -> None:
    peer = "serve.allowFrom[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=ingress"
    text = str(chart(peer).one("NetworkPolicy", "-ray")["spec"]["ingress"])
    assert "{'namespaceSelector': {'matchLabels': {'kubernetes.io/metadata.name': 'ingress'}}}" in text


@pytest.mark.parametrize(
    "value", ["serve.args.people.surprise=1", "videos.settings.folder=/x", "videos.surprise=1"]
)
def test_unknown_keys_are_refused(chart: Chart, value: str) -> None:
    with pytest.raises(RefusedError, match=r"surprise|folder"):
        chart(value)


def test_the_schema_knows_every_key_of_people_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    args = schema["properties"]["serve"]["properties"]["args"]["properties"]
    assert set(args["people"]["properties"]) == set(PeopleSettings.model_fields)
    own = {"serve_url", "folder", "http_host", "http_port"}
    videos = schema["properties"]["videos"]["properties"]["settings"]["properties"]
    assert set(videos) | own == set(VideoSettings.model_fields)
