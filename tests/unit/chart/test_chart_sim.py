"""The simulator's cameras are declared with the lines and zones that the simulator has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chart.rendering import Rendered
from framegrid_ingest.kubernetes.resource import camera_config, declared
from framegrid_sim.scene import Scene
from framegrid_sim.settings import SceneSettings

Chart = Callable[..., Rendered]


def test_each_camera_has_the_lines_and_zones_of_its_scene(chart: Chart) -> None:
    cameras = chart("ray.mode=static", "sim.enabled=true", "sim.cameras=6").of("Camera")
    assert [camera["metadata"]["name"] for camera in cameras] == [f"sim-{i}" for i in range(1, 7)]
    for index, camera in enumerate(cameras):
        scene = Scene(SceneSettings(seed=1 + index % 4, width=640, height=360, fps=10, duration_s=30))
        lines = [{"name": n, "start": list(a), "end": list(b)} for n, a, b in scene.lines]
        zones = [{"name": n, "polygon": [list(p) for p in polygon]} for n, polygon in scene.zones]
        assert camera["spec"]["lines"] == lines
        assert camera["spec"]["zones"] == zones


def test_a_camera_is_where_the_simulator_serves_it(chart: Chart) -> None:
    rendered = chart("ray.mode=static", "sim.enabled=true", "sim.cameras=12")
    command = rendered.one("Deployment", "-sim")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert "--cameras=12" in command and "--prefix=sim" in command
    first = rendered.of("Camera")[0]
    assert first["metadata"]["name"] == "sim-01"
    url = "http://fg-framegrid-sim.cameras.svc:8090/cameras/sim-01/stream.mjpg"
    assert first["spec"]["url"] == url


def test_ingest_takes_the_cameras(chart: Chart) -> None:
    for camera in chart("ray.mode=static", "sim.enabled=true").of("Camera"):
        stored: dict[str, Any] = {**camera, "metadata": {**camera["metadata"], "uid": "u", "generation": 1}}
        config = camera_config(declared(stored), {})
        assert config.site == "sim"
        assert config.fps == 10
