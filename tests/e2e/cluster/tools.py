"""Installs what the cluster is made of: Debian packages, and Kubernetes' own programs built from Go modules.

What is there already is kept; programs are built again when their sources (programs/) have changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.request import urlopen

import settings as s

HELM = "helm.sh/helm/v3/cmd/helm"
METRICS_SERVER = "sigs.k8s.io/metrics-server/cmd/metrics-server"
KUBERNETES = [f"k8s.io/kubernetes/cmd/{tool}" for tool in s.KUBE_TOOLS]
# One call of `go build` each; the provisioner imports a library under a spelling of its own, so it is apart.
BUILDS = {
    "kubernetes": [*KUBERNETES, HELM, METRICS_SERVER, "./coredns", "./pause"],
    "local-path-provisioner": ["github.com/rancher/local-path-provisioner"],
}


def say(text: str) -> None:
    """Tell the user what goes on; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def missing() -> list[str]:
    """Names of packages and builds that are not there, or older than their sources."""
    packages = [
        p for p, command in s.DEBIAN_PACKAGES.items() if not shutil.which(command, path=search_path())
    ]
    builds = [name for name in [*BUILDS, "busybox"] if stamp(name) != wanted(name)]
    return [p for p in packages if not Path(s.DEBIAN_PACKAGES[p]).exists()] + builds


def install() -> None:
    """Install and build everything that is missing: minutes the first time, then nothing.

    Waits for another process that does so.
    """
    s.BIN.mkdir(parents=True, exist_ok=True)
    with alone("install"):
        install_missing()


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """Wait for other processes that do the same."""
    s.CACHE.mkdir(parents=True, exist_ok=True)
    with (s.CACHE / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install_missing() -> None:
    lacking = missing()
    if packages := [p for p in s.DEBIAN_PACKAGES if p in lacking]:
        timed(f"apt-get install {' '.join(packages)}", lambda: install_packages(packages))
    steps: dict[str, Callable[[], None]] = {
        **{name: lambda name=name: build(BUILDS[name]) for name in BUILDS},  # type: ignore[misc]
        "busybox": extract_busybox,
    }
    for name, step in steps.items():
        if name in lacking:
            timed(name, step)
            (s.BIN / f".{name}").write_text(wanted(name))
    if lacking := missing():
        raise SystemExit(f"expected every tool in {s.BIN} or on PATH, still missing: {', '.join(lacking)}")


def stamp(name: str) -> str:
    """What the programs of `name` were built from; empty where they never were."""
    file = s.BIN / f".{name}"
    return file.read_text() if file.exists() else ""


def wanted(name: str) -> str:
    """What they are to be built from."""
    if name not in BUILDS:
        return "busybox-static"
    digest = hashlib.sha256(" ".join(BUILDS[name]).encode())
    for file in sorted(s.GO_MOD.parent.rglob("*")):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def timed(what: str, step: Callable[[], None]) -> None:
    say(f"tools: {what}")
    started = time.monotonic()
    step()
    say(f"tools: {what}: {time.monotonic() - started:.0f} s")


def search_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


# -- Debian


def install_packages(packages: Iterable[str]) -> None:
    # RUNLEVEL=1: packages start no service; the cluster runs its own etcd and containerd.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def extract_busybox() -> None:
    """Take busybox out of its package; installed, that would replace the machine's own busybox."""
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:  # apt's own user must be able to write here
        Path(scratch).chmod(0o777)
        subprocess.run(["apt-get", "download", "-qq", "busybox-static"], check=True, cwd=scratch)
        subprocess.run(["dpkg", "-x", next(Path(scratch).glob("*.deb")), scratch], check=True)
        shutil.copy(Path(scratch, "bin/busybox"), s.BIN / "busybox")


# -- Go


def build(packages: list[str], folder: Path = s.BIN) -> None:
    """Build packages of programs/go.mod as static programs into a folder."""
    # Without these the API server reports v0.0.0, which clients refuse; helm templates for Kubernetes 1.20.
    major, minor, _ = s.KUBERNETES.removeprefix("v").split(".")
    stamps = {"gitVersion": s.KUBERNETES, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = [f"-X {m}.{k}={v}" for m in VERSIONED for k, v in stamps.items()]
    flags += [f"-X {HELM_TEMPLATES_FOR}Major={major}", f"-X {HELM_TEMPLATES_FOR}Minor={minor}"]
    go("build", f"-ldflags=-s -w {' '.join(flags)}", "-o", f"{folder}/", *packages)


VERSIONED = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
HELM_TEMPLATES_FOR = "helm.sh/helm/v3/pkg/chartutil.k8sVersion"


def go(*args: str) -> None:
    """Run go in programs/, for static programs."""
    # GOFLAGS is set whole: the caller's flags would make another key of the build cache.
    flags = {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-trimpath -buildvcs=false",
        "GOTOOLCHAIN": "local",
    }
    command = [toolchain(), *args]
    done = subprocess.run(
        command, cwd=s.GO_MOD.parent, env=os.environ | flags, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"go {args[0]} failed:\n{done.stderr[-3000:]}")


def toolchain() -> str:
    """Path of a `go` that is new enough: the machine's, or one from the module proxy."""
    own = s.CACHE / f"go{s.GO}/bin/go"
    if own.exists():
        return str(own)
    machines = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")
    if machines and go_version(machines) >= numbers(s.GO):
        return machines
    timed(f"go {s.GO}", lambda: download_toolchain(own.parent.parent))
    return str(own)


def go_version(program: str) -> tuple[int, ...]:
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    done = subprocess.run(
        [program, "env", "GOVERSION"], env=environment, text=True, capture_output=True, check=True
    )
    return numbers(done.stdout.strip().removeprefix("go").split("-")[0].split(" ")[0])


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def download_toolchain(folder: Path) -> None:
    """Unpack Go's distribution, which the module proxy carries as a module."""
    proxy = os.environ.get("GOPROXY", "").split(",")[0].split("|")[0]
    if not proxy.startswith("http"):
        proxy = "https://proxy.golang.org"
    name = f"golang.org/toolchain@v0.0.1-go{s.GO}.linux-{s.ARCH}"
    with tempfile.TemporaryDirectory(dir=s.CACHE) as scratch:
        archive = Path(scratch, "go.zip")
        with (
            urlopen(f"{proxy}/{name.replace('@', '/@v/')}.zip", timeout=60) as answer,
            archive.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != s.GO_DIGESTS[s.ARCH]:
            raise SystemExit(f"expected {name} with SHA-256 {s.GO_DIGESTS[s.ARCH]}, got {digest}")
        zipfile.ZipFile(archive).extractall(scratch)
        unpacked = Path(scratch, name)
        for program in [*unpacked.glob("bin/*"), *unpacked.glob("pkg/tool/*/*")]:
            program.chmod(0o755)  # a module's zip carries no modes
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
