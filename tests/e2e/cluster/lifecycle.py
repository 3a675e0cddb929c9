"""The cluster as a whole: up, status, and an operator's binary run as a pod."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import archives
import images
import node
import settings as s
from components import api_ready, command_lines, containerd_ready, kubectl

READY = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
DEPLOYMENTS = (
    ("kube-system", "coredns"),
    ("local-path-storage", "local-path-provisioner"),
    ("kube-system", "metrics-server"),
)


def up() -> None:
    """Bring up what does not run. Returns when pods run, resolve names, claim storage and are measured."""
    init = node.init_pid()
    if init is None:
        node.down()  # what a killed node may have left
        node.prepare()
        init = node.start_init()
        node.connect(init)
    running = set(node.members(init).values())
    for name in command_lines():
        if name == "kube-controller-manager":  # and all that follow need the API server
            import_own_images()
            node.wait_for("the API server", api_ready, 90)
        if name in running:
            continue
        node.start(name, init)
        if name == "containerd":
            node.wait_for("containerd", containerd_ready, 20)
            forget_containers(init)
    for name in ("coredns", "storage", "metrics-server"):
        apply(s.fill(s.HERE / "manifests" / f"{name}.yaml"))
    node.wait_for("the node to be Ready", lambda: "True" in kubectl("get", "nodes", "-o", READY).stdout, 60)
    for namespace, deployment in DEPLOYMENTS:
        roll_out(namespace, deployment, 120)
    node.wait_for("node metrics", lambda: kubectl("top", "node").returncode == 0, 90)


def import_own_images() -> None:
    known = images.loaded()
    for name, archive in archives.ensure_own():
        if name not in known:
            images.import_archive(archive)


def forget_containers(init: int) -> None:
    """Drop containers of an earlier run (images stay), then restart containerd, which has read them."""
    leftover = images.ctr("containers", "list", "--quiet").split()
    if not leftover:
        return
    images.ctr("containers", "delete", *leftover)
    pid = next(p for p, name in node.members(init).items() if name == "containerd")
    os.kill(pid, signal.SIGTERM)
    node.wait_for("containerd to stop", lambda: not Path(f"/proc/{pid}").exists(), 20)
    node.start("containerd", init)
    node.wait_for("containerd", containerd_ready, 20)


def apply(manifest: str) -> None:
    """Apply manifests on the server's side: large CRDs do not fit into the client's annotation."""
    for attempt in range(2):
        done = kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
        if done.returncode == 0:
            return
        time.sleep(1 - attempt)  # a namespace's default objects may still be in the making
    raise SystemExit(f"expected the manifest to apply, got: {done.stderr.strip()}")


def roll_out(namespace: str, deployment: str, timeout_s: int) -> None:
    command = ("-n", namespace, "rollout", "status", f"deployment/{deployment}", f"--timeout={timeout_s}s")
    if kubectl(*command).returncode:
        raise SystemExit(f"expected {deployment} to become ready within {timeout_s} s; look at `status`")


def status() -> bool:
    """Print what runs. True where all of it does."""
    init = node.init_pid()
    if init is None:
        print("down")
        return False
    running = set(node.members(init).values())
    lost = [name for name in command_lines() if name not in running]
    ready = api_ready()
    print(f"node-init: pid {init}")
    print(f"components: {'all running' if not lost else 'NOT RUNNING: ' + ', '.join(lost)}")
    print(f"API: {'ready' if ready else 'NOT READY'} at {s.API_URL}")
    print(f"kubeconfig: {s.KUBECONFIG}")
    print(kubectl("get", "nodes,pods", "--all-namespaces", "-o", "wide").stdout)
    return not lost and ready


def run_operator(binary: Path, crds: Path, args: list[str]) -> None:
    """Apply the CRDs, wrap the static binary in an image of its own, run it with all rights."""
    for file in sorted([*crds.glob("*.yaml"), *crds.glob("*.yml")]):
        apply(file.read_text())
    image = f"localhost/{binary.name}:{hashlib.sha256(binary.read_bytes()).hexdigest()[:12]}"
    if image not in images.loaded():
        archive = s.CACHE / "operator.image.tar"
        archives.wrap_binary(archive, image, binary)
        images.import_archive(archive)
        archive.unlink()
    manifest = (s.HERE / "manifests/operator.yaml").read_text()
    for name, value in {"@BINARY@": binary.name, "@IMAGE@": image, "@ARGS@": json.dumps(args)}.items():
        manifest = manifest.replace(name, value)
    apply(manifest)
    roll_out("operator-system", binary.name, 60)
