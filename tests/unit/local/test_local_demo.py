"""What the demo tells ingest about the simulator's cameras."""

from __future__ import annotations

from pathlib import Path

import yaml
from framegrid_ingest.config import parse_cameras
from framegrid_local.demo import FPS, cameras_document

LISTED = {
    "name": "camera-1",
    "stream": "/cameras/camera-1/stream.mjpg",
    "lines": [{"name": "road", "start": (0.1, 0.9), "end": (0.9, 0.9)}],
    "zones": [{"name": "pavement", "polygon": ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0))}],
    "light": "day",
}


def test_the_simulators_cameras_become_a_cameras_file_that_ingest_takes() -> None:
    document = cameras_document([LISTED], 8090, "street-sim")
    (camera,) = parse_cameras(yaml.safe_dump(document), "demo", {}, Path())
    assert camera.name == "camera-1"
    assert camera.fps == FPS
    assert camera.model == "street-sim"
    assert camera.url.reveal() == "http://127.0.0.1:8090/cameras/camera-1/stream.mjpg"
    assert [line.name for line in camera.lines] == ["road"]
    assert camera.zones[0].polygon[0] == (0.0, 0.5)


def test_a_simulator_without_lines_and_zones_is_fine() -> None:
    document = cameras_document([{**LISTED, "lines": [], "zones": []}], 8090, "street-sim")
    (camera,) = parse_cameras(yaml.safe_dump(document), "demo", {}, Path())
    assert camera.lines == camera.zones == ()
