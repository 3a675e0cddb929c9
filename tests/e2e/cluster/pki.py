"""Certificates and kubeconfigs of one cluster, made by openssl afresh at each `up` from nothing."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import settings as s

DAYS = "30"
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
CLIENTS = {  # file name -> subject
    "apiserver-kubelet": "/O=system:masters/CN=kube-apiserver-kubelet-client",
    "admin": "/O=system:masters/CN=admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
}
API_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


def make(folder: Path) -> None:
    """Everything, into `folder`; and the administrator's kubeconfig."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    authority(folder, "ca")
    authority(
        folder, "front-proxy-ca"
    )  # apart, so that no client's certificate can pose as the aggregation layer
    addresses = [f"DNS:{n}" for n in API_NAMES] + [
        f"IP:{a}" for a in (s.API_SERVICE_IP, s.NODE_IP, "127.0.0.1")
    ]
    certificate(folder, "apiserver", "/CN=kube-apiserver", alt_names=",".join(addresses))
    node = f"/O=system:nodes/CN=system:node:{s.NODE_NAME}"
    certificate(folder, "kubelet", node, alt_names=f"DNS:{s.NODE_NAME},IP:{s.NODE_IP}")
    certificate(folder, "front-proxy", "/CN=front-proxy-client", signer="front-proxy-ca")
    for name, subject in CLIENTS.items():
        certificate(folder, name, subject)
    openssl("genrsa", "-out", folder / "service-account.key", "2048")
    openssl("rsa", "-in", folder / "service-account.key", "-pubout", "-out", folder / "service-account.pub")
    for name in ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
        kubeconfig(folder, name, folder / f"{name}.kubeconfig")
    kubeconfig(folder, "admin", s.KUBECONFIG)


def openssl(*args: object) -> None:
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


def authority(folder: Path, name: str) -> None:
    usage = "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
    files = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")
    openssl("req", "-x509", *KEY, "-days", DAYS, "-subj", f"/CN={name}", "-addext", usage, *files)


def certificate(folder: Path, name: str, subject: str, signer: str = "ca", alt_names: str = "") -> None:
    """Make NAME.key and NAME.crt: a client's, and a server's too where alt_names are given."""
    usage = f"clientAuth,serverAuth\nsubjectAltName={alt_names}" if alt_names else "clientAuth"
    extensions, request = folder / f"{name}.ext", folder / f"{name}.csr"
    extensions.write_text(f"keyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n")
    openssl("req", *KEY, "-subj", subject, "-keyout", folder / f"{name}.key", "-out", request)
    signed = ("-CA", folder / f"{signer}.crt", "-CAkey", folder / f"{signer}.key", "-CAcreateserial")
    files = ("-extfile", extensions, "-out", folder / f"{name}.crt")
    openssl("x509", "-req", "-in", request, "-days", DAYS, *signed, *files)


def kubeconfig(folder: Path, name: str, target: Path) -> None:
    """Write a kubeconfig (JSON is YAML) with the certificate NAME inside."""

    def inline(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    cluster = {"server": s.API_URL, "certificate-authority-data": inline("ca.crt")}
    user = {"client-certificate-data": inline(f"{name}.crt"), "client-key-data": inline(f"{name}.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": s.NODE_NAME,
        "clusters": [{"name": s.NODE_NAME, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": s.NODE_NAME, "context": {"cluster": s.NODE_NAME, "user": name}}],
    }
    target.write_text(json.dumps(config, indent=1))
    target.chmod(0o600)
