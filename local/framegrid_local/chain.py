"""The whole chain on one machine: database, Serve, ingest and the page, wired together.

`demo` and `up` differ in their cameras alone. Everything that a child is told is written to the state
folder, so that a run can be looked at and repeated by hand.
"""

from __future__ import annotations

import secrets
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml

from framegrid_local import health, machine, ports
from framegrid_local.errors import ChildFailedError
from framegrid_local.postgres import EmbeddedPostgres
from framegrid_local.process import Command
from framegrid_local.state import StateDir
from framegrid_local.supervisor import Event, ProcessService, Service, Supervisor

PAGE_SCRIPT = Path(__file__).parents[2] / "dashboards" / "streamlit" / "app.py"
USUAL_PAGE_PORT = 8501  # Streamlit's own; kept while it is free, so that a bookmark works
DATABASE_VARIABLE = "FRAMEGRID_DATABASE_URL"
READER_ROLE = "bi"
# Ray's first start on a slow disk reads some hundred megabytes of Python.
SERVE_READY_S = 180.0
INGEST_READY_S = 30.0
PAGE_READY_S = 60.0
# Ingest drains and flushes; Ray ends its replicas and daemons.
INGEST_GRACE_S = 20.0
SERVE_GRACE_S = 30.0
PAGE_GRACE_S = 5.0
VIDEOS_READY_S = 60.0
VIDEOS_GRACE_S = 8.0
STOP_ORDER = ("page", "videos", "ingest", "serve")


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """What the user chose. Port 0: any free one; replicas 0: as many as the machine has room for."""

    state_dir: Path
    database_url: str = ""
    database_port: int = 0
    page: bool = True
    page_port: int = 0
    replicas: int = 0
    max_replicas: int = 0  # 0: a fixed number


@dataclass(frozen=True, slots=True)
class Workload:
    """What to run: the cameras, the model bundles that they name, the length of a stored interval."""

    cameras_path: Path
    models: Mapping[str, Path]
    default_model: str
    interval_s: float = 1.0
    extra: Mapping[str, Service] = field(default_factory=dict)  # started before ingest, e.g. the simulator


