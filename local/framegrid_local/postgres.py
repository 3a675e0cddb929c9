"""The embedded PostgreSQL: a real server on 127.0.0.1, started and stopped by us, gone when we are gone.

    with EmbeddedPostgres(Path(".framegrid/postgres")) as postgres:
        psycopg.connect(postgres.url)

Over TCP with a password (scram-sha-256), so that any BI tool on this machine can connect. The data stays in
the folder between runs, and the port too while it is free. As root the server runs under an account without
rights (see pginstall.py); when that account cannot reach the folder the data goes to /var/lib/framegrid and
the folder holds a link to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from framegrid_local import pginstall, ports
from framegrid_local.errors import PostgresError
from framegrid_local.process import Command, GuardedProcess

USER = DATABASE = "framegrid"
READY_TIMEOUT_S = 60.0  # recovery after a crash replays the log first
STOP_GRACE_S = 15.0  # a fast shutdown writes a checkpoint
POLL_S = 0.02
BIND_ATTEMPTS = 3  # a free port may be taken between our look and the server's
SYSTEM_DATA = Path("/var/lib/framegrid")
SETTINGS = {
    "listen_addresses": ports.LOOPBACK,
    "unix_socket_directories": "",  # no second way in, and no limit of 107 characters on the folder's path
    "max_connections": "60",
    "shared_buffers": "128MB",
    "wal_level": "minimal",  # nobody replicates an embedded server; bulk loads then skip the log
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "jit": "off",  # our queries are short: compiling costs more than it saves
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class EmbeddedPostgres:
    """One server for one folder. `port` 0: the last one used when free, else any free one.

    `start()` returns when the server answers and database `framegrid` is there; raises PostgresError or
    PortInUseError.
    """

    def __init__(self, data_dir: Path | str, port: int = 0) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.log_path = self.data_dir / "postgres.log"
        self.port = port
        self._asked_port = port
        self._account = pginstall.Account("")
        self._install: pginstall.PgInstall | None = None
        self._process: GuardedProcess | None = None
        self._lock: IO[str] | None = None

    @property
    def url(self) -> str:
        """Address with the password in it: for a local `psql`, never for a log."""
        return f"postgresql://{USER}:{self._password()}@{ports.LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def psql(self) -> Path:
        """The `psql` of the same installation (most machines have none)."""
        return self._programs().program("psql")

    def start(self) -> None:
        """Initialises the folder when it is new, starts the server, waits until it answers."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self.stop()  # it crashed; begin anew
        self._account = pginstall.server_account()
        self._install = pginstall.find_install(self._account)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            cluster = self._cluster_dir()
            self._initialise(cluster)
            self._clear_stale_pid(cluster / "postmaster.pid")
            self._launch(cluster)
            self._create_database()
        except BaseException:
            self.stop()
            raise

    def ready(self) -> bool:
        """Whether it accepts connections now."""
        import psycopg

        if self._process is None or self._process.poll() is not None:
            return False
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def poll(self) -> int | None:
        """Exit status of the server, or None while it runs; raises when it was never started."""
        if self._process is None:
            raise PostgresError("the embedded PostgreSQL is not started")
        return self._process.poll()

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, what is committed stays. Safe to call twice."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def destroy(self) -> None:
        """Stops the server and deletes all its data."""
        self.stop()
        _remove((self.data_dir / "cluster").resolve())
        _remove(self.data_dir)

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _programs(self) -> pginstall.PgInstall:
        if self._install is None:
            self._install = pginstall.find_install(pginstall.server_account())
        return self._install

    def _password(self) -> str:
        path = self.data_dir / "password"
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            raise PostgresError(
                f"{path} is missing, so nobody can log in; start with another state folder or delete "
                f"{self.data_dir} to begin anew (its data is lost)"
            ) from None

    def _take_lock(self) -> None:
        lock = (self.data_dir / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise PostgresError(
                f"another framegrid already runs the database in {self.data_dir}; stop it first, "
                "or give --state-dir another folder"
            ) from None
        self._lock = lock

    def _cluster_dir(self) -> Path:
        """The server's own folder, where its account can reach it."""
        cluster = self.data_dir / "cluster"
        if cluster.exists() or self._account.uid is None:
            return cluster.resolve()
        if pginstall.can_reach(self.data_dir, self._account):
            return cluster
        name = hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:16]
        SYSTEM_DATA.mkdir(mode=0o755, parents=True, exist_ok=True)
        cluster.unlink(missing_ok=True)
        target = SYSTEM_DATA / f"postgres-{name}"
        _remove(target)  # of a folder that lay here before: its password went with it
        cluster.symlink_to(target)
        return target

    def _initialise(self, cluster: Path) -> None:
        version = cluster / "PG_VERSION"
        if version.exists():
            found = version.read_text().strip()
            if found != pginstall.MAJOR_VERSION:
                raise PostgresError(
                    f"{cluster} holds data of PostgreSQL {found}, the embedded one is "
                    f"{pginstall.MAJOR_VERSION}; dump it with the old version, "
                    "or give --state-dir another folder"
                )
            return
        fresh = cluster.with_name(f"{cluster.name}.new")
        _remove(fresh)  # what an interrupted start left
        fresh.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        password_file = fresh.with_name(f"{cluster.name}.pw")
        for path in (self.data_dir / "password", password_file):
            path.unlink(missing_ok=True)
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(password + "\n")
        try:
            if self._account.uid is not None:
                for path in (fresh, password_file):
                    os.chown(path, self._account.uid, self._account.gid or -1)
            self._run_initdb(fresh, password_file)
        finally:
            password_file.unlink()
        fresh.rename(cluster)

    def _run_initdb(self, cluster: Path, password_file: Path) -> None:
        command = [str(self._programs().program("initdb")), f"--pgdata={cluster}", f"--username={USER}"]
        command += [f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
        # The builtin provider sorts the same on every machine and needs no locale installed.
        command += [
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-instructions",
        ]
        done = subprocess.run(
            command,
            user=self._account.uid,
            group=self._account.gid,
            extra_groups=None if self._account.uid is None else [],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PostgresError(
                f"initdb in {cluster} failed: {_last_line(done.stderr)}; "
                "check the disk's free space and rights, or give --database-url"
            )

    def _clear_stale_pid(self, pid_file: Path) -> None:
        """Removes a pid file whose process is gone or is another program (pids repeat in containers)."""
        deadline = time.monotonic() + STOP_GRACE_S
        while (pid := _server_pid(pid_file)) is not None:
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"a PostgreSQL server (process {pid}) of an earlier run still uses {pid_file.parent}; "
                    f"end it first: kill -INT {pid}"
                )
            time.sleep(0.1)  # an earlier run that was killed: its guard is shutting the server down
        pid_file.unlink(missing_ok=True)

    def _launch(self, cluster: Path) -> None:
        remembered = self.data_dir / "port"
        for attempt in range(BIND_ATTEMPTS):
            if self._asked_port:
                self.port = ports.require_port(self._asked_port, "embedded PostgreSQL", "--database-port")
            else:
                last = remembered.read_text().strip() if remembered.exists() and attempt == 0 else ""
                self.port = ports.free_port(int(last) if last.isdigit() else 0)
            argv = [str(self._programs().program("postgres")), "-D", str(cluster), "-p", str(self.port)]
            for name, value in SETTINGS.items():
                argv += ["-c", f"{name}={value}"]
            self._process = GuardedProcess(
                Command(
                    tuple(argv),
                    self.log_path,
                    cwd=Path("/"),
                    stop_signal="SIGINT",  # PostgreSQL's fast shutdown
                    grace_s=STOP_GRACE_S,
                    uid=self._account.uid,
                    gid=self._account.gid,
                )
            )
            if self._wait_ready(cluster / "postmaster.pid"):
                remembered.write_text(f"{self.port}\n")
                return
        raise PostgresError(f"no port on {ports.LOOPBACK} could be bound; see {self.log_path}")

    def _wait_ready(self, pid_file: Path) -> bool:
        """True when ready, False when the port was taken under us; PostgresError otherwise."""
        assert self._process is not None
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                log = self._process.log_since_start()
                if "could not bind" in log and not self._asked_port:
                    return False
                raise PostgresError(
                    f"PostgreSQL did not start: {_last_line(log)} (whole log: {self.log_path})"
                )
            with contextlib.suppress(OSError, IndexError):
                if pid_file.read_text().splitlines()[7].strip() == "ready":
                    return True
            time.sleep(POLL_S)
        raise PostgresError(
            f"PostgreSQL was not ready after {READY_TIMEOUT_S:.0f} s: "
            f"{_last_line(self._process.log_since_start())} (whole log: {self.log_path})"
        )

    def _create_database(self) -> None:
        import psycopg
        from psycopg import sql

        admin = self.url.rsplit("/", 1)[0] + "/postgres"
        try:
            with psycopg.connect(admin, autocommit=True, connect_timeout=10) as connection:
                known = connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)
                ).fetchone()
                if known is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.OperationalError as error:
            raise PostgresError(
                f"cannot log in to the embedded PostgreSQL: {_last_line(str(error))}"
            ) from error


def _server_pid(pid_file: Path) -> int | None:
    """The process id in the file when that process is a living PostgreSQL server of this folder."""
    try:
        lines = pid_file.read_text().splitlines()
        pid = int(lines[0])
        os.kill(pid, 0)
    except (OSError, IndexError, ValueError):
        return None
    command = _command_line(pid)
    return pid if "postgres" in command and str(pid_file.parent) in command else None


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # no /proc: macOS
        ps = ["ps", "-o", "args=", "-p", str(pid)]
        return subprocess.run(ps, capture_output=True, text=True, check=False).stdout


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
