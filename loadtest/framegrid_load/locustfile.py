"""Locust's part: shapes, people on POST /predict, and fleets of cameras (whose frames `sender.py` sends).

`locust -f locustfile.py --host http://127.0.0.1:8000` opens Locust's web page; `--load-shape manual` there
follows the number of users that one types. `--headless --load-shape step` runs a shape and exits with 1
when a threshold was missed. `make load` does all that.
"""

from __future__ import annotations

import json
import logging
import random
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust import FastHttpUser, LoadTestShape, User, events, task
from locust.env import Environment

from framegrid_load.fleet import FleetProcess
from framegrid_load.pictures import street_jpegs
from framegrid_load.sender import FleetOptions
from framegrid_load.shapes import SHAPES, Shape
from framegrid_load.tally import Outcome, Tally, Timeline
from framegrid_load.verdict import Run, Thresholds, spans_of, summary_of

logger = logging.getLogger(__name__)

MANUAL = "manual"
_PERSON_EVERY_S = 2.0  # on average, each
_SETTLE_S = 0.05  # users come one by one; the cameras' process is told once
_PREDICT = "/predict"


class LoadTest:
    """One test from start to stop: the cameras' process, and what came of it all."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        options: Namespace = environment.parsed_options
        self.options = options
        self.people = Timeline()
        self.marks: list[tuple[str, int, float]] = []
        self._fleets = 0
        fleet = FleetOptions(
            target=environment.host or options.host,
            fps=options.fps,
            model=options.model,
            connections=options.connections,
            width=options.width,
        )
        self.fleet = FleetProcess(fleet, self._report)
        self.fleet.start()
        self._teller = gevent.spawn(self._tell_forever)

    def change(self, fleets: int) -> None:
        """So many fleets more or fewer."""
        self._fleets += fleets

    def mark(self, phase: str, cameras: int) -> None:
        """A phase begins."""
        self.marks.append((phase, cameras, self.fleet.now_s()))

    def person(self, due_s: float, status: int, latency_s: float) -> None:
        """Somebody on /predict was answered."""
        outcome = Outcome.OK if status == 200 else Outcome.REFUSED if status == 429 else Outcome.BROKEN
        since_s = self.fleet.now_s() - (time.monotonic() - due_s)
        self.people.at(int(max(0.0, since_s))).count(outcome, latency_s)

    def stop(self) -> None:
        """No more frames; waits for the answers under way."""
        self._end_s = self.fleet.now_s()
        self._teller.kill()
        self.fleet.stop()

    def summary(self, shape: Shape) -> dict[str, Any]:
        """What came of it, judged."""
        spans = spans_of(self.marks, self._end_s)
        run = Run(shape, spans, self.fleet.timeline, self.people, self.fleet.errors)
        options = self.options
        thresholds = Thresholds(options.max_p95_ms, options.max_lost_share, options.max_recovery_s)
        return {**summary_of(run, thresholds), "sender_cpu_s": round(self.fleet.cpu_s, 2)}

    def _tell_forever(self) -> None:
        told = 0
        while True:
            if told != self._fleets:
                told = self._fleets
                self.fleet.set_cameras(told * self.options.fleet_cameras)
            gevent.sleep(_SETTLE_S)

    def _report(self, tallies: Mapping[int, Tally], errors: Mapping[str, int]) -> None:
        """Put the cameras' frames into Locust's own figures."""
        request = {"request_type": "WIRE", "name": "frame", "response_length": 0, "context": {}}
        deadline_ms = self.fleet.options.deadline_s * 1e3  # of lost frames: at least that
        fire = self._environment.events.request.fire
        for tally in tallies.values():
            for latency_ms, count in tally.latency_ms.items():
                for _ in range(count):
                    fire(**request, response_time=latency_ms, exception=None)
            for outcome, count in tally.outcomes.items():
                for _ in range(0 if outcome is Outcome.OK else count):
                    fire(**request, response_time=deadline_ms, exception=outcome.value)
        for error, count in errors.items():
            logger.warning("frames: %s (%d times)", error, count)


class Cameras(User):
    """A fleet: `--fleet-cameras` cameras, open loop."""

    def on_start(self) -> None:
        self.environment.framegrid.change(1)

    def on_stop(self) -> None:
        self.environment.framegrid.change(-1)

    @task
    def film(self) -> None:
        """The frames are sent by the cameras' process."""
        gevent.sleep(1.0)