class Chain:
    """Start it, look at it, stop it.

    `on_event` hears what the supervisor does; `cancel` breaks off a start with StopRequestedError.
    """

    def __init__(
        self,
        settings: ChainSettings,
        state: StateDir,
        workload: Workload,
        on_event: Callable[[Event], None],
        *,
        cancel: threading.Event | None = None,
    ) -> None:
        self.settings = settings
        self.state = state
        self.workload = workload
        self.replicas = settings.replicas or machine.default_replicas()
        self.database_url = settings.database_url
        self.bi_url = ""
        """Readers' address: of the embedded database alone, as another one has passwords of its own."""
        self.postgres: EmbeddedPostgres | None = None
        self.serve_port = ports.free_port()
        self.ingest_port = ports.free_port()
        self.page_port = 0
        self._videos_port = ports.free_port() if settings.page else 0
        self._supervisor = Supervisor(on_event, cancel)
        self._serve: ProcessService | None = None

    @property
    def page_address(self) -> str:
        """Where to point a browser; empty without the page."""
        return f"http://{ports.LOOPBACK}:{self.page_port}" if self.page_port else ""

    @property
    def serve_address(self) -> str:
        """Serve's HTTP API, and the page where pictures and videos are uploaded."""
        return f"http://{ports.LOOPBACK}:{self.serve_port}"

    def start(self) -> None:
        """Starts the database, Serve and the extra services; returns when they are ready.

        Raises LocalError; whatever was started is then stopped by stop().
        """
        if self.settings.page and PAGE_SCRIPT.exists():
            asked = self.settings.page_port
            self.page_port = (
                ports.require_port(asked, "page", "--page-port")
                if asked
                else ports.free_port(USUAL_PAGE_PORT)
            )
        if self.database_url:
            self._upgrade()  # a wrong address is said before anything else is started
        self._start_serve()
        for name, service in self.workload.extra.items():
            self._supervisor.start(name, service)
        if not self.database_url:
            self._start_database()
            self._upgrade()
            self._let_readers_in()
        self._supervisor.wait_ready(*self.workload.extra, "serve")

    def start_ingest(self) -> None:
        """Opens the cameras of the workload's file, and begins to start the page. Raises LocalError."""
        self._supervisor.start("ingest", self._ingest())
        self._supervisor.wait_ready("ingest")
        if self.page_port:  # only now: frames should not wait for it on a machine with few cores
            self._supervisor.start("page", self._page())
        if self._videos_port:
            self._supervisor.start("videos", self._videos())

    def wait_page(self) -> str:
        """Until the page answers: empty then, else why there is none (the counts do not need it)."""
        if self.page_port:
            try:
                self._supervisor.wait_ready("page")
            except ChildFailedError as error:
                self.page_port = 0
                return str(error)
        return ""

    def stop_ingest(self) -> None:
        """Stops the cameras and flushes what they counted; the rest goes on."""
        self._supervisor.stop_one("ingest")

    def stop(self) -> None:
        """Stops everything, writers before what they write to. Safe to call twice."""
        self._supervisor.stop((*STOP_ORDER, *self.workload.extra, "database"))
        self.state.database_url_file.unlink(missing_ok=True)
        self.state.bi_url_file.unlink(missing_ok=True)

    def restarts(self) -> dict[str, int]:
        """How often each part crashed and was started again."""
        return self._supervisor.restarts()

    def status(self) -> dict[str, Any] | None:
        """What ingest says about each camera; None while it does not answer."""
        answer = health.get_json(self.ingest_port, "/status")
        return answer if isinstance(answer, dict) else None

    def set_models(self, models: Mapping[str, Path], default_model: str) -> None:
        """Gives serve another set of models, while it runs."""
        self._write_serve_config(models, default_model)
        if self._serve is not None:
            self._serve.send_signal(signal.SIGHUP)

    def _start_serve(self) -> None:
        config = self._write_serve_config(self.workload.models, self.workload.default_model)
        self._serve = ProcessService(
            "serve",
            Command(
                (sys.executable, "-m", "framegrid_serve", "--config", str(config)),
                self.state.logs / "serve.log",
                grace_s=SERVE_GRACE_S,
            ),
            health.answers(self.serve_port, "/healthz"),
            SERVE_READY_S,
        )
        self._supervisor.start("serve", self._serve)

    def _start_database(self) -> None:
        self.postgres = EmbeddedPostgres(self.state.postgres, self.settings.database_port)
        self._supervisor.start("database", self.postgres)
        self._supervisor.wait_ready("database")
        self.database_url = self.postgres.url

    def _upgrade(self) -> None:
        self.state.write_private(self.state.database_url_file, self.database_url + "\n")
        from framegrid_store.migrate import upgrade

        upgrade(self.database_url)

    def _let_readers_in(self) -> None:
        """Gives role bi a password of its own, new at every start, and writes its address down."""
        from framegrid_store.logins import set_password

        password = secrets.token_urlsafe(18)
        set_password(self.database_url, READER_ROLE, password)
        parts = urlsplit(self.database_url)
        address = parts.netloc.rpartition("@")[2]
        self.bi_url = urlunsplit(parts._replace(netloc=f"{READER_ROLE}:{password}@{address}"))
        self.state.write_private(self.state.bi_url_file, self.bi_url + "\n")

    def _write_serve_config(self, models: Mapping[str, Path], default_model: str) -> Path:
        config: dict[str, Any] = {
            "http_host": ports.LOOPBACK,
            "http_port": self.serve_port,
            "replicas": self.replicas,
            "max_replicas": max(self.replicas, self.settings.max_replicas),
            "cpus_per_replica": 1,
            "models": [{"name": name, "path": str(path)} for name, path in models.items()],
            "default_model": default_model,
            "state_dir": str(self.state.root / "serve"),
        }
        if self._videos_port:
            config["people"] = {"videos_url": f"http://{ports.LOOPBACK}:{self._videos_port}"}
        return self._write_config("serve.yaml", config)

    def _write_config(self, name: str, config: Mapping[str, Any]) -> Path:
        return self.state.write_private(self.state.root / name, yaml.safe_dump(dict(config), sort_keys=False))

    def _ingest(self) -> ProcessService:
        config = {
            "serve_url": self.serve_address,
            "cameras": str(self.workload.cameras_path.absolute()),
            "http_port": self.ingest_port,
            "interval_s": self.workload.interval_s,
            "store_spool_dir": str(self.state.root / "spool"),
        }
        path = self._write_config("ingest.yaml", config)
        return ProcessService(
            "ingest",
            Command(
                (sys.executable, "-m", "framegrid_ingest", "--config", str(path)),
                self.state.logs / "ingest.log",
                env={DATABASE_VARIABLE: self.database_url},
                grace_s=INGEST_GRACE_S,
            ),
            health.answers(self.ingest_port, "/healthz"),
            INGEST_READY_S,
        )

    def _videos(self) -> ProcessService:
        config = {
            "serve_url": self.serve_address,
            "folder": str(self.state.root / "videos"),
            "http_port": self._videos_port,
        }
        path = self._write_config("videos.yaml", config)
        return ProcessService(
            "videos",
            Command(
                (sys.executable, "-m", "framegrid_ingest.videos", "--config", str(path)),
                self.state.logs / "videos.log",
                grace_s=VIDEOS_GRACE_S,
            ),
            health.answers(self._videos_port, "/healthz"),
            VIDEOS_READY_S,
        )

    def _page(self) -> ProcessService:
        options = {
            "server.port": self.page_port,
            "server.address": ports.LOOPBACK,
            "server.headless": "true",
            "server.fileWatcherType": "none",
            "browser.gatherUsageStats": "false",
        }
        argv = [sys.executable, "-m", "streamlit", "run", str(PAGE_SCRIPT)]
        argv += [f"--{name}={value}" for name, value in options.items()]
        return ProcessService(
            "page",
            Command(
                tuple(argv),
                self.state.logs / "page.log",
                env={DATABASE_VARIABLE: self.bi_url or self.database_url},
                grace_s=PAGE_GRACE_S,
            ),
            health.answers(self.page_port, "/_stcore/health"),
            PAGE_READY_S,
        )
