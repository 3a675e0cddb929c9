"""`framegrid demo`: the real chain on simulated street cameras, checked against their exact truth."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import yaml
from framegrid_serve.workshop import resolve

from framegrid_local import health, ports
from framegrid_local.chain import Chain, ChainSettings, Workload
from framegrid_local.console import Console
from framegrid_local.demo_report import explain, problems, summary_of
from framegrid_local.demo_window import CountingWindow
from framegrid_local.errors import LocalError, StopRequestedError
from framegrid_local.figures import lines_of_table
from framegrid_local.process import Command
from framegrid_local.signals import StopSwitch
from framegrid_local.state import StateDir
from framegrid_local.stored import read_run
from framegrid_local.supervisor import ProcessService
from framegrid_local.verdict import compare

FPS = 10.0
WIDTH, HEIGHT = 640, 360
INTERVAL_S = 0.25
SIM_READY_S = 180.0  # renders its clips when they are not in its cache yet
SIM_GRACE_S = 3.0
FIRST_FRAMES_S = 60.0
TICK_S = 1.0


def run_demo(settings: ChainSettings, *, cameras: int, seconds: float, model: str) -> int:
    """Runs until Ctrl-C, or for `seconds` of counting; returns the exit status."""
    state = StateDir(settings.state_dir)
    switch = StopSwitch()
    state.lock()
    try:
        with switch.installed():
            return _Demo(settings, state, switch, cameras=cameras, model=model).run(seconds)
    finally:
        state.unlock()


class _Demo:
    def __init__(
        self, settings: ChainSettings, state: StateDir, switch: StopSwitch, *, cameras: int, model: str
    ) -> None:
        self._state = state
        self._console = Console()
        self._switch = switch
        self._sim_port = ports.free_port()
        self._cameras_path = state.root / "demo-cameras.yaml"
        folder = resolve(model, state.models)
        self._model = folder.name
        workload = Workload(
            self._cameras_path,
            {self._model: folder},
            default_model=self._model,
            interval_s=INTERVAL_S,
            extra={"cameras": self._simulator(cameras)},
        )
        self._chain = Chain(settings, state, workload, on_event=self._console.event, cancel=switch.requested)
        self._names: list[str] = []
        self._started_s = time.time()

    def run(self, seconds: float) -> int:
        """The whole life of a demo. With `seconds` the last line is one JSON object."""
        status = 0
        try:
            self._start()
            counting = CountingWindow(self._chain, self._sim_port, self._names)
            counting.wait_frames(FIRST_FRAMES_S, self._switch.requested)
            self._say_addresses(counting.first_frames_s - self._started_s)
            counting.begin(self._switch.requested)
            self._watch(counting, seconds)
            status = self._finish(counting, is_timed=seconds > 0)
        except StopRequestedError:
            self._console.say("Stopped before it was running.")
        finally:
            self._console.end_table()
            self._chain.stop()
        return status

    def _start(self) -> None:
        self._console.say(
            f"Starting {self._chain.replicas} detector replica(s), PostgreSQL, the page and the cameras, "
            f"whose clips are drawn the first time.\nLogs: {self._state.logs}"
        )
        self._chain.start()
        answer = health.get_json(self._sim_port, "/cameras")
        if not isinstance(answer, dict) or not answer.get("cameras"):
            raise LocalError(f"the simulator lists no cameras; its log: {self._state.logs / 'cameras.log'}")
        self._names = [camera["name"] for camera in answer["cameras"]]
        text = yaml.safe_dump(
            cameras_document(answer["cameras"], self._sim_port, self._model), sort_keys=False
        )
        self._state.write_private(self._cameras_path, text)
        self._chain.start_ingest()

    def _say_addresses(self, flow_s: float) -> None:
        self._console.say(f"Frames flow {flow_s:.1f} s after the start.")
        no_page = self._chain.wait_page()
        if no_page:
            self._console.say(f"Going on without the page: {no_page}")
        if self._chain.page_address:
            self._console.say(f"\nPage:     {self._chain.page_address}")
        psql = self._chain.postgres.psql if self._chain.postgres else "psql"
        self._console.say(f'SQL:      {psql} "{self._chain.database_url}"')
        if self._chain.bi_url:
            self._console.say(f"BI:       {self._chain.bi_url}   (read-only: schema bi)")
        self._console.say(f"Cameras:  http://{ports.LOOPBACK}:{self._sim_port}/")
        self._console.say(f"Upload:   {self._chain.serve_address}/   (pictures, videos; API: /docs)")
        self._console.say("Ctrl-C stops everything.\n")

    def _watch(self, counting: CountingWindow, seconds: float) -> None:
        ends_at = time.monotonic() + seconds if seconds else float("inf")
        next_tick = time.monotonic()
        while time.monotonic() < ends_at and not self._switch.requested.is_set():
            self._console.table(*lines_of_table(counting.look()))
            next_tick = max(next_tick + TICK_S, time.monotonic())
            self._switch.requested.wait(min(next_tick, ends_at) - time.monotonic())

    def _finish(self, counting: CountingWindow, *, is_timed: bool) -> int:
        """Reads back what is stored and judges it: exit status 1 for a timed run that is wrong."""
        self._console.end_table()
        self._console.say("Stopping: the cameras first, so that everything counted is stored.")
        figures = counting.look()
        to_s = time.time()
        truth = counting.truth_until(to_s)
        self._chain.stop_ingest()
        run = read_run(self._chain.database_url, self._names, self._started_s)
        verdict = compare(run.crossings, truth, counting.from_s, to_s)
        for line in explain(run, verdict):
            self._console.say(line)
        # A run that somebody broke off after a moment has too few crossings to be judged.
        failures = problems(run, verdict) if is_timed else []
        for line in failures:
            print(f"framegrid: {line}", file=sys.stderr)
        summary = {
            **summary_of(run, verdict, figures),
            "replicas": self._chain.replicas,
            "start_s": round(counting.first_frames_s - self._started_s, 1),
            "seconds": round(to_s - counting.from_s, 1),
            "restarts": sum(self._chain.restarts().values()),
        }
        self._chain.stop()
        if is_timed:
            self._console.say(json.dumps(summary))
        return 1 if failures else 0

    def _simulator(self, cameras: int) -> ProcessService:
        argv = [sys.executable, "-m", "framegrid_sim", "serve", "--cameras", str(cameras)]
        argv += [
            "--port",
            str(self._sim_port),
            "--width",
            str(WIDTH),
            "--height",
            str(HEIGHT),
            "--fps",
            f"{FPS:g}",
        ]
        return ProcessService(
            "cameras",
            Command(tuple(argv), self._state.logs / "cameras.log", grace_s=SIM_GRACE_S),
            health.answers(self._sim_port, "/healthz"),
            SIM_READY_S,
        )


def cameras_document(cameras: list[dict[str, Any]], port: int, model: str) -> dict[str, Any]:
    """A cameras.yaml for what the simulator lists: its streams, lines and zones."""
    return {
        "defaults": {"fps": FPS, "model": model, "site": "demo"},
        "cameras": [
            {
                "name": camera["name"],
                "url": f"http://{ports.LOOPBACK}:{port}{camera['stream']}",
                "lines": [_plain(line) for line in camera["lines"]],
                "zones": [_plain(zone) for zone in camera["zones"]],
            }
            for camera in cameras
        ],
    }


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: [list(p) for p in value] if key == "polygon" else value for key, value in entry.items()}