class Person(FastHttpUser):
    """Sends a picture every few seconds, at times fixed in advance; waits for the answer before the next."""

    fixed_count = 2
    _jpegs: ClassVar[list[bytes]] = []

    def on_start(self) -> None:
        self._random = random.Random(id(self))
        self._due_s = time.monotonic() + self._random.random() * _PERSON_EVERY_S

    @task
    def look(self) -> None:
        """Latency counts from the time at which the picture was due, a late answer before it included."""
        gevent.sleep(max(0.0, self._due_s - time.monotonic()))
        due_s = self._due_s
        self._due_s += self._random.expovariate(1.0 / _PERSON_EVERY_S)
        jpeg = self._random.choice(self._jpegs)
        headers = {"Content-Type": "image/jpeg"}
        with self.client.post(_PREDICT, data=jpeg, headers=headers, catch_response=True) as response:
            latency_s = time.monotonic() - due_s
            response.request_meta["response_time"] = latency_s * 1e3
            self.environment.framegrid.person(due_s, response.status_code, latency_s)


class Planned(LoadTestShape):
    """The shape that `--load-shape` names; `manual` follows Locust's own number of users."""

    use_common_options = True

    def __init__(self) -> None:
        super().__init__()
        self._phase = ""

    def tick(self) -> tuple[int, float] | None:
        """Locust asks about once a second."""
        environment = self.runner.environment
        options = environment.parsed_options
        if options.load_shape == MANUAL:
            return (options.num_users or 1, options.spawn_rate or 1)
        if running_test(environment) is None:
            environment.framegrid = LoadTest(environment)
            self.reset_time()  # the cameras' process took its time
        phase = shape_of(options).at(self.get_run_time())
        if phase is None:
            return None
        fleets = max(1, round(phase.cameras / options.fleet_cameras))
        if phase.name != self._phase:
            self._phase = phase.name
            environment.framegrid.mark(phase.name, fleets * options.fleet_cameras)
        users = fleets + options.people
        return (users, users)

    def reset_time(self) -> None:
        super().reset_time()
        self._phase = ""


def running_test(environment: Environment) -> LoadTest | None:
    """The test that runs."""
    return getattr(environment, "framegrid", None)


def shape_of(options: Namespace) -> Shape:
    """The planned shape."""
    return SHAPES[options.load_shape](options.cameras, options.unit_s)


@events.init_command_line_parser.add_listener
def _add_options(parser: Any) -> None:
    plan = Thresholds()
    add = parser.add_argument
    add("--load-shape", choices=[*SHAPES, MANUAL], default=MANUAL, help="how load changes with time")
    add("--cameras", type=int, default=8, help="cameras at the full level of the shape")
    add("--fleet-cameras", type=int, default=1, help="cameras of one Locust user")
    add("--fps", type=float, default=10.0, help="frames a second of each camera")
    add("--model", default="", help="model to ask for; empty: the default one")
    add("--people", type=int, default=2, help="users on POST /predict, one picture every 2 s each")
    add("--connections", type=int, default=32, help="connections of all cameras together")
    add("--width", type=int, default=640, help="of the pictures")
    add("--unit-s", type=float, default=10.0, help="a shape's unit of time")
    add("--max-p95-ms", type=float, default=plan.p95_ms, help="threshold")
    add("--max-lost-share", type=float, default=plan.lost_share, help="threshold")
    add("--max-recovery-s", type=float, default=plan.recovery_s, help="threshold")
    add("--summary", default="", include_in_web_ui=False, help="file for the result (JSON)")


@events.init.add_listener
def _prepare(environment: Environment, **_: Any) -> None:
    Person.fixed_count = environment.parsed_options.people
    Person._jpegs = street_jpegs(environment.parsed_options.width)


@events.test_start.add_listener
def _start(environment: Environment, **_: Any) -> None:
    if running_test(environment) is None:  # a shape's first tick comes before this
        environment.framegrid = LoadTest(environment)


@events.test_stop.add_listener
def _stop(environment: Environment, **_: Any) -> None:
    test = running_test(environment)
    if test is None:
        return
    environment.framegrid = None
    test.stop()
    options = environment.parsed_options
    if options.load_shape == MANUAL:
        return
    summary = test.summary(shape_of(options))
    for problem in summary["problems"]:
        logger.error("%s", problem)
    environment.process_exit_code = 1 if summary["problems"] else 0
    if options.summary:
        Path(options.summary).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
