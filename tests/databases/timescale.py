"""TimescaleDB, Apache edition, as Debian trixie ships it: a real server on 127.0.0.1, in a folder of its own.

    python tests/databases/timescale.py                      # starts one, prints its URL, until Ctrl-C
    python tests/databases/timescale.py make bench           # runs a command with FRAMEGRID_TEST_DATABASE_URL

The programs are a Debian root file system made once by mmdebstrap (half a minute, 530 MB) in
~/.cache/framegrid/timescale-trixie; delete the folder to have it made anew. The server runs in it by chroot,
as Debian's account `postgres`, with no mounts. That takes root, or a sudo that asks no password.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psycopg
from framegrid_local import ports
from framegrid_local.postgres import SETTINGS as EMBEDDED_SETTINGS
from framegrid_local.process import Command, GuardedProcess

SUITE = "trixie"
PACKAGES = ("postgresql-17", "postgresql-17-timescaledb")
PROGRAMS = "/usr/lib/postgresql/17/bin"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "framegrid"
ROOT = CACHE / f"timescale-{SUITE}"
USER = DATABASE = "framegrid"
# The embedded server's settings, so that figures of the two can be compared; and what the extension asks for.
SETTINGS = {
    **EMBEDDED_SETTINGS,
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "max_worker_processes": "32",  # each database with the extension takes one for its scheduler
    "timescaledb.max_background_workers": "16",
    "max_locks_per_transaction": "256",  # one lock per chunk that a statement touches
}
READY_TIMEOUT_S = 60.0
STOP_GRACE_S = 15.0
AS_ROOT = () if os.geteuid() == 0 else ("sudo", "--non-interactive")


class TimescaleError(Exception):
    """The root file system or the server could not be made; says why."""


def missing() -> str:
    """Why this edition cannot run here; empty when it can."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    if AS_ROOT and subprocess.run([*AS_ROOT, "true"], capture_output=True, check=False).returncode != 0:
        return "needs root, or sudo without a password, for chroot"
    if not ROOT.exists() and shutil.which("mmdebstrap") is None:
        return "needs mmdebstrap (apt-get install mmdebstrap)"
    return ""


def make_root() -> Path:
    """The root file system, made when it is not there yet; by one process at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{ROOT.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ROOT.exists():
            return ROOT
        fresh = ROOT.with_name(f"{ROOT.name}.new")
        _as_root("rm", "-rf", str(fresh))  # what an interrupted run left
        print(f"Making {ROOT} with mmdebstrap; once, about half a minute", file=sys.stderr, flush=True)
        _as_root(
            "mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(fresh)
        )
        _as_root("chmod", "755", str(fresh))
        _as_root("mv", str(fresh), str(ROOT))
    return ROOT


class TimescaleServer:
    """One server with its own data. The port and the data stay from `start` to `start`, until `destroy`."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        make_root()
        _remove_abandoned()
        self.settings = {**SETTINGS, **(settings or {})}
        self.port = ports.free_port()
        # The owner's pid is in the name, so that what a killed run left behind is known as such.
        self.name = f"framegrid-{os.getpid()}-{secrets.token_hex(4)}"
        self.log_path = CACHE / f"{self.name}.log"
        self._data = f"/srv/{self.name}"
        self._password = secrets.token_urlsafe(18)
        self._process: GuardedProcess | None = None

    @property
    def url(self) -> str:
        """Address of database `framegrid`, as superuser, with the password in it."""
        return f"postgresql://{USER}:{self._password}@{ports.LOOPBACK}:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Returns when it answers. Raises TimescaleError."""
        if not (ROOT / self._data.lstrip("/")).exists():
            self._initialise()
        argv = [*AS_ROOT, "chroot", "--userspec=postgres:postgres", str(ROOT), f"{PROGRAMS}/postgres"]
        argv += ["-D", self._data, "-p", str(self.port)]
        for name, value in self.settings.items():
            argv += ["-c", f"{name}={value}"]
        self._process = GuardedProcess(
            Command(tuple(argv), self.log_path, cwd=Path("/"), stop_signal="SIGINT", grace_s=STOP_GRACE_S)
        )
        self._wait_ready()

    def pid(self) -> int:
        """Process id of the server, for a test that kills or stops it."""
        return int(_in_root("head", "-n1", f"{self._data}/postmaster.pid").split()[0])

    def kill(self) -> None:
        """As a power cut does it: SIGKILL, then nothing is left running. `start` recovers."""
        _as_root("kill", "-KILL", str(self.pid()))
        self.stop()

    def stop(self) -> None:
        """Fast shutdown; the data stays. Safe to call twice."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def destroy(self) -> None:
        """Stops it and deletes its data."""
        self.stop()
        _in_root("rm", "-rf", self._data)
        self.log_path.unlink(missing_ok=True)

    def __enter__(self) -> TimescaleServer:
        try:
            self.start()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    def _initialise(self) -> None:
        _in_root("install", "-d", "-o", "postgres", "-g", "postgres", "-m", "700", self._data)
        # The password goes by a file of the account's own: an argument could be read by anybody in /proc.
        script = (
            f'umask 077; cat >"{self._data}.pw"; {PROGRAMS}/initdb --pgdata="{self._data}" --username={USER}'
            f' --pwfile="{self._data}.pw" --auth=scram-sha-256 --encoding=UTF8 --no-sync --no-instructions'
            " --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C; status=$?;"
            f' rm "{self._data}.pw"; exit $status'
        )
        _in_root("chmod", "1777", "/srv")
        _in_root("sh", "-c", script, account="postgres", typed=self._password)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        admin = self.url.rsplit("/", 1)[0] + "/postgres"
        while True:
            if self._process is None or self._process.poll() is not None:
                log = self._process.log_since_start() if self._process else ""
                raise TimescaleError(f"the server ended: {log.strip()[-500:]}")
            try:
                with psycopg.connect(admin, autocommit=True, connect_timeout=5) as connection:
                    known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                    if known.fetchone() is None:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise TimescaleError(f"not ready after {READY_TIMEOUT_S:.0f} s: {error}") from error
                time.sleep(0.05)


def _remove_abandoned() -> None:
    """Deletes the data of servers whose owner is gone."""
    for folder in (ROOT / "srv").glob("framegrid-*-*"):
        owner = int(folder.name.split("-")[1])
        if not Path(f"/proc/{owner}").exists():
            _in_root("rm", "-rf", f"/srv/{folder.name}")
            (CACHE / f"{folder.name}.log").unlink(missing_ok=True)


def _in_root(*command: str, account: str = "", typed: str = "") -> str:
    user = [f"--userspec={account}:{account}"] if account else []
    return _as_root("chroot", *user, str(ROOT), *command, typed=typed)


def _as_root(*command: str, typed: str = "") -> str:
    """Output of a command; TimescaleError with what it said when it fails."""
    done = subprocess.run(
        [*AS_ROOT, *command],
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={
            **os.environ,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C",
        },
    )
    if done.returncode != 0:
        raise TimescaleError(f"{command[0]} failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return done.stdout


def main(command: list[str]) -> int:
    """Run a server for as long as a command runs, or until Ctrl-C."""
    reason = missing()
    if reason:
        print(f"TimescaleDB Apache cannot run here: {reason}", file=sys.stderr)
        return 1
    with TimescaleServer() as server:
        if command:
            environment = {**os.environ, "FRAMEGRID_TEST_DATABASE_URL": server.url}
            return subprocess.run(command, env=environment, check=False).returncode
        print(server.url, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
