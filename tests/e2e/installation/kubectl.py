"""kubectl and helm on the test cluster, as a user types them; answers as Python values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

REPOSITORY = Path(__file__).resolve().parents[3]
CLUSTER = REPOSITORY / "tests/e2e/cluster"
HOME = Path(os.environ.get("FRAMEGRID_CLUSTER_HOME") or "~/.cache/framegrid/cluster").expanduser()
ENVIRONMENT = os.environ | {
    "KUBECONFIG": str(HOME / "kubeconfig"),
    "PATH": f"{HOME / 'bin'}:{os.environ['PATH']}",
    # Helm keeps nothing outside of the cluster's home.
    "HELM_CACHE_HOME": str(HOME / "helm/cache"),
    "HELM_CONFIG_HOME": str(HOME / "helm/config"),
    "HELM_DATA_HOME": str(HOME / "helm/data"),
}
Value = TypeVar("Value")


class CommandError(AssertionError):
    """A command that failed, with what it said."""


def run(*command: str, stdin: str | None = None, timeout_s: float = 600) -> str:
    """Run a command against the cluster; returns its output. Raises CommandError with all that it said."""
    done = subprocess.run(
        command, input=stdin, env=ENVIRONMENT, text=True, capture_output=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise CommandError(f"{' '.join(command)}: exit {done.returncode}\n{said}")
    return done.stdout


def kubectl(*args: str, stdin: str | None = None) -> str:
    return run("kubectl", *args, stdin=stdin)


def helm(*args: str, timeout_s: float = 900) -> str:
    return run("helm", *args, timeout_s=timeout_s)


def cluster(*args: str) -> None:
    """Run a verb of tests/e2e/cluster; what it prints goes to the log, not among results."""
    subprocess.run([sys.executable, str(CLUSTER), *args], check=True, stdout=sys.stderr)


def get(kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
    """Objects of a kind, those being deleted included."""
    selected = ["--selector", selector] if selector else []
    answer = kubectl("-n", namespace, "get", kind, *selected, "-o", "json")
    items: list[dict[str, Any]] = json.loads(answer)["items"]
    return items


def get_one(kind: str, namespace: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("-n", namespace, "get", kind, name, "-o", "json"))
    return found


def wait_until(what: str, look: Callable[[], Value | None], within_s: float, every_s: float = 0.5) -> Value:
    """The first true answer of `look`. Raises AssertionError with the last answer otherwise."""
    deadline = time.monotonic() + within_s
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"expected {what} within {within_s:.0f} s, got {answer!r}")
        time.sleep(every_s)
