"""`framegrid up cameras.yaml`: the whole chain on this machine, with the user's cameras."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from framegrid_ingest.config import CameraConfig, load_cameras
from framegrid_ingest.errors import ConfigError
from framegrid_serve.errors import ModelError
from framegrid_serve.workshop import resolve

from framegrid_local.chain import Chain, ChainSettings, Workload
from framegrid_local.console import Console
from framegrid_local.errors import StopRequestedError, UsageError
from framegrid_local.figures import camera_figures, lines_of_table
from framegrid_local.signals import StopSwitch
from framegrid_local.state import StateDir

PACKAGED_MODEL = "street-sim"  # what serve loads while no camera names a model
TICK_S = 1.0
LINES_EVERY_S = 30.0  # in a log file; a terminal's table is drawn anew every second


def run_up(settings: ChainSettings, *, cameras_path: Path, seconds: float) -> int:
    """Runs until Ctrl-C, or for `seconds`; returns the exit status."""
    if not cameras_path.is_file():
        raise UsageError(
            f"{cameras_path}: no such file; a first one is two lines:\n"
            "cameras:\n  - {name: front, url: rtsp://user:${PASSWORD}@10.0.0.5/stream, model: yolo11n}"
        )
    cameras = load_cameras(cameras_path, os.environ)
    state = StateDir(settings.state_dir)
    state.lock()
    console = Console()
    switch = StopSwitch()
    try:
        with switch.installed():
            console.say(f"Finding the models of {len(cameras)} cameras; official ones are fetched once")
            models, problems = find_models(cameras, state)
            if problems:
                raise UsageError(f"{cameras_path}: " + "; ".join(problems))
            workload = Workload(cameras_path, models, default_model=next(iter(models)))
            _run(
                Chain(settings, state, workload, on_event=console.event, cancel=switch.requested),
                console,
                switch,
                seconds,
            )
    finally:
        state.unlock()
    return 0


def _run(chain: Chain, console: Console, switch: StopSwitch, seconds: float) -> None:
    watch = CamerasWatch(chain, console)
    try:
        chain.start()
        chain.start_ingest()
        no_page = chain.wait_page()
        if no_page:
            console.say(f"Going on without the page: {no_page}")
        if chain.page_address:
            console.say(f"\nPage:     {chain.page_address}")
        console.say(f"Upload:   {chain.serve_address}/   (pictures, videos; API: /docs)")
        psql = chain.postgres.psql if chain.postgres else "psql"
        console.say(f'SQL:      {psql} "$(framegrid db url)"')
        if chain.bi_url:
            console.say("BI:       framegrid db url --role bi   (read-only: schema bi)")
        console.say(
            f"Cameras:  {chain.workload.cameras_path}, edits are picked up\nCtrl-C stops everything.\n"
        )
        next_lines_at = 0.0
        ends_at = time.monotonic() + seconds if seconds else float("inf")
        while time.monotonic() < ends_at and not switch.requested.is_set():
            now = time.monotonic()
            if console.in_place or now >= next_lines_at:
                console.table(*lines_of_table(camera_figures(chain.status()).values()))
                next_lines_at = now + LINES_EVERY_S
            watch.look()
            switch.requested.wait(min(TICK_S, max(0.0, ends_at - now)))
        console.end_table()
        console.say("Stopping: the cameras first, so that everything counted is stored.")
    except StopRequestedError:
        console.say("Stopped before it was running.")
    finally:
        console.end_table()
        chain.stop()


def find_models(cameras: Iterable[CameraConfig], state: StateDir) -> tuple[dict[str, Path], list[str]]:
    """Bundle folders of the models that cameras name, and what is wrong with those not found."""
    found: dict[str, Path] = {}
    problems: list[str] = []
    for name in sorted({camera.model for camera in cameras}) or [PACKAGED_MODEL]:
        try:
            found[name] = resolve(name, state.models)
        except ModelError as error:
            problems.append(str(error))
    return found, problems


class CamerasWatch:
    """Notices edits of cameras.yaml that name other models, and gives serve those.

    Ingest reads the file on its own; here only the models matter. Finding one may mean a download, so it
    happens in a thread; a broken file or an unknown model changes nothing and is said once.
    """

    def __init__(self, chain: Chain, console: Console) -> None:
        self._chain = chain
        self._console = console
        self._path = chain.workload.cameras_path
        self._models: Mapping[str, Path] = chain.workload.models
        self._seen = self._signature()
        self._worker: threading.Thread | None = None

    def look(self) -> None:
        """Cheap; call it once a second."""
        if self._worker is not None and self._worker.is_alive():
            return
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        self._worker = threading.Thread(target=self._apply, name="models", daemon=True)
        self._worker.start()

    def _apply(self) -> None:
        try:
            cameras = load_cameras(self._path, os.environ)
        except ConfigError as error:
            self._console.say(f"{error}\n{self._path}: nothing is changed until this is mended")
            return
        models, problems = find_models(cameras, self._chain.state)
        for problem in problems:
            self._console.say(f"{self._path}: {problem}")
        self._console.say(f"{self._path}: read again, {len(cameras)} cameras")
        if models and models != self._models:
            self._chain.set_models(models, next(iter(models)))
            self._models = models
            self._console.say(f"models: {', '.join(models)}")

    def _signature(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)
