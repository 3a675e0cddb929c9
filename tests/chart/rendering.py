"""Rendering the chart with helm, without a cluster, and looking at what comes out."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "framegrid"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
KUBERNETES = "1.34.0"
RELEASE, NAMESPACE = "fg", "cameras"
OPERATORS = (
    "ray.io/v1/RayService",
    "postgresql.cnpg.io/v1/Cluster",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
)
_TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "framegrid" / "bin"
# The C parser is ten times faster, and is in every wheel of PyYAML.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_REFUSAL = re.compile(r"execution error at \([^)]*\): (.*)")

Object = dict[str, Any]


def find_tool(name: str) -> str | None:
    """On PATH, or where `make chart-tools` puts it."""
    return shutil.which(name) or shutil.which(name, path=str(_TOOLS))


class RefusedError(Exception):
    """The chart did not render; the message is what the user reads."""


@dataclass(frozen=True)
class Rendered:
    """What `helm template` made: `text`, and its objects."""

    text: str
    objects: tuple[Object, ...]

    def one(self, kind: str, name: str = "") -> Object:
        """The one object of that kind whose name ends so. Raises LookupError."""
        found = [o for o in self.of(kind) if o["metadata"]["name"].endswith(name)]
        if len(found) != 1:
            names = [f"{o['kind']}/{o['metadata']['name']}" for o in self.objects]
            raise LookupError(f"expected one {kind} …{name}, got {len(found)} among {', '.join(names)}")
        return found[0]

    def of(self, kind: str) -> list[Object]:
        """All objects of that kind."""
        return [o for o in self.objects if o["kind"] == kind]

    def pods(self) -> Iterator[tuple[str, Object]]:
        """(owner, pod spec) of all that runs, Ray's pods in a RayService too."""
        for item in self.objects:
            where = f"{item['kind']}/{item['metadata']['name']}"
            for path, spec in _pod_specs(item):
                yield where + path, spec

    def containers(self) -> Iterator[tuple[str, Object]]:
        """(owner/name, container)."""
        for where, spec in self.pods():
            for container in [*spec.get("initContainers", []), *spec["containers"]]:
                yield f"{where}/{container['name']}", container

    def serve_config(self) -> Object:
        """The Serve config, wherever the mode puts it."""
        for item in self.objects:
            if item["kind"] == "RayService":
                text = item["spec"]["serveConfigV2"]
            elif item["kind"] == "ConfigMap" and "serve.yaml" in item["data"]:
                text = item["data"]["serve.yaml"]
            else:
                continue
            loaded: Object = yaml.safe_load(text)
            return loaded
        raise LookupError("expected a Serve config, got none")


@functools.cache
def render(
    helm: str, *values: str, example: str = "", apis: tuple[str, ...] = OPERATORS, chart: Path = CHART
) -> Rendered:
    """`helm template` with `--set` of each value. Raises RefusedError with what the user reads."""
    command = [helm, "template", RELEASE, str(chart), "--namespace", NAMESPACE, "--kube-version", KUBERNETES]
    if example:
        command += ["--values", str(CHART / "examples" / f"{example}.yaml")]
    command += [part for value in values for part in ("--set", value)]
    command += [part for api in apis for part in ("--api-versions", api)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        found = _REFUSAL.search(done.stderr)
        raise RefusedError(found.group(1) if found else done.stderr.strip())
    objects = tuple(o for o in yaml.load_all(done.stdout, _Loader) if o)
    return Rendered(done.stdout, objects)


def _pod_specs(item: Object) -> Iterator[tuple[str, Object]]:
    spec = item.get("spec", {})
    if item["kind"] == "Pod":
        yield "", spec
    elif item["kind"] == "RayService":
        cluster = spec["rayClusterConfig"]
        yield "/head", cluster["headGroupSpec"]["template"]["spec"]
        for group in cluster["workerGroupSpecs"]:
            yield f"/{group['groupName']}", group["template"]["spec"]
    elif "template" in spec:
        yield "", spec["template"]["spec"]
