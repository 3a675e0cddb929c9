"""Every constant of the test cluster: versions, paths, addresses. Nothing here runs."""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]

# -- Programs. Versions of those built together are in programs/go.mod; a changed one is built again.
GO_MOD = HERE / "programs/go.mod"


def version(module: str) -> str:
    """The version of a Go module that programs/go.mod asks for, such as `v1.34.4`."""
    found = re.search(rf"^(?:\t|require ){re.escape(module)} (v\S+)", GO_MOD.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"expected {module} in {GO_MOD}, found none")
    return found[1]


KUBERNETES = version("k8s.io/kubernetes")
KUBE_TOOLS = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
]
DEBIAN_PACKAGES = {  # package -> a command or file that it brings, to know whether it is there
    "etcd-server": "etcd",
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "nftables": "nft",
    "iptables": "iptables",  # the CNI portmap plugin (hostPort) calls it
    "conntrack": "conntrack",
    "iproute2": "ip",
    "openssl": "openssl",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
}

# -- Go for machines that have none, or an older one: a zip from the module proxy, by its SHA-256.
GO = "1.26.8"
GO_DIGESTS = {
    "amd64": "30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7",
    "arm64": "02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99",
}

# -- Paths. All state lies under HOME_DIR.
HOME_DIR = (
    Path(os.environ.get("FRAMEGRID_CLUSTER_HOME") or "~/.cache/framegrid/cluster").expanduser().resolve()
)
BIN = HOME_DIR / "bin"
CACHE = HOME_DIR / "cache"  # image archives, the Go toolchain: slow to make, kept by `down`
CONTAINERD = HOME_DIR / "containerd"  # images: kept by `down`
BUILDAH = HOME_DIR / "buildah"  # build layers: kept by `down`
NODE = HOME_DIR / "node"  # etcd, pods, volumes, certificates: forgotten by `down`
RUN = HOME_DIR / "run"  # pid file, sockets
LOGS = HOME_DIR / "logs"  # one file per component, started afresh by `up`
KUBECONFIG = HOME_DIR / "kubeconfig"
CONTAINERD_SOCKET = RUN / "containerd.sock"
PID_FILE = RUN / "node.pid"

# -- Addresses. The node is a network namespace behind a veth pair; the host keeps routes to all three ranges.
NODE_NAME = "framegrid"
VETH = "fgcluster0"
HOST_IP = "10.243.0.1"
NODE_IP = "10.243.0.2"
POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
API_URL = f"https://{NODE_IP}:6443"

# -- The cluster's own images. No name here is ever pulled: each is made on this machine and imported.
PAUSE_IMAGE = "localhost/pause:1"
BUSYBOX_IMAGE = "localhost/busybox:1"
COREDNS_IMAGE = f"localhost/coredns:{version('github.com/coredns/coredns')}"
PROVISIONER_IMAGE = f"localhost/local-path-provisioner:{version('github.com/rancher/local-path-provisioner')}"
METRICS_IMAGE = f"localhost/metrics-server:{version('sigs.k8s.io/metrics-server')}"


@dataclass(frozen=True)
class Base:
    """A base image that a Dockerfile may ask for, and what stands in for it here."""

    argument: str  # ARG of the Dockerfile that names it
    image: str
    aliases: tuple[str, ...]  # names in FROM that mean it
    suite: str  # of Debian
    packages: tuple[str, ...]


BASES = (
    Base(
        "PYTHON_IMAGE",
        "localhost/python:3.11",
        ("docker.io/library/python:3.11-slim-bookworm", "docker.io/library/python:3.11-slim"),
        "bookworm",  # has Python 3.11
        (
            "ca-certificates",
            "netbase",
            "tzdata",
            "python3",
            "python3-pip",
            "python3-venv",
            "python-is-python3",
        ),
    ),
    Base(
        "DEBIAN_IMAGE",
        "localhost/debian:trixie",
        ("docker.io/library/debian:trixie-slim", "docker.io/library/debian:trixie"),
        "trixie",
        ("ca-certificates",),
    ),
)


def kubectl() -> str:
    """The kubectl to use: ours where it was built, else the machine's."""
    ours = BIN / "kubectl"
    return str(ours) if ours.exists() else (shutil.which("kubectl") or str(ours))


def fill(template: Path) -> str:
    """A template's text with each @NAME@ replaced by the constant of that name."""
    text = template.read_text()
    for name, value in globals().items():
        if name.isupper():
            text = text.replace(f"@{name}@", str(value))
    return text
