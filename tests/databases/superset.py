"""A real Apache Superset from PyPI: installed once, started with a folder of its own, used by its REST API.

It lies in ~/.cache/framegrid/superset-VERSION (a minute, 800 MB), in a virtual environment of its own: it
wants an older SQLAlchemy than ours. Delete the folder to have it installed anew.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from databases.timescale import CACHE
from framegrid_local import ports
from framegrid_local.process import Command, GuardedProcess

VERSION = "6.1.0"
# As released it asks for too little: rich and cachetools are missing, flask-caching and cachelib too new.
PACKAGES = (
    f"apache-superset=={VERSION}",
    "rich",
    "cachetools",
    "flask-caching==2.3.1",
    "cachelib<0.14",
    "psycopg2-binary",
)
HOME = CACHE / f"superset-{VERSION}"
READY_TIMEOUT_S = 180.0
ADMIN = "admin"
METADATA = "superset.db"


def missing() -> str:
    """Why it cannot be tried; empty when it can."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        return f"Superset {VERSION} needs Python 3.10 to 3.12, this is {sys.version.split()[0]}"
    return ""


def install() -> Path:
    """Its program; installed when it is not there yet, by one process at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{HOME.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = HOME / "installed"
        if not done.exists():
            print(f"Installing Superset {VERSION} into {HOME}; once, a minute or more", file=sys.stderr)
            shutil.rmtree(HOME, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
            python = HOME / "bin" / "python"
            pip = [str(python), "-m", "pip", "install", "--quiet"]
            if uv := shutil.which("uv"):
                pip = [uv, "pip", "install", "--quiet", "--python", str(python)]
            subprocess.run([*pip, *PACKAGES], check=True)
            # Its own tables and permissions take longer than all tests: made once, copied for each run.
            environment = _configure(HOME)
            _superset(environment, "db", "upgrade")
            _superset(environment, "init")
            done.touch()
    return HOME / "bin" / "superset"


def _configure(folder: Path) -> dict[str, str]:
    """Write a configuration with its metadata in the folder; returns the environment that names it."""
    config = folder / "superset_config.py"
    config.write_text(
        f"SECRET_KEY = {secrets.token_urlsafe(32)!r}\n"
        f"SQLALCHEMY_DATABASE_URI = {'sqlite:///' + str(folder / METADATA)!r}\n"
        "WTF_CSRF_ENABLED = False\nTALISMAN_ENABLED = False\n"
    )
    return {"FLASK_APP": "superset", "SUPERSET_CONFIG_PATH": str(config), "SUPERSET_HOME": str(folder)}


def _superset(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [str(HOME / "bin" / "superset"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"superset {arguments[0]}: {(done.stdout + done.stderr)[-2000:]}"


class Superset:
    """One running Superset with its own SQLite metadata; `api` speaks to it as its administrator."""

    def __init__(self, folder: Path) -> None:
        self._program = install()
        self._folder = folder
        self._port = ports.free_port()
        self._password = secrets.token_urlsafe(16)
        self._process: GuardedProcess | None = None
        self._environment = _configure(folder)
        self.api = httpx.Client(base_url=f"http://{ports.LOOPBACK}:{self._port}/api/v1", timeout=120)

    def __enter__(self) -> Superset:
        try:
            shutil.copyfile(HOME / METADATA, self._folder / METADATA)
            who = ["--username", ADMIN, "--password", self._password, "--email", "admin@example.org"]
            who += ["--firstname", "Ad", "--lastname", "Min"]
            _superset(self._environment, "fab", "create-admin", *who)
            argv = (str(self._program), "run", "-h", ports.LOOPBACK, "-p", str(self._port))
            self._process = GuardedProcess(
                Command((*argv, "--with-threads"), self._folder / "superset.log", env=self._environment)
            )
            self._wait_ready()
            self._log_in()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        self.api.close()
        if self._process is not None:
            self._process.stop()

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a POST; an AssertionError with what Superset said when it is not a good one."""
        answer = self.api.post(path, json=body)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:1000]}"
        found: dict[str, Any] = answer.json()
        return found

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self._process is not None and self._process.poll() is None, self._log()
            try:
                if httpx.get(f"http://{ports.LOOPBACK}:{self._port}/health", timeout=10).text == "OK":
                    return
            except httpx.TransportError:
                time.sleep(0.3)
        raise AssertionError(f"Superset was not healthy after {READY_TIMEOUT_S:.0f} s: {self._log()}")

    def _log_in(self) -> None:
        who = {"username": ADMIN, "password": self._password, "provider": "db", "refresh": True}
        token = self.post("/security/login", who)["access_token"]
        self.api.headers["Authorization"] = f"Bearer {token}"

    def _log(self) -> str:
        return self._process.log_since_start()[-2000:] if self._process else ""
