"""Real servers that bundles come from: moto's S3 and an MLflow registry, both from PyPI.

They lie in ~/.cache/framegrid/bundle-servers-… (a minute, 1 GB), in a virtual environment of their own:
MLflow's server wants other versions of much that we use. Delete the folder to have it installed anew.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from framegrid_local.process import Command, GuardedProcess

PACKAGES = ("moto[s3,server]==5.2.5", "mlflow==3.17.2")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "framegrid"
HOME = CACHE / "bundle-servers-moto-5.2.5-mlflow-3.17.2"
READY_TIMEOUT_S = 300.0  # MLflow imports half of PyPI


def install() -> Path:
    """The folder of their programs; installed when it is not there yet, by one process at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{HOME.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = HOME / "installed"
        if not done.exists():
            print(f"Installing {' and '.join(PACKAGES)} into {HOME}; once, a minute or more", file=sys.stderr)
            shutil.rmtree(HOME, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
            python = HOME / "bin" / "python"
            pip = [str(python), "-m", "pip", "install", "--quiet"]
            if uv := shutil.which("uv"):
                pip = [uv, "pip", "install", "--quiet", "--python", str(python)]
            subprocess.run([*pip, *PACKAGES], check=True)
            done.touch()
    return HOME / "bin"


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    """Moto's S3 server; gives its URL. Any key and secret are right."""
    port = _free_port()
    argv = [str(install() / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with _running("moto", argv, folder, f"http://127.0.0.1:{port}/"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def mlflow(folder: Path) -> Iterator[str]:
    """An MLflow server with everything in `folder`; gives its URL."""
    port = _free_port()
    argv = [str(install() / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    argv += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"]
    with _running("mlflow", argv, folder, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(name: str, argv: Sequence[str], folder: Path, ready_url: str) -> Iterator[None]:
    log = folder / f"{name}.log"
    environment = {
        "PATH": f"{HOME / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    process = GuardedProcess(Command(tuple(argv), log, env=environment))
    try:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not _answers(ready_url):
            if time.monotonic() > deadline_s or process.poll() is not None:
                raise RuntimeError(f"{name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        process.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5.0):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
