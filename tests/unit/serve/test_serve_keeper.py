"""The keeper: what makes it deploy, what it says, what it leaves alone."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from framegrid_serve.keeper import (
    REFUSED_RETRY_S,
    Application,
    DashboardHead,
    Keeper,
    RefusedError,
    UnreachableError,
)

CONFIG = "applications:\n  - {name: framegrid, import_path: framegrid_serve.app:build_app}\n"
OTHER = CONFIG.replace("}", ", args: {engine: onnxruntime}}")


class FakeHead:
    """Remembers what was deployed, as Ray does: with defaults filled in."""

    def __init__(self) -> None:
        self.live: dict[str, Application] = {}
        self.deployments = 0
        self.fault: Exception | None = None
        self.refuses = False

    def applications(self) -> dict[str, Application]:
        if self.fault:
            raise self.fault
        return self.live

    def deploy(self, config: dict[str, Any]) -> None:
        self.deployments += 1
        if self.refuses:
            raise RefusedError("status 400: ValidationError: no such key")
        self.live = {
            app["name"]: Application("DEPLOYING", "", {"route_prefix": "/", **app})
            for app in config["applications"]
        }


@pytest.fixture
def head() -> FakeHead:
    return FakeHead()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text(CONFIG)
    return path


def steps(keeper: Keeper, count: int = 5, start_s: float = 0.0) -> None:
    for second in range(count):
        keeper.step(start_s + second)


def test_deploys_once_when_the_head_is_empty(config: Path, head: FakeHead) -> None:
    steps(Keeper(config, head))
    assert head.deployments == 1
    assert list(head.live) == ["framegrid"]


def test_deploys_once_more_after_its_own_restart_and_then_rests(config: Path, head: FakeHead) -> None:
    steps(Keeper(config, head))
    steps(Keeper(config, head))
    assert head.deployments == 2


def test_deploys_again_when_the_head_came_back_without_its_memory(config: Path, head: FakeHead) -> None:
    keeper = Keeper(config, head)
    steps(keeper)
    head.fault = UnreachableError("connection refused")
    steps(keeper)
    head.fault, head.live = None, {}
    steps(keeper)
    assert head.deployments == 2


def test_deploys_a_changed_file(config: Path, head: FakeHead) -> None:
    keeper = Keeper(config, head)
    steps(keeper)
    config.write_text(OTHER)
    steps(keeper)
    assert head.deployments == 2
    assert head.live["framegrid"].config is not None
    assert head.live["framegrid"].config["args"] == {"engine": "onnxruntime"}


def test_puts_back_what_somebody_else_changed(config: Path, head: FakeHead) -> None:
    keeper = Keeper(config, head)
    steps(keeper)
    head.live["framegrid"] = Application("RUNNING", "", {"import_path": "somebody:elses"})
    steps(keeper)
    assert head.deployments == 2


def test_a_change_of_state_alone_deploys_nothing(config: Path, head: FakeHead) -> None:
    keeper = Keeper(config, head)
    steps(keeper)
    before = head.live["framegrid"]
    for status in ("RUNNING", "UNHEALTHY", "DEPLOY_FAILED"):
        head.live = {"framegrid": Application(status, "why", before.config)}
        steps(keeper)
    assert head.deployments == 1


@pytest.mark.parametrize(
    "broken", ["applications: [", "[]", "applications: []", "applications: [{import_path: a:b}]", ""]
)
def test_a_broken_file_changes_nothing_and_is_told_once(
    config: Path, head: FakeHead, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(config, head)
    steps(keeper)
    config.write_text(broken)
    with caplog.at_level(logging.INFO, logger="framegrid_serve.keeper"):
        steps(keeper)
    assert head.deployments == 1
    told = [record for record in caplog.records if "stays as it is" in record.message]
    assert len(told) == 1


def test_a_refused_config_is_tried_again_after_a_while_but_a_new_file_at_once(
    config: Path, head: FakeHead, caplog: pytest.LogCaptureFixture
) -> None:
    head.refuses = True
    keeper = Keeper(config, head)
    steps(keeper)
    assert head.deployments == 1
    assert "refused the config: status 400: ValidationError: no such key" in caplog.text
    keeper.step(REFUSED_RETRY_S)
    assert head.deployments == 2
    head.refuses = False
    config.write_text(OTHER)
    keeper.step(REFUSED_RETRY_S + 1)
    assert head.deployments == 3


def test_tells_each_state_once_with_the_reason_of_a_failure(
    config: Path, head: FakeHead, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(config, head)
    steps(keeper, 1)
    traceback = "Traceback:\n  File x\nframegrid_serve.errors.ModelError: street-sim: no such folder\n"
    head.live = {"framegrid": Application("DEPLOY_FAILED", traceback, None)}
    with caplog.at_level(logging.INFO, logger="framegrid_serve.keeper"):
        steps(keeper)
    told = [r.getMessage() for r in caplog.records if "is DEPLOY_FAILED" in r.getMessage()]
    assert told == [
        "framegrid is DEPLOY_FAILED: framegrid_serve.errors.ModelError: street-sim: no such folder"
    ]


class Dashboard(BaseHTTPRequestHandler):
    """Ray's REST API, as far as the keeper uses it."""

    stored: ClassVar[dict[str, Any]] = {}
    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append(("GET", self.headers.get("Authorization")))
        apps = {
            name: {"status": "RUNNING", "message": "", "deployed_app_config": app}
            for name, app in self.stored.items()
        }
        self._answer(200, json.dumps({"applications": apps}))

    def do_PUT(self) -> None:
        self.seen.append(("PUT", self.headers.get("Authorization")))
        config = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if any(not app["import_path"].count(":") for app in config["applications"]):
            self._answer(400, "Traceback\nValueError: import_path is wrong")
            return
        self.stored.update({app["name"]: app for app in config["applications"]})
        self._answer(200, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def dashboard() -> Iterator[str]:
    Dashboard.stored, Dashboard.seen = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_speaks_ray_s_rest_api_with_the_token(dashboard: str, config: Path) -> None:
    steps(Keeper(config, DashboardHead(dashboard, "s3cret")), 3)
    assert Dashboard.stored["framegrid"]["import_path"] == "framegrid_serve.app:build_app"
    assert [method for method, _ in Dashboard.seen] == ["GET", "PUT", "GET", "GET"]
    assert {token for _, token in Dashboard.seen} == {"Bearer s3cret"}


def test_a_refusal_carries_ray_s_reason(dashboard: str) -> None:
    with pytest.raises(RefusedError, match="status 400: ValueError: import_path is wrong"):
        DashboardHead(dashboard).deploy({"applications": [{"name": "a", "import_path": "nothing"}]})


def test_a_head_that_is_away_is_unreachable() -> None:
    with pytest.raises(UnreachableError):
        DashboardHead("http://127.0.0.1:1").applications()
