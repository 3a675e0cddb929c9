"""The node: one process (node-init) in its own mount, PID and network namespaces; all else runs inside."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import components
import pki
import settings as s
from tools import say

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CGROUPS = ("kubepods", "k8s.io")  # what kubelet and containerd make in each cgroup hierarchy


def init_pid() -> int | None:
    """PID of the running node-init, or None. The start time guards against a reused PID."""
    try:
        pid, started = s.PID_FILE.read_text().split()
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if stat.rpartition(")")[2].split()[19] == started else None


def members(pid: int) -> dict[int, str]:
    """PID -> program name of every process in the node's PID namespace."""
    namespace = Path(f"/proc/{pid}/ns/pid").readlink()
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns/pid").readlink() == namespace:
                    program = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
                    found[int(entry.name)] = Path(program).name
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # ended meanwhile, or better protected than any of ours
    return found


def wait_for(what: str, ready: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"expected {what} within {timeout_s:.0f} s; look at `logs` and `status`")
        time.sleep(0.1)


# -- Starting


def prepare() -> None:
    """Lay out the node's folders, configuration and certificates."""
    for name in ("etcd", "volumes", "log", "cni", "kubelet", "volume-plugins"):
        (s.NODE / name).mkdir(parents=True, exist_ok=True)
    (s.NODE / "etcd").chmod(0o700)
    for folder in (s.RUN, s.LOGS, s.CACHE, s.CONTAINERD):
        folder.mkdir(parents=True, exist_ok=True)
    for log in s.LOGS.glob("*.log"):
        log.unlink()
    (s.NODE / "resolv.conf").write_text("")
    for name in ("containerd.toml", "kubelet.yaml", "kube-proxy.yaml", "audit.yaml"):
        (s.NODE / name).write_text(s.fill(s.HERE / "config" / name))
    (s.NODE / "cni/10-framegrid.conflist").write_text(s.fill(s.HERE / "config/cni.conflist"))
    pki.make(s.NODE / "pki")


def start_init() -> int:
    """Start node-init; returns its PID."""
    namespaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--propagation", "private"]
    command = [*namespaces, str(s.HERE / "node-init"), str(s.NODE), str(s.PID_FILE)]
    with (s.LOGS / "node-init.log").open("ab") as log:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={"PATH": PATH},
        )
    wait_for("node-init", lambda: init_pid() is not None, 10)
    pid = init_pid()
    assert pid is not None
    return pid


def connect(init: int) -> None:
    """Join the node to the host by a veth pair. The node gets no default route: nothing leaves it."""

    def ip(command: str, inside: bool = False) -> None:
        enter = ["nsenter", f"--target={init}", "--net"] if inside else []
        subprocess.run([*enter, "ip", *command.split()], check=True)

    ip(f"link add {s.VETH} type veth peer name eth0 netns {init}")
    ip(f"address add {s.HOST_IP}/30 dev {s.VETH}")
    ip(f"link set {s.VETH} up")
    ip(f"address add {s.NODE_IP}/30 dev eth0", inside=True)
    ip("link set eth0 up", inside=True)
    # kube-proxy rewrites these addresses on the way out, but the kernel wants a route first.
    ip(f"route add {s.SERVICE_CIDR} dev eth0 src {s.NODE_IP}", inside=True)
    for cidr in (s.POD_CIDR, s.SERVICE_CIDR):
        ip(f"route add {cidr} via {s.NODE_IP} dev {s.VETH}")


def start(name: str, init: int) -> None:
    """Start a component inside the node. setsid forks it off: nsenter ends, node-init becomes its parent."""
    enter = ["nsenter", f"--target={init}", "--mount", "--pid", "--net", "setsid", "--fork"]
    environment = {"PATH": PATH, "HOME": str(s.NODE)}
    with (s.LOGS / f"{name}.log").open("ab") as log:
        command = [*enter, *components.command_lines()[name]]
        subprocess.run(
            command, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd="/"
        )


# -- Ending


def down() -> None:
    """End the node and forget its objects and volumes; images, build layers and tools stay."""
    init = init_pid()
    if init is not None:
        inside = members(init)
        os.kill(init, signal.SIGKILL)  # the kernel ends every process of the PID namespace with it
        gone = lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside)  # noqa: E731
        wait_for("the node's processes to end", gone, 30)
    for file in (s.PID_FILE, s.CONTAINERD_SOCKET, s.KUBECONFIG):
        file.unlink(missing_ok=True)
    # The kernel takes the veth pair and its routes away a moment after the namespace; else do it here.
    subprocess.run(["ip", "link", "delete", s.VETH], capture_output=True, check=False)
    for hierarchy in Path("/sys/fs/cgroup").glob("*"):
        for name in CGROUPS:
            remove_cgroups(hierarchy / name)
    remove_cgroups(Path("/sys/fs/cgroup/kubepods"))  # cgroup v2 has no hierarchies
    shutil.rmtree(s.NODE, ignore_errors=True)
    with contextlib.suppress(OSError):  # node-init's mount point; not empty where it is someone else's
        Path("/var/lib/kubelet").rmdir()


def remove_cgroups(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            Path(folder).rmdir()
        except OSError as error:
            say(f"cluster: left {folder}: {error.strerror}")
