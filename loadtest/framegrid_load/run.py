"""The whole load test against a target that runs: its capacity, the shapes, a report, an exit status."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from framegrid_load.capacity import Goal, Prober, search
from framegrid_load.connection import Target
from framegrid_load.fleet import FleetProcess
from framegrid_load.report import html_report
from framegrid_load.sender import FleetOptions
from framegrid_load.shapes import SHAPES
from framegrid_load.verdict import Thresholds

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
# Of the capacity: what one would plan a site for. The burst's peak is twice that, so beyond the capacity.
RATED_SHARE = 0.7
_LOCUST_MARGIN_S = 120.0
_LARGEST_WIDTH = 1920


class LoadError(RuntimeError):
    """The load test cannot be run; the text says what to do."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to do to `target`."""

    target: str
    out: Path
    shapes: tuple[str, ...] = tuple(SHAPES)
    cameras: int = 0  # 0: as many as RATED_SHARE of the capacity, which is searched for
    cores: int = 0  # of the detectors; 0: not known, then no figure per core
    fps: float = 10.0
    model: str = ""
    people: int = 2
    width: int = 0  # of the pictures; 0: the model's input size, to which ingest scales them
    unit_s: float = 10.0
    trial_s: float = 8.0
    confirm_s: float = 30.0
    thresholds: Thresholds = field(default_factory=Thresholds)


def run_load(plan: LoadPlan, tell: Callable[[str], None] = print) -> int:
    """Exit status: 0 when every threshold was kept. Raises LoadError, FleetError, GeneratorLimitError."""
    plan, model = fitted(plan)
    plan.out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {"about": _about(plan, model), "thresholds": asdict(plan.thresholds)}
    cameras = plan.cameras
    if not cameras:
        tell(f"Capacity: cameras of {plan.fps:g} frames/s at p95 < {plan.thresholds.p95_ms:.0f} ms")
        summary["capacity"] = capacity = find_capacity(plan, tell)
        tell(capacity["line"])
        cameras = max(4, round(RATED_SHARE * capacity["cameras"]))
    summary["shapes"] = []
    for name in plan.shapes:
        tell(f"Shape {name}, {cameras} cameras, {SHAPES[name](cameras, plan.unit_s).seconds:.0f} s")
        summary["shapes"].append(_run_shape(name, cameras, plan))
        tell(_line_of(summary["shapes"][-1]))
    summary["problems"] = _problems(summary)
    (plan.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (plan.out / "report.html").write_text(html_report(summary), encoding="utf-8")
    for problem in summary["problems"]:
        tell(f"FAILED {problem}")
    tell(f"Report: {plan.out / 'report.html'}")
    return 1 if summary["problems"] else 0


def fitted(plan: LoadPlan) -> tuple[LoadPlan, dict[str, Any]]:
    """The plan with pictures of the size that ingest would send, and the model. Raises LoadError."""
    served = check_target(plan.target)
    wanted = plan.model or served["default"]
    model = next((one for one in served["models"] if one["name"] == wanted and "input_size" in one), None)
    if model is None:
        raise LoadError(f"expected model {wanted} to serve at {plan.target}, see GET {plan.target}/v1/models")
    return replace(plan, width=plan.width or min(_LARGEST_WIDTH, model["input_size"])), model


def check_target(url: str) -> dict[str, Any]:
    """What GET /v1/models says. Raises LoadError when there is no serve."""
    Target.parse(url)
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/v1/models", timeout=10.0) as response:
            served: dict[str, Any] = json.load(response)
    except (OSError, ValueError) as error:
        raise LoadError(
            f"expected a Framegrid at {url}, got {type(error).__name__}; start one (`framegrid demo`), or "
            f"run `make load` without TARGET"
        ) from error
    if not served.get("models"):
        raise LoadError(f"expected models at {url}, got none; see GET {url}/v1/models")
    return served


def find_capacity(plan: LoadPlan, tell: Callable[[str], None]) -> dict[str, Any]:
    """The most cameras that the target carries within the thresholds, and every trial on the way."""
    options = FleetOptions(target=plan.target, fps=plan.fps, model=plan.model, width=plan.width)
    goal = Goal(plan.thresholds.p95_ms, plan.thresholds.lost_share)
    with FleetProcess(options) as fleet:
        prober = Prober(fleet, goal, short_s=plan.trial_s, long_s=plan.confirm_s, tell=tell)
        cameras, trials = search(prober)
    per_core = f", {cameras / plan.cores:.1f} per core" if plan.cores else " (cores of the target not given)"
    return {
        "line": f"{cameras} cameras of {plan.fps:g} frames/s at p95 < {goal.p95_ms:.0f} ms{per_core}",
        "cameras": cameras,
        "frames_per_s": cameras * plan.fps,
        "cores": plan.cores or None,
        "cameras_per_core": round(cameras / plan.cores, 2) if plan.cores else None,
        "trials": [trial.to_json() for trial in trials],
    }


def locust_argv(plan: LoadPlan) -> list[str]:
    """Locust with our file and everything in the plan but the shape."""
    thresholds = plan.thresholds
    options = {
        "host": plan.target.rstrip("/"),
        "fps": plan.fps,
        "model": plan.model,
        "people": plan.people,
        "width": plan.width,
        "unit-s": plan.unit_s,
        "max-p95-ms": thresholds.p95_ms,
        "max-lost-share": thresholds.lost_share,
        "max-recovery-s": thresholds.recovery_s,
    }
    argv = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE)]
    return argv + [f"--{name}={value}" for name, value in options.items()]


