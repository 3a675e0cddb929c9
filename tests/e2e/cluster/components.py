"""Kubernetes' components on one node: what each is started with, and how to tell that it answers."""

from __future__ import annotations

import ssl
import subprocess
import urllib.error
import urllib.request

import settings as s

PKI = s.NODE / "pki"


def command_lines() -> dict[str, list[str]]:
    """Component -> command line, in the order of starting."""
    return {
        "etcd": etcd(),
        "containerd": ["containerd", f"--config={s.NODE}/containerd.toml"],
        "kube-apiserver": apiserver(),
        "kube-controller-manager": controller_manager(),
        "kube-scheduler": [*client("kube-scheduler"), "--leader-elect=false"],
        "kubelet": kubelet(),
        "kube-proxy": [str(s.BIN / "kube-proxy"), f"--config={s.NODE}/kube-proxy.yaml"],
    }


def etcd() -> list[str]:
    return [
        "etcd",
        f"--data-dir={s.NODE}/etcd",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--logger=zap",
    ]


def apiserver() -> list[str]:
    return [
        str(s.BIN / "kube-apiserver"),
        f"--advertise-address={s.NODE_IP}",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--service-cluster-ip-range={s.SERVICE_CIDR}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--kubelet-preferred-address-types=InternalIP",
        f"--client-ca-file={PKI}/ca.crt",
        f"--tls-cert-file={PKI}/apiserver.crt",
        f"--tls-private-key-file={PKI}/apiserver.key",
        f"--kubelet-certificate-authority={PKI}/ca.crt",
        f"--kubelet-client-certificate={PKI}/apiserver-kubelet.crt",
        f"--kubelet-client-key={PKI}/apiserver-kubelet.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={PKI}/service-account.pub",
        f"--service-account-signing-key-file={PKI}/service-account.key",
        f"--audit-policy-file={s.NODE}/audit.yaml",
        f"--audit-log-path={s.LOGS}/audit.log",
        # The aggregation layer, for metrics-server.
        f"--requestheader-client-ca-file={PKI}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={PKI}/front-proxy.crt",
        f"--proxy-client-key-file={PKI}/front-proxy.key",
    ]


def client(name: str) -> list[str]:
    """The start of the command line of a component that is a client of the API server."""
    flags = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    return [str(s.BIN / name), *(f"--{flag}={PKI}/{name}.kubeconfig" for flag in flags)]


def controller_manager() -> list[str]:
    return [
        *client("kube-controller-manager"),
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={PKI}/ca.crt",
        f"--service-account-private-key-file={PKI}/service-account.key",
        f"--cluster-signing-cert-file={PKI}/ca.crt",
        f"--cluster-signing-key-file={PKI}/ca.key",
        f"--flex-volume-plugin-dir={s.NODE}/volume-plugins",  # the default would be made in /usr/libexec
    ]


def kubelet() -> list[str]:
    return [
        str(s.BIN / "kubelet"),
        f"--config={s.NODE}/kubelet.yaml",
        f"--kubeconfig={PKI}/kubelet.kubeconfig",
        f"--root-dir={s.NODE}/kubelet",
        f"--hostname-override={s.NODE_NAME}",
        f"--node-ip={s.NODE_IP}",
    ]


# -- Do they answer?


def containerd_ready() -> bool:
    command = ["ctr", "--address", str(s.CONTAINERD_SOCKET), "--connect-timeout", "1s", "version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def api_ready() -> bool:
    try:
        tls = ssl.create_default_context(cafile=str(PKI / "ca.crt"))
        with urllib.request.urlopen(s.API_URL + "/readyz", context=tls, timeout=2) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def kubectl(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl as the administrator, with its output captured."""
    command = [s.kubectl(), f"--kubeconfig={s.KUBECONFIG}", *args]
    return subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
