"""The peers' servers, started as their own docs say, in the settings that are tried for each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framegrid_local import ports
from framegrid_local.bench.peers import environments
from framegrid_local.bench.peers.dialects import Dialect, LitServe, Roboflow

_HERE = Path(__file__).parent
_READY_S = 300.0
_STOP_S = 20.0
INPUT_SIZE = 640


@dataclass(frozen=True, slots=True)
class Candidate:
    """One peer in one setting."""

    peer: str
    setting: str  # for the report
    dialect: Dialect
    load: tuple[str, str]  # what names the dialect to `load.py`
    argv: tuple[str, ...]  # `{port}` becomes the port
    ready_path: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Running:
    """A server that answers; `resting` servers take no time."""

    candidate: Candidate
    port: int
    process: subprocess.Popen[bytes]

    def rest(self) -> None:
        """Stop it where it stands."""
        _signal(self.process, signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        _signal(self.process, signal.SIGCONT)


@contextmanager
def running(candidate: Candidate, folder: Path) -> Iterator[Running]:
    """The server of a candidate, its log in `folder`; ended with all its processes."""
    folder.mkdir(parents=True)
    port = ports.free_port()
    for empty in ("out/static", "out/_next/static"):  # Roboflow's server serves a page that its wheel lacks
        (folder / "inference/landing" / empty).mkdir(parents=True, exist_ok=True)
    shutil.copy(_HERE / "roboflow_server.py", folder)
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in candidate.argv],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**_plain_environment(), **candidate.environment},
            start_new_session=True,
        )
    server = Running(candidate, port, process)
    try:
        _wait_ready(server, log)
        yield server
    finally:
        for number in (signal.SIGCONT, signal.SIGTERM):
            _signal(process, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        _signal(process, signal.SIGKILL)  # and to workers that outlived their parent
        process.wait(_STOP_S)


def litserve(weights: Path, cores: int) -> list[Candidate]:
    """Its workers with one thread each, and one worker that batches on all cores."""
    python = str(environments.litserve_python())
    layouts = ((cores, 1, 1), (1, cores, 8))
    return [_litserve(python, weights, "PyTorch", layout) for layout in layouts]


def litserve_openvino(weights: Path, cores: int) -> list[Candidate]:
    """The same server around Ultralytics' own OpenVINO export: what the server costs, at one engine."""
    python = str(environments.litserve_python())
    return [_litserve(python, _export(weights, "openvino"), "OpenVINO by Ultralytics", (cores, 1, 1))]


def roboflow(weights: Path, cores: int) -> list[Candidate]:
    """ONNX Runtime with OpenVINO, as in the image for x86 CPUs, and plain; one process, and one a core."""
    python = str(environments.roboflow_python())
    package = str(_roboflow_package(weights))
    settings = (("OpenVINOExecutionProvider", 1), ("OpenVINOExecutionProvider", cores), ("", cores))
    found = []
    for provider, workers in settings:
        argv = (python, "-m", "uvicorn", "roboflow_server:app", "--host", "127.0.0.1", "--port", "{port}")
        found.append(
            Candidate(
                peer="roboflow",
                setting=f"NUM_WORKERS={workers}, {provider or 'CPUExecutionProvider'}",
                dialect=Roboflow(package),
                load=("roboflow", package),
                argv=(*argv, "--workers", str(workers), "--log-level", "warning"),
                ready_path="/readiness",
                environment=_roboflow_environment(provider, workers),
            )
        )
    return found


def _litserve(python: str, weights: Path, engine: str, layout: tuple[int, int, int]) -> Candidate:
    """`layout`: workers, threads of each, pictures in a batch."""
    workers, threads, batch = layout
    options = {"weights": weights, "port": "{port}", "workers": workers, "threads": threads, "batch": batch}
    argv = [
        python,
        str(_HERE / "litserve_server.py"),
        *(f"--{key}={value}" for key, value in options.items()),
    ]
    return Candidate(
        peer="litserve",
        setting=f"{engine}, workers_per_device={workers}, max_batch_size={batch}, {threads} threads a worker",
        dialect=LitServe(),
        load=("litserve", ""),
        argv=tuple(argv),
        ready_path="/health",
        environment={"OMP_NUM_THREADS": str(threads), "YOLO_OFFLINE": "True", "YOLO_AUTOINSTALL": "False"},
    )


def _roboflow_environment(provider: str, workers: int) -> dict[str, str]:
    providers = ",".join(name for name in (provider, "CPUExecutionProvider") if name)
    return {
        "OFFLINE_MODE": "True",
        "ALLOW_INFERENCE_MODELS_DIRECTLY_ACCESS_LOCAL_PACKAGES": "True",
        "METRICS_ENABLED": "False",
        "DISABLE_VERSION_CHECK": "True",
        "NUM_WORKERS": str(workers),
        "ONNXRUNTIME_EXECUTION_PROVIDERS": f"[{providers}]",
        "MODEL_CACHE_DIR": str(environments.ENVIRONMENTS / "roboflow-cache"),
    }


def _roboflow_package(weights: Path) -> Path:
    """The weights as its ONNX class for YOLO11 reads them."""
    folder = environments.ENVIRONMENTS / f"{weights.stem}-roboflow"
    if (folder / "model_config.json").exists():
        return folder
    from ultralytics import YOLO

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_export(weights, "onnx"), folder / "weights.onnx")
    names: dict[int, str] = YOLO(str(weights)).names
    (folder / "class_names.txt").write_text("".join(f"{names[number]}\n" for number in sorted(names)))
    network_input: dict[str, Any] = {
        "training_input_size": {"height": INPUT_SIZE, "width": INPUT_SIZE},
        "dynamic_spatial_size_supported": False,
        "color_mode": "rgb",
        "resize_mode": "letterbox",
        "padding_value": 114,
        "input_channels": 3,
        "scaling_factor": 255,
    }
    config = {
        "network_input": network_input,
        "forward_pass": {"static_batch_size": 1},
        "post_processing": {"type": "nms", "fused": False},
    }
    (folder / "inference_config.json").write_text(json.dumps(config))
    model = {"model_architecture": "yolov11", "task_type": "object-detection", "backend_type": "onnx"}
    (folder / "model_config.json").write_text(json.dumps(model))
    return folder


def _export(weights: Path, form: str) -> Path:
    """Ultralytics' export at the input size, made once."""
    folder = environments.ENVIRONMENTS / f"{weights.stem}-{form}"
    made = folder / (f"{weights.stem}.onnx" if form == "onnx" else f"{weights.stem}_openvino_model")
    if not made.exists():
        from ultralytics import YOLO

        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / weights.name
        shutil.copyfile(weights, copy)
        YOLO(str(copy)).export(format=form, imgsz=INPUT_SIZE)
    return made


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the server and its workers; nobody there is fine."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _plain_environment() -> dict[str, str]:
    """Ours without what would lead the peer's Python into our packages."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


def _wait_ready(server: Running, log: Path) -> None:
    url = f"http://127.0.0.1:{server.port}{server.candidate.ready_path}"
    deadline_s = time.monotonic() + _READY_S
    while time.monotonic() < deadline_s and server.process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5.0):
                return
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return
        except OSError:
            pass
        time.sleep(0.5)
    tail = log.read_text(errors="replace")[-500:]
    raise RuntimeError(f"{server.candidate.peer} did not start ({server.candidate.setting}): {tail}")