def _run_shape(name: str, cameras: int, plan: LoadPlan) -> dict[str, Any]:
    shape = SHAPES[name](cameras, plan.unit_s)
    fleet_cameras = max(1, cameras // 100)  # a few hundred Locust users at most
    with tempfile.TemporaryDirectory(prefix="fg-load-") as folder:
        result = Path(folder) / "summary.json"
        argv = [*locust_argv(plan), "--headless", "--only-summary", f"--load-shape={name}"]
        argv += [f"--cameras={cameras}", f"--fleet-cameras={fleet_cameras}", f"--summary={result}"]
        argv += [f"--html={plan.out / f'locust-{name}.html'}"]
        log = plan.out / f"locust-{name}.log"
        with log.open("wb") as file:
            try:
                subprocess.run(
                    argv,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    check=False,
                    timeout=shape.seconds + _LOCUST_MARGIN_S,
                )
            except subprocess.TimeoutExpired as error:
                raise LoadError(f"shape {name} did not end in time; see {log}") from error
        try:
            found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LoadError(f"Locust left no result of shape {name}; see {log}") from error
    return found


def _line_of(shape: dict[str, Any]) -> str:
    recoveries = [phase["recovery_s"] for phase in shape["phases"] if "recovery_s" in phase]
    recovered = ", ".join("not at all" if one is None else f"{one:.0f} s" for one in recoveries)
    frames = shape["cameras"]
    p95 = "lost" if frames["p95_ms"] is None else f"{frames['p95_ms']:.0f} ms"
    text = f"  {frames['offered']} frames, p95 {p95}, {frames['lost_share']:.2%} lost"
    return text + (f", back under the target after {recovered}" if recoveries else "")


def _problems(summary: dict[str, Any]) -> list[str]:
    found = [problem for shape in summary["shapes"] for problem in shape["problems"]]
    if "capacity" in summary and not summary["capacity"]["cameras"]:
        found.insert(0, "capacity: expected at least one camera to be carried, got none")
    return found


def _about(plan: LoadPlan, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "target": plan.target,
        "model": {key: model.get(key) for key in ("name", "version", "engine", "precision", "input_size")},
        "pictures": f"{plan.width} pixels wide",
        "fps": plan.fps,
        "people": plan.people,
        "generator": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "command": " ".join(Path(sys.argv[0]).name.split() + sys.argv[1:]),
    }
