"""`framegrid doctor`: what this machine has, and what each of it means for Framegrid."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from framegrid_serve.engines.cpu import advice, cpu_flags, cpu_model

from framegrid_local import machine, pginstall, ports
from framegrid_local.errors import LocalError

GIB = 1 << 30
# The demo was measured at 1.5 GiB with one replica; each further replica takes 0.3 GiB.
LEAST_MEMORY_BYTES = 2 * GIB
USUAL_PORTS = {"Serve": 8000, "page": 8501, "PostgreSQL": 5432}
GPU_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
SYSTEM_PYTHON = (
    "/usr/bin/python3"  # GStreamer's bindings belong to the system's Python, not to our environment
)
GSTREAMER_TEST = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; "
    "Gst.init(None); print(Gst.version_string() if Gst.ElementFactory.find('x264enc') else 'no x264enc')"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact. `level`: ok, note (works, could be better), problem (something will not work)."""

    name: str
    value: str
    meaning: str
    level: str = "ok"


def run_doctor(*, as_json: bool) -> int:
    """Prints the findings; exit status 1 when one of them is a problem."""
    findings = [finding for check in CHECKS for finding in check()]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        signs = {"ok": "ok  ", "note": "note", "problem": "BAD "}
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{signs[finding.level]}  {finding.name:<{width}}  {finding.value}")
            print(f"      {'':<{width}}  {finding.meaning}")
    return 1 if any(finding.level == "problem" for finding in findings) else 0


def _system() -> list[Finding]:
    value = (
        f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}"
    )
    if sys.platform not in ("linux", "darwin"):
        return [Finding("system", value, "the local chain runs on Linux and macOS; use WSL 2", "problem")]
    return [Finding("system", value, "supported")]


def _cores() -> list[Finding]:
    quota, visible = machine.cgroup_cpus(), machine.visible_cpus()
    replicas = machine.default_replicas()
    value = f"{visible} ({cpu_model()})"
    if quota is not None:
        value += f", limited to {quota:g} by the container"
    meaning = (
        f"{replicas} detector replica{'s' * (replicas > 1)} of one core each, one core for everything else"
    )
    if machine.usable_cpus() == 1:
        return [Finding("cores", value, "all share one core: works, at a low frame rate", "note")]
    return [Finding("cores", value, meaning)]


def _instructions() -> list[Finding]:
    if not cpu_flags():
        return [Finding("instructions", "unknown", "this system does not list them; `make bench` measures")]
    found = advice()
    form = "the INT8 form" if found.form == "int8" else "full precision"
    meaning = f"of models that hold both, {form} is taken here: {found.reason}"
    return [Finding("instructions", found.feature, meaning, "ok" if found.known else "note")]


def _memory() -> list[Finding]:
    total = machine.memory_bytes()
    value = f"{total / GIB:.1f} GiB usable"
    if total < LEAST_MEMORY_BYTES:
        meaning = f"the chain wants about {LEAST_MEMORY_BYTES / GIB:.0f} GiB; it may be killed by the system"
        return [Finding("memory", value, meaning, "note")]
    return [Finding("memory", value, "enough")]


def _shared_memory() -> list[Finding]:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return []
    free = shutil.disk_usage(shm).free
    value = f"{free / GIB:.1f} GiB free in /dev/shm"
    if free < GIB // 4:
        meaning = "Ray falls back to files, which is slower; in Docker give --shm-size=1g"
        return [Finding("shared memory", value, meaning, "note")]
    return [Finding("shared memory", value, "enough for Ray and PostgreSQL")]


def _disk() -> list[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    value = f"{free / GIB:.1f} GiB free in {Path.cwd()}"
    if free < 2 * GIB:
        return [Finding("disk", value, "the database and logs need room; free some", "note")]
    return [Finding("disk", value, "enough; a camera stores about 40 MB a day at one-second intervals")]


def _gpu() -> list[Finding]:
    if shutil.which(GPU_QUERY[0]) is None:
        return [Finding("GPU", "none found", "detection runs on the processor, which is the default")]
    done = _run(GPU_QUERY)
    if not done:
        return [
            Finding("GPU", "nvidia-smi fails", "the driver does not work; detection runs on the CPU", "note")
        ]
    return [
        Finding("GPU", done.splitlines()[0], "used by the ONNX Runtime and Ultralytics engines with CUDA")
    ]


def _engines() -> list[Finding]:
    found = []
    for package, name, meaning in (
        ("openvino", "OpenVINO", "the default engine on x86"),
        ("onnxruntime", "ONNX Runtime", "the portable engine"),
    ):
        version = _version(package)
        level = "ok" if version else "problem"
        missing = f"missing: pip install {package}"
        found.append(Finding(name, version or "not installed", meaning if version else missing, level))
    version = _version("ultralytics")
    meaning = "`framegrid model pull` and `.pt` models work" if version else "optional: make setup-workshop"
    found.append(Finding("Ultralytics", version or "not installed", meaning, "ok" if version else "note"))
    ray = _version("ray")
    found.append(
        Finding("Ray", ray or "not installed", "serves the detector", "ok" if ray else "problem"),
    )
    return found


def _postgres() -> list[Finding]:
    try:
        account = pginstall.server_account()
        pginstall.find_install(account)
    except LocalError as error:
        return [Finding("PostgreSQL", "not available", str(error), "problem")]
    who = f"as {account.name}" if account.uid is not None else "as you"
    return [Finding("PostgreSQL", f"embedded {pginstall.MAJOR_VERSION}, runs {who}", "no server needed")]


def _video() -> list[Finding]:
    version = _version("av")
    if version is None:
        return [Finding("video", "PyAV not installed", "no camera can be read: pip install av", "problem")]
    import av

    libraries = ", ".join(
        f"{name} {'.'.join(map(str, parts))}"
        for name, parts in av.library_versions.items()
        if name in ("libavcodec", "libavformat")
    )
    return [Finding("video", f"PyAV {version} ({libraries})", "RTSP, HLS, files; no system FFmpeg needed")]


def _gstreamer() -> list[Finding]:
    answer = _run((SYSTEM_PYTHON, "-c", GSTREAMER_TEST)) if Path(SYSTEM_PYTHON).exists() else ""
    if answer.startswith("GStreamer"):
        return [Finding("RTSP simulator", answer.strip(), "`framegrid sim` can serve RTSP cameras")]
    meaning = (
        "optional, for simulated RTSP cameras alone: apt install python3-gi gir1.2-gst-rtsp-server-1.0 "
        "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
    )
    return [Finding("RTSP simulator", "GStreamer's RTSP server not found", meaning, "note")]


def _webcam() -> list[Finding]:
    devices = sorted(path.name for path in Path("/dev").glob("video[0-9]*"))
    if not devices:
        return []
    return [Finding("webcam", ", ".join(devices), f"url: webcam:{devices[0].removeprefix('video')}")]


def _ports() -> list[Finding]:
    taken = [f"{port} ({name})" for name, port in USUAL_PORTS.items() if not ports.is_free(port)]
    value = f"taken: {', '.join(taken)}" if taken else "all usual ones are free"
    return [Finding("ports", value, "taken ones do no harm: free ones are picked unless you name one")]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _run(command: tuple[str, ...]) -> str:
    """Standard output, or nothing when it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    _system,
    _cores,
    _instructions,
    _memory,
    _shared_memory,
    _disk,
    _gpu,
    _engines,
    _postgres,
    _video,
    _gstreamer,
    _webcam,
    _ports,
)
