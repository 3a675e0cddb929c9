"""A virtual environment for each peer, under the user's cache: they pin much that Framegrid does not.

Made once and kept; the name holds a digest of what is installed, so that a changed list makes a new one.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from framegrid_local.bench import inputs
from framegrid_local.bench.unavailable import UnavailableError

ENVIRONMENTS = inputs.CACHE / "peers"
_INSTALL_TIMEOUT_S = 1800.0

LITSERVE = ("litserve==0.2.19", "ultralytics==8.4.190", "openvino==2026.4.1")
ROBOFLOW = ("inference-cpu[http]==1.8.3",)
# Roboflow's image for x86 CPUs puts this over ONNX Runtime (its requirements.vino.txt): OpenVINO inside.
ROBOFLOW_INSTEAD_OF = ("onnxruntime", "onnxruntime-openvino>=1.15.0,<1.22.0")


def litserve_python() -> Path:
    """The interpreter that has LitServe, and Ultralytics to run the weights."""
    return _environment("litserve", LITSERVE)


def roboflow_python() -> Path:
    """The interpreter that has Roboflow Inference, as its image for CPUs has it."""
    return _environment("roboflow", ROBOFLOW, ROBOFLOW_INSTEAD_OF)


def installed(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of these packages in that environment."""
    script = "import sys, importlib.metadata as m; print(*[m.version(name) for name in sys.argv[1:]])"
    told = subprocess.run([str(python), "-c", script, *packages], capture_output=True, text=True, check=True)
    return dict(zip(packages, told.stdout.split(), strict=True))


def _environment(name: str, packages: tuple[str, ...], instead_of: tuple[str, str] | None = None) -> Path:
    digest = hashlib.sha256(repr((packages, instead_of, sys.version_info[:2])).encode()).hexdigest()[:8]
    folder = ENVIRONMENTS / f"{name}-{digest}"
    python, done = folder / "bin" / "python", folder / ".done"
    if done.exists():
        return python
    # Without the project's own settings of uv, which leave OpenCV out of Ultralytics.
    uv = [_uv(), "--no-config"]
    _run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
    _run([*install, *packages])
    if instead_of is not None:
        _run([*uv, "pip", "uninstall", "--quiet", "--python", str(python), instead_of[0]])
        _run([*install, instead_of[1]])
    done.touch()
    return python


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise UnavailableError("expected uv beside this Python or on the PATH, to install the peers")
    return found


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_S)
    if done.returncode:
        raise UnavailableError(f"{' '.join(argv[2:4])} failed: {done.stderr.strip()[-400:]}")
