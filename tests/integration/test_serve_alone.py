"""One replica without Ray, started as a user of a small device starts it, with the packaged model."""

from __future__ import annotations

import json
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from framegrid_serve.bundle import Manifest, load_bundle, write_manifest
from framegrid_serve.golden import GOLDEN_IMAGE
from framegrid_serve.wire import (
    CONTENT_TYPE,
    DetectRequest,
    Frame,
    FrameStatus,
    decode_response,
    encode_request,
)
from framegrid_serve.workshop import resolve

pytestmark = pytest.mark.integration

READY_S, STOP_S, SWAP_S = 60.0, 30.0, 60.0


class Alone:
    """`python -m framegrid_serve.alone` as a process of its own."""

    def __init__(self, folder: Path, **settings: object) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.config = folder / "serve.yaml"
        self.settings = {"http_port": self.port, "state_dir": "state", "models": [{"name": "street-sim"}]}
        self.write(**settings)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "framegrid_serve.alone", "--config", str(self.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, **settings: object) -> None:
        self.settings.update(settings)
        self.config.write_text(yaml.safe_dump(self.settings))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ready_line(self) -> dict[str, object]:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], READY_S)
        line = self.process.stdout.readline() if readable else ""
        return dict(json.loads(line))

    def end(self) -> tuple[int, str]:
        self.process.terminate()
        _, errors = self.process.communicate(timeout=STOP_S)
        return self.process.returncode, errors


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    served = Alone(tmp_path)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.end()


def other_version(folder: Path) -> Path:
    """The packaged model under another version."""
    packaged = load_bundle(resolve("street-sim"))
    folder.mkdir()
    for name in (packaged.manifest.weights, GOLDEN_IMAGE):
        shutil.copyfile(packaged.path / name, folder / name)
    values = packaged.manifest.model_dump(mode="json") | {"version": "other"}
    write_manifest(folder, Manifest.model_validate(values))
    return folder


def ask(url: str) -> tuple[str, FrameStatus, int]:
    """Version, status and number of boxes of the golden picture."""
    golden = (load_bundle(resolve("street-sim")).path / GOLDEN_IMAGE).read_bytes()
    body = encode_request(DetectRequest((Frame("north", 1, golden),), timeout_ms=20_000))
    answer = httpx.post(f"{url}/v1/detect", content=body, headers={"Content-Type": CONTENT_TYPE})
    assert answer.status_code == 200, answer.text
    response = decode_response(answer.content)
    return response.version, response.results[0].status, len(response.results[0].scores)


def test_a_replica_alone_detects_swaps_and_ends_on_a_signal(alone: Alone, tmp_path: Path) -> None:
    ready = alone.ready_line()
    assert ready["models"] == ["street-sim"] and ready["url"] == alone.url
    first, status, boxes = ask(alone.url)
    assert status is FrameStatus.OK and boxes > 0
    page = httpx.get(f"{alone.url}/models").json()
    assert [model["name"] for model in page["models"]] == ["street-sim"]
    told = json.loads((tmp_path / "state" / "serve.json").read_text())
    assert told == {"pid": alone.process.pid, "url": alone.url, "replicas": 1}

    other = other_version(tmp_path / "other")
    alone.write(models=[{"name": "street-sim", "path": str(other)}])
    alone.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + SWAP_S
    while ask(alone.url)[0] == first and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ask(alone.url)[0] == "other"

    alone.config.write_text("nonsense: true\n")
    alone.process.send_signal(signal.SIGHUP)
    assert ask(alone.url)[0] == "other"
    code, errors = alone.end()
    assert code == 0, errors
    assert "everything stays as it is" in errors
    assert not (tmp_path / "state" / "serve.json").exists()


def test_several_replicas_are_refused_with_what_to_do(tmp_path: Path) -> None:
    served = Alone(tmp_path, replicas=2)
    _, errors = served.process.communicate(timeout=READY_S)
    assert served.process.returncode == 1
    assert "replicas: expected 1 without Ray, got 2" in errors


def test_ray_is_not_even_imported() -> None:
    script = "import sys, framegrid_serve.alone; print('ray' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
