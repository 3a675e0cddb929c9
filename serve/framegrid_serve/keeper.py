"""`python -m framegrid_serve.keeper --config FILE`: keeps a Serve config deployed where no operator does.

It runs beside Ray's head and asks it once a second. It deploys when it starts, when the file changes, when an
application is missing (a head that came back without its memory) or when somebody deployed something else.
Every change of an application's state is one line, with the reason when it failed. Deploying the same
config again does nothing, so two keepers do no harm.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

logger = logging.getLogger("framegrid_serve.keeper")

POLL_S = 1.0
REQUEST_TIMEOUT_S = 10.0
# The first deployment starts Serve itself, which takes tens of seconds on a busy node.
DEPLOY_TIMEOUT_S = 60.0
# A config that Ray refuses will be refused again; the file's next change is tried at once.
REFUSED_RETRY_S = 30.0
_MAX_REASON = 400

Config = dict[str, Any]


class UnreachableError(Exception):
    """The head does not answer (yet)."""


class RefusedError(Exception):
    """The head answered, and did not take the config."""


@dataclass(frozen=True, slots=True)
class Application:
    """What the head says about one application."""

    status: str
    message: str
    config: Config | None


class Head(Protocol):
    """A Ray head, as far as the keeper needs it. Both methods raise UnreachableError or RefusedError."""

    def applications(self) -> dict[str, Application]: ...

    def deploy(self, config: Config) -> None: ...


class DashboardHead:
    """The REST API of Ray's dashboard."""

    def __init__(self, address: str, token: str = "") -> None:
        self._url = address.rstrip("/") + "/api/serve/applications/"
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def applications(self) -> dict[str, Application]:
        answer = self._request("GET", None)
        return {
            name: Application(
                str(entry.get("status", "")), str(entry.get("message", "")), entry.get("deployed_app_config")
            )
            for name, entry in (json.loads(answer or b"{}").get("applications") or {}).items()
        }

    def deploy(self, config: Config) -> None:
        self._request("PUT", json.dumps(config).encode(), DEPLOY_TIMEOUT_S)

    def _request(self, method: str, body: bytes | None, timeout_s: float = REQUEST_TIMEOUT_S) -> bytes:
        request = urllib.request.Request(self._url, data=body, method=method, headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                content: bytes = response.read()
                return content
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            if error.code >= 500 and method == "GET":  # the dashboard is up before what it asks
                raise UnreachableError(reason_of(text) or f"status {error.code}") from None
            raise RefusedError(f"status {error.code}: {reason_of(text)}") from None
        except (OSError, ValueError) as error:
            raise UnreachableError(str(error) or type(error).__name__) from None


class Keeper:
    """One config file, one head. Call `step` again and again; it never raises."""

    def __init__(self, path: Path, head: Head) -> None:
        self._path = path
        self._head = head
        self._deployed_text = ""
        self._refused_text = ""
        self._retry_at_s = 0.0
        self._deployed_configs: dict[str, Config | None] | None = None
        self._said: dict[str, str] = {}

    def step(self, now_s: float) -> None:
        """Look once; deploy if that is needed. `now_s` is a monotonic clock's."""
        try:
            text = self._path.read_text(encoding="utf-8")
            config = parse_config(text)
        except (OSError, ValueError) as error:
            self._say("config", f"{self._path}: {error}; what runs stays as it is")
            return
        self._say("config", "")
        try:
            live = self._head.applications()
            self._say("head", "")
            self._tell(live)
            why = self._why_deploy(text, config, live)
            if not why or (text == self._refused_text and now_s < self._retry_at_s):
                return
            logger.info("deploying %s: %s", ", ".join(names_of(config)), why)
            self._head.deploy(config)
        except UnreachableError as error:
            self._say("head", f"the head does not answer: {error}")
        except RefusedError as error:
            self._refused_text, self._retry_at_s = text, now_s + REFUSED_RETRY_S
            self._say("head", f"the head refused the config: {error}")
        else:
            self._deployed_text, self._refused_text = text, ""
            self._deployed_configs = None

    def _why_deploy(self, text: str, config: Config, live: dict[str, Application]) -> str:
        missing = [name for name in names_of(config) if name not in live]
        if missing:
            return f"{', '.join(missing)} is not there"
        if text != self._deployed_text:
            return "the config is new"
        found = {name: application.config for name, application in live.items()}
        if None in found.values():  # Ray is still taking it in
            return ""
        if self._deployed_configs is None:  # as Ray writes down what we deployed
            self._deployed_configs = found
        return "" if found == self._deployed_configs else "somebody deployed something else"

    def _tell(self, live: dict[str, Application]) -> None:
        for name, application in live.items():
            reason = reason_of(application.message) if application.status != "RUNNING" else ""
            self._say(
                f"app {name}", f"{name} is {application.status}" + (f": {reason}" if reason else ""), "info"
            )
        for gone in [key for key in self._said if key.startswith("app ") and key[4:] not in live]:
            del self._said[gone]

    def _say(self, about: str, sentence: str, level: str = "warning") -> None:
        """Log a sentence once, until it changes."""
        if self._said.get(about, "") != sentence:
            self._said[about] = sentence
            if sentence:
                logger.log(logging.INFO if level == "info" else logging.WARNING, "%s", sentence)


def parse_config(text: str) -> Config:
    """A Serve config with at least one named application. Raises ValueError."""
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not readable as YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(config, dict) or not isinstance(config.get("applications"), list):
        raise ValueError("expected a Serve config with a list `applications`, got something else")
    if not names_of(config):
        raise ValueError("expected one application or more with a name, got none")
    return config


def names_of(config: Config) -> list[str]:
    """The applications' names."""
    return [str(app["name"]) for app in config["applications"] if isinstance(app, dict) and app.get("name")]


def reason_of(message: str) -> str:
    """One line that says what went wrong: Ray puts a whole traceback there."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = [line for line in lines if "Error:" in line]
    return (told or lines or [""])[-1][:_MAX_REASON]


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m framegrid_serve.keeper", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="Serve config (YAML), read again and again"
    )
    parser.add_argument("--address", default="http://127.0.0.1:8265", help="of Ray's dashboard")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    keeper = Keeper(arguments.config, DashboardHead(arguments.address, os.environ.get("RAY_AUTH_TOKEN", "")))
    while not stop.is_set():
        keeper.step(time.monotonic())
        stop.wait(POLL_S)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
