"""etcd and kube-apiserver alone, where their programs are at hand: what they check, a cluster checks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

CERTIFICATE = "certs/apiserver.crt"
TOOLS = Path(os.environ.get("FRAMEGRID_CLUSTER_HOME", "~/.cache/framegrid/cluster")).expanduser() / "bin"


def programs() -> list[str]:
    """etcd and kube-apiserver, from PATH or as `make test-cluster` has built them."""
    return [shutil.which(name) or str(TOOLS / name) for name in ("etcd", "kube-apiserver")]


def running(etcd: str, apiserver: str, folder: Path) -> Iterator[Path]:
    """Yields a kubeconfig of an administrator."""
    etcd_port, peer_port, port = (free_port() for _ in range(3))
    key = folder / "service-account.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text("secret,admin,1,system:masters\n")
    etcd_flags = {
        "data-dir": folder / "etcd",
        "listen-client-urls": f"http://127.0.0.1:{etcd_port}",
        "advertise-client-urls": f"http://127.0.0.1:{etcd_port}",
        "listen-peer-urls": f"http://127.0.0.1:{peer_port}",
        "unsafe-no-fsync": "true",
        "log-level": "error",
    }
    flags = {
        "etcd-servers": f"http://127.0.0.1:{etcd_port}",
        "bind-address": "127.0.0.1",
        "secure-port": port,
        "cert-dir": folder / "certs",
        "service-cluster-ip-range": "10.0.0.0/24",
        "service-account-key-file": key,
        "service-account-signing-key-file": key,
        "service-account-issuer": "https://127.0.0.1",
        "token-auth-file": folder / "tokens.csv",
        "authorization-mode": "RBAC",
        "disable-admission-plugins": "ServiceAccount",
    }
    commands = [
        [program, *(f"--{name}={value}" for name, value in options.items())]
        for program, options in ((etcd, etcd_flags), (apiserver, flags))
    ]
    processes = []
    logs = (folder / "log.txt").open("wb")
    try:
        for command in commands:
            processes.append(subprocess.Popen(command, stdout=logs, stderr=logs))
        yield wait_for_api(folder, port)
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        logs.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_api(folder: Path, port: int) -> Path:
    """The kubeconfig, once the server answers /readyz."""
    kubeconfig = folder / "kubeconfig"
    # The API server signs a certificate of its own; the file holds the one that signed it, too.
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(folder / CERTIFICATE)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
        "current-context": "x",
    }
    kubeconfig.write_text(json.dumps(config))
    until_s = time.monotonic() + 90
    while True:
        try:
            address = f"https://127.0.0.1:{port}/readyz"
            context = ssl.create_default_context(cafile=str(folder / CERTIFICATE))
            with urllib.request.urlopen(address, timeout=2, context=context):
                return kubeconfig
        except (OSError, urllib.error.URLError):
            if time.monotonic() > until_s:
                raise AssertionError((folder / "log.txt").read_text(errors="replace")[-3000:]) from None
            time.sleep(0.2)
