"""`framegrid up` with cameras of its own: edits of cameras.yaml and of the models it names, while it runs."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
import simplejpeg
from framegrid_local.postgres import EmbeddedPostgres
from framegrid_sim.clip import Clip, SceneSettings
from framegrid_sim.feed import CameraSpec
from framegrid_sim.server import BackgroundServer
from framegrid_sim.truth import ClipTruth, FrameTruth

pytestmark = pytest.mark.e2e

START_LIMIT_S = 300
EDIT_LIMIT_S = 60


def grey_clip() -> Clip:
    jpeg = simplejpeg.encode_jpeg(np.full((180, 320, 3), 90, np.uint8), quality=80)
    truth = ClipTruth(10.0, tuple(FrameTruth(i, ()) for i in range(50)), (), (), (), (), 0)
    return Clip(SceneSettings(width=320, height=180, fps=10.0, duration_s=5), [jpeg] * 50, truth)


class Output:
    """What the command prints, line by line, waited for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str] = queue.Queue()
        self.seen: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip())

    def wait_for(self, text: str, within_s: float) -> None:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            try:
                line = self._lines.get(timeout=0.2)
            except queue.Empty:
                if self._process.poll() is not None:
                    break
                continue
            self.seen.append(line)
            if text in line:
                return
        raise AssertionError(f"{text!r} not seen in:\n" + "\n".join(self.seen))


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    EmbeddedPostgres(tmp_path / "state" / "postgres").destroy()


def copy_of_packaged_model(target: Path) -> None:
    from framegrid_serve.workshop import PACKAGED_MODELS

    shutil.copytree(PACKAGED_MODELS / "street-sim", target)
    manifest = target / "model.yaml"
    manifest.write_text(manifest.read_text().replace("name: street-sim", f"name: {target.name}"))


def wait_for_coverage(url: str, camera: str, model: str, within_s: float) -> None:
    """Until frames of the camera, seen by the model, are in SQL."""
    query = """
        SELECT coalesce(sum(samples), 0) FROM framegrid.frame_count
        JOIN framegrid.camera c USING (camera_id) JOIN framegrid.model_version m USING (model_id)
        WHERE c.key = %s AND m.name = %s
    """
    until = time.monotonic() + within_s
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < until:
            row = connection.execute(query, (camera, model)).fetchone()
            if row and row[0] > 0:
                return
            time.sleep(0.3)
    raise AssertionError(f"no frame of {camera} by {model} in {within_s} s")


def test_cameras_and_their_models_change_while_it_runs(state_dir: Path, tmp_path: Path) -> None:
    copy_of_packaged_model(state_dir / "models" / "second")
    cameras = tmp_path / "cameras.yaml"
    with BackgroundServer([CameraSpec("north", grey_clip()), CameraSpec("south", grey_clip())]) as sim:
        line = "  - {{name: {0}, url: '" + sim.url + "/cameras/{0}/stream.mjpg', fps: 5{1}}}\n"
        cameras.write_text("cameras:\n" + line.format("north", ""))
        command = [sys.executable, "-m", "framegrid_local", "up", str(cameras), "--no-page"]
        process = subprocess.Popen(
            [*command, "--state-dir", str(state_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "FRAMEGRID_DATABASE_URL"},
        )
        output = Output(process)
        try:
            output.wait_for("Ctrl-C stops everything", START_LIMIT_S)
            url = (state_dir / "database-url").read_text().strip()
            wait_for_coverage(url, "north", "street-sim", EDIT_LIMIT_S)

            with cameras.open("a") as file:
                file.write(line.format("south", ", model: second"))
            output.wait_for("read again, 2 cameras", EDIT_LIMIT_S)
            wait_for_coverage(url, "south", "second", EDIT_LIMIT_S)

            good = cameras.read_text()
            cameras.write_text(good + "  - {name: third, urll: x}\n")
            output.wait_for("did you mean 'url'?", EDIT_LIMIT_S)
            output.wait_for("nothing is changed until this is mended", EDIT_LIMIT_S)

            cameras.write_text(good + line.format("lost", ", model: nowhere"))
            output.wait_for("model 'nowhere': not found", EDIT_LIMIT_S)
            output.wait_for("read again, 3 cameras", EDIT_LIMIT_S)

            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 0, "\n".join(output.seen)
            output.wait_for("database  stopped", 10)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    assert not (state_dir / "database-url").exists()
