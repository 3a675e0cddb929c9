"""What the images promise, read from their Dockerfiles and from the lock; nothing is built or fetched."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.rendering import CHART, ROOT
from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

tomllib = pytest.importorskip("tomllib", reason="reads TOML with Python 3.11 or newer")

DOCKERFILES = sorted(p for p in ROOT.glob("*/*Dockerfile"))
PYTHON_IMAGES = [p for p in DOCKERFILES if "PYTHON_IMAGE" in p.read_text()]
EXTRAS = ["serve", "ingest", "dashboards", "sim"]
TORCH = {"torch", "ultralytics", "torchvision", "nncf"}


def identifier(path: Path) -> str:
    return str(path.relative_to(ROOT))


def packages() -> dict[str, dict[str, Any]]:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    return {package["name"]: package for package in lock["package"]}


def closure(extra: str, machine: str) -> Iterator[dict[str, Any]]:
    """Every package that the image of `extra` installs on Linux `machine`."""
    environment = {
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "python_version": "3.11",
        "python_full_version": "3.11.9",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    known = packages()
    waiting = [("framegrid", (extra,))]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extras = waiting.pop()
        package = known[name]
        groups = [package.get("dependencies", [])]
        groups += [package.get("optional-dependencies", {}).get(one, []) for one in extras]
        for dependency in (d for group in groups for d in group):
            if "marker" in dependency and not Marker(dependency["marker"]).evaluate(environment):
                continue
            wanted = tuple(dependency.get("extra", ()))
            if (key := (dependency["name"], ",".join(wanted))) in seen:
                continue
            seen.add(key)
            waiting.append((dependency["name"], wanted))
            if dependency["name"] != "framegrid":
                yield known[dependency["name"]]


def fits(url: str, machine: str) -> bool:
    """Whether CPython 3.11 on Debian 12 (glibc 2.36) takes that wheel."""
    for tag in parse_wheel_filename(url.rpartition("/")[2])[3]:
        stable = tag.abi == "abi3" and tag.interpreter.startswith("cp3") and int(tag.interpreter[3:]) <= 11
        is_python = tag.interpreter in ("cp311", "py3") or stable
        glibc = re.fullmatch(rf"manylinux_2_(\d+)_{machine}|manylinux(2014|2010|1)_{machine}", tag.platform)
        if is_python and (tag.platform == "any" or (glibc and int(glibc[1] or 0) <= 36)):
            return True
    return False


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"], ids=["amd64", "arm64"])
@pytest.mark.parametrize("extra", EXTRAS)
def test_every_package_of_an_image_is_a_ready_wheel(extra: str, machine: str) -> None:
    found = list(closure(extra, machine))
    assert len(found) > 8
    lacking = [p["name"] for p in found if not any(fits(w["url"], machine) for w in p.get("wheels", []))]
    assert lacking == []


@pytest.mark.parametrize("extra", EXTRAS)
def test_no_image_that_serves_holds_torch(extra: str) -> None:
    assert not TORCH & {package["name"] for package in closure(extra, "x86_64")}


def test_every_wheel_of_the_lock_has_a_digest() -> None:
    assert all(
        wheel["hash"].startswith("sha256:")
        for package in packages().values()
        for wheel in package.get("wheels", [])
    )


@pytest.mark.parametrize("path", DOCKERFILES, ids=identifier)
def test_an_image_runs_as_an_ordinary_user_and_its_base_can_be_chosen(path: Path) -> None:
    text = path.read_text()
    stages = re.findall(r"^FROM (\S+)", text, re.M)
    assert set(stages) <= {"${PYTHON_IMAGE}", "${DEBIAN_IMAGE}"}
    assert re.findall(r"^USER (\S+)", text, re.M)[-1] == "10001"
    assert not re.search(r"gcc|build-essential|python3-dev", text)


@pytest.mark.parametrize("path", PYTHON_IMAGES, ids=identifier)
def test_a_python_image_is_built_from_the_lock_and_keeps_the_builder_out(path: Path) -> None:
    builder, final = path.read_text().split("\nFROM ${PYTHON_IMAGE}\n")
    assert "uv sync --frozen --no-build --no-install-project" in builder
    assert "uv" not in re.findall(r"\w+", final)
    assert "COPY --from=build /opt/framegrid /opt/framegrid" in final


def test_what_an_image_copies_is_in_the_build_context() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in DOCKERFILES:
        for sources in re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", path.read_text(), re.M):
            for source in sources.split():
                assert any(source.startswith(entry) for entry in allowed), f"{path}: {source}"
                assert list(ROOT.glob(source)), f"{path}: {source}"


def test_the_list_of_images_is_that_of_the_chart() -> None:
    listed = subprocess.run(
        [ROOT / "k8s" / "images", "list"], capture_output=True, text=True, check=True
    ).stdout
    text = (CHART / "values.yaml").read_text()
    wanted = set(re.findall(r"repository: (framegrid-\w+)", text))
    assert {line.rpartition("/")[2].partition(":")[0] for line in listed.splitlines()} == wanted


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "workflows").glob("*.yaml")), ids=lambda p: p.stem
)
def test_a_workflow_calls_what_is_there(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    steps = [s for job in workflow["jobs"].values() for s in job.get("steps", []) if "run" in s]
    commands = "\n".join(step["run"] for step in steps)
    assert set(re.findall(r"\bmake ([a-z-]+)", commands)) <= targets
    for script in re.findall(r"(?:^|sh )((?:k8s|\.ci)/\w+)", commands, re.M):
        assert (ROOT / script).is_file(), script
    assert "timeout-minutes" in str(workflow)
    assert workflow["permissions"]["contents"] == "read"
