"""One installation of the chart on the test cluster: images, install, upgrade, pods, uninstall.

`python -m e2e.installation.release` makes the images before they are needed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.installation.kubectl import REPOSITORY, cluster, get, get_one, helm, kubectl, wait_until

CHART = REPOSITORY / "charts/framegrid"
VALUES = CHART / "examples/kind.yaml"
# Component of the chart -> folder with its Dockerfile.
IMAGES = {
    "serve": "serve",
    "database": "store",
    "ingest": "ingest",
    "dashboards": "dashboards",
    "sim": "loadtest",
}
TAG = "e2e"


def build_images(at_once: int = 2) -> dict[str, float]:
    """Build every image from its Dockerfile and load it. Returns the seconds that each took.

    Two at once: half of the time one writes layers while the other installs or compiles.
    """

    def build(component: str) -> float:
        started = time.monotonic()
        dockerfile = str(REPOSITORY / IMAGES[component] / "Dockerfile")
        cluster("build", image(component), str(REPOSITORY), "-f", dockerfile)
        return round(time.monotonic() - started, 1)

    with ThreadPoolExecutor(at_once) as workers:
        return dict(zip(IMAGES, workers.map(build, IMAGES), strict=True))


def image(component: str, tag: str = TAG) -> str:
    return f"localhost/framegrid-{component}:{tag}"


@dataclass
class Release:
    """An installation under way. Values given once stay over upgrades, as a values file of a user does."""

    namespace: str
    name: str = "framegrid"
    values: dict[str, Any] = field(default_factory=dict)  # dotted key -> value

    def install(self, wait: bool = True) -> float:
        """helm install; returns the seconds until it returned."""
        waiting = ["--wait", "--timeout=8m"] if wait else []
        started = time.monotonic()
        helm("install", self.name, str(CHART), "--create-namespace", *self.arguments(), *waiting)
        return time.monotonic() - started

    def upgrade(self, **values: Any) -> None:
        """helm upgrade with further values; `a__b=1` is a.b."""
        self.values |= {key.replace("__", "."): value for key, value in values.items()}
        helm("upgrade", self.name, str(CHART), *self.arguments(), "--wait", "--timeout=8m")

    def arguments(self) -> list[str]:
        values = {"image.tag": TAG, **self.values}
        given = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
        return ["--namespace", self.namespace, "--values", str(VALUES), *given]

    def uninstall(self) -> None:
        helm("uninstall", self.name, "--namespace", self.namespace, "--wait", "--timeout=5m")

    # -- What runs

    def selector(self, component: str) -> str:
        return f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Pods of a component that are not being deleted."""
        found = get("pods", self.namespace, self.selector(component))
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, component: str) -> list[str]:
        """Names of the Ready ones."""
        return [pod["metadata"]["name"] for pod in self.pods(component) if is_ready(pod)]

    def wait_ready(self, component: str, count: int, within_s: float) -> list[str]:
        """Returns when exactly `count` pods are there and all Ready."""

        def look() -> list[str]:
            ready = self.ready(component)
            return ready if len(ready) == len(self.pods(component)) == count else []

        return wait_until(f"{count} ready pods of {component}", look, within_s)

    def kill(self, pod: str) -> None:
        """End a pod as a dead node does: its processes get no chance to say goodbye."""
        for pid in self.processes(pod):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        kubectl("-n", self.namespace, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")

    @contextlib.contextmanager
    def frozen(self, pod: str) -> Iterator[None]:
        """All processes of a pod stand still meanwhile, as on a machine that swaps or is being moved."""
        pids = self.processes(pod)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def processes(self, pod: str) -> list[int]:
        """PIDs on this machine of a pod's processes, without the one that holds its network."""
        uid = get_one("pod", self.namespace, pod)["metadata"]["uid"]
        found = []
        for group in Path("/proc").glob("[0-9]*/cgroup"):
            with contextlib.suppress(OSError):
                command = (group.parent / "cmdline").read_bytes()
                if f"pod{uid}" in group.read_text() and not command.startswith(b"/bin/pause"):
                    found.append(int(group.parent.name))
        if not found:
            raise AssertionError(f"expected processes of pod {pod}, found none")
        return found

    def address(self, service: str) -> str:
        """ClusterIP of a Service, which this machine reaches too."""
        found = get("services", self.namespace)
        (ip,) = [s["spec"]["clusterIP"] for s in found if s["metadata"]["name"] == f"{self.name}-{service}"]
        return str(ip)

    def deployed(self) -> dict[str, Any]:
        """The detector's configuration as Ray itself tells it."""
        (head,) = self.pods("ray-head")
        secret = get_one("secret", self.namespace, f"{self.name}-ray-token")
        token = base64.b64decode(secret["data"]["auth_token"]).decode()
        url = f"http://{head['status']['podIP']}:8265/api/serve/applications/"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            application = json.load(answer)["applications"]["framegrid"]
        config: dict[str, Any] = application["deployments"]["detector"]["deployment_config"]
        return config

    def restarts(self) -> dict[str, int]:
        """Containers that were started again, and how often."""
        return {
            f"{pod['metadata']['name']}/{status['name']}": status["restartCount"]
            for pod in get("pods", self.namespace)
            for status in pod["status"].get("containerStatuses", [])
            if status["restartCount"]
        }

    def save_logs(self, folder: Path) -> None:
        """Everything that a reader of a failed run wants."""
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("pods", "events", "cameras.framegrid.io"):
            try:
                (folder / f"{kind}.txt").write_text(kubectl("-n", self.namespace, "get", kind, "-o", "wide"))
            except AssertionError as error:
                (folder / f"{kind}.txt").write_text(str(error))
        for pod in get("pods", self.namespace):
            name = pod["metadata"]["name"]
            for previous in ([], ["--previous"]):
                try:
                    text = kubectl(
                        "-n", self.namespace, "logs", name, "--all-containers", "--tail=400", *previous
                    )
                except AssertionError:
                    continue
                (folder / f"{name}{'-previous' if previous else ''}.log").write_text(text)


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


if __name__ == "__main__":
    build_images(at_once=1)
