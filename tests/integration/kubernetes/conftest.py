"""An API server that misbehaves on demand, and a real one where its programs are at hand."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import simplejpeg
from framegrid_serve.wire import DetectResponse, FrameResult, FrameStatus, decode_request, encode_response

_PATH = re.compile(
    r"/(?:apis/(?P<group>[^/]+)|api)/(?P<version>[^/]+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+))?(?P<status>/status)?$"
)


class FakeApi:
    """Lists, watches, conflicts and versions as the real one has them, for one namespace, over loopback.

    `token` of a client is its name in `cut_off` and `requests`. Objects are dictionaries by (plural, name).
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: Counter[tuple[str, str, str]] = Counter()  # token, verb, plural
        self.cut_off: set[str] = set()
        self.is_away = False
        self.watch_delay_s = 0.0
        self.answer_delay_s = 0.0
        self.lose_answers = 0  # so many writes take effect and are not answered
        self.fail_next: list[int] = []  # statuses answered first
        self.version = 1000
        self.oldest = 0  # watches from before are gone
        self.patches: list[tuple[float, str, dict[str, Any]]] = []
        self.lock = threading.RLock()
        self._log: list[tuple[int, str, str, dict[str, Any]]] = []
        self._watchers: dict[int, tuple[str, str, queue.Queue[tuple[str, dict[str, Any]] | None]]] = {}
        self._sockets: dict[int, tuple[str, socket.socket]] = {}
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.is_away = True
        self.break_watches()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def kubeconfig(self, folder: Path, token: str = "test") -> Path:
        """A kubeconfig file for a client of that name."""
        path = folder / f"kubeconfig-{token}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "site"}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(config))
        return path

    def cut(self, token: str) -> None:
        """No request of that client is answered any more, and its watches end."""
        self.cut_off.add(token)
        self.break_watches(token)

    def away(self) -> None:
        self.is_away = True
        self.break_watches()

    def back(self) -> None:
        self.is_away = False

    def break_watches(self, token: str | None = None) -> None:
        """As when a load balancer or the API server restarts: connections are reset."""
        with self.lock:
            for owner, connection in list(self._sockets.values()):
                if token in (None, owner):
                    with_reset(connection)
            for _, owner, events in list(self._watchers.values()):
                if token in (None, owner):
                    events.put(None)

    def forget_history(self) -> None:
        """Every watch from an earlier version is answered with 410 Gone."""
        with self.lock:
            self.oldest = self.version
            self._log.clear()

    # What a person does with kubectl.

    def apply(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            before = self.objects.get(("cameras", name))
            body = {"metadata": {"name": name}, "spec": spec}
            if before is None:
                return self.create("cameras", body)
            body["metadata"] = dict(before["metadata"])
            return self.replace("cameras", name, body)

    def secret(self, name: str, **values: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        with self.lock:
            self.objects["secrets", name] = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "resourceVersion": "1"},
                "data": data,
            }

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.objects.get(("cameras", name), {}).get("status") or {})

    def leases(self) -> dict[str, str]:
        """Holder by Lease."""
        with self.lock:
            return {
                name: found["spec"].get("holderIdentity") or ""
                for (plural, name), found in self.objects.items()
                if plural == "leases"
            }

    # Storage.

    def create(self, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            name = body["metadata"]["name"]
            if (plural, name) in self.objects:
                raise _RefusedError(409, f'{plural} "{name}" already exists')
            stored = {**body, "metadata": {**body["metadata"], "uid": str(uuid.uuid4()), "generation": 1}}
            stored.pop("status", None)
            return self._store(plural, name, "ADDED", stored)

    def replace(self, plural: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            before = self.objects.get((plural, name))
            if before is None:
                if plural == "leases" and not body["metadata"].get("uid"):
                    return self.create(plural, body)  # the real one makes Leases on update
                raise _RefusedError(409 if plural == "leases" else 404, f'{plural} "{name}" not found')
            for key in ("resourceVersion", "uid"):
                if body["metadata"].get(key, before["metadata"][key]) != before["metadata"][key]:
                    raise _RefusedError(409, f'operation cannot be fulfilled on {plural} "{name}"')
            metadata = {**body["metadata"], "uid": before["metadata"]["uid"]}
            changed = body.get("spec") != before.get("spec")
            metadata["generation"] = before["metadata"]["generation"] + int(changed)
            stored = {**body, "metadata": metadata}
            if plural == "cameras" and "status" in before:
                stored["status"] = before["status"]
            return self._store(plural, name, "MODIFIED", stored)

    def patch_status(self, plural: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            before = self.objects.get((plural, name))
            if before is None:
                raise _RefusedError(404, f'{plural} "{name}" not found')
            merged = {**(before.get("status") or {}), **patch["status"]}
            status = {key: value for key, value in merged.items() if value is not None}
            self.patches.append((time.monotonic(), name, status))
            return self._store(plural, name, "MODIFIED", {**before, "status": status})

    def delete(self, plural: str, name: str) -> dict[str, Any]:
        with self.lock:
            before = self.objects.pop((plural, name), None)
            if before is None:
                raise _RefusedError(404, f'{plural} "{name}" not found')
            self.version += 1
            gone = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self.version)}}
            self._tell(plural, "DELETED", gone)
            return gone

    def _store(self, plural: str, name: str, kind: str, stored: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        stored["metadata"] = {**stored["metadata"], "resourceVersion": str(self.version)}
        self.objects[plural, name] = stored
        self._tell(plural, kind, stored)
        return stored

    def _tell(self, plural: str, kind: str, found: dict[str, Any]) -> None:
        self._log.append((self.version, plural, kind, found))
        for watched, _, events in self._watchers.values():
            if watched == plural:
                events.put((kind, found))


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def with_reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Quiet(BaseHTTPRequestHandler):
    """Clients that are killed are nothing to talk about."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()


class _Handler(_Quiet):
    api: FakeApi

    def handle(self) -> None:
        self.api._sockets[id(self)] = ("", self.connection)
        try:
            super().handle()
        finally:
            self.api._sockets.pop(id(self), None)

    def do_GET(self) -> None:
        self._do("get")

    def do_POST(self) -> None:
        self._do("create")

    def do_PUT(self) -> None:
        self._do("update")

    def do_PATCH(self) -> None:
        self._do("patch")

    def do_DELETE(self) -> None:
        self._do("delete")

    def _do(self, verb: str) -> None:
        api = self.api
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        api._sockets[id(self)] = (token, self.connection)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if api.is_away or token in api.cut_off:
            self.close_connection = True
            with_reset(self.connection)
            return
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        found = _PATH.match(address.path)
        if found is None:
            self._send(404, {"message": f"no such path {address.path}"})
            return
        plural, name = found["plural"], found["name"] or ""
        if verb == "get" and not name:
            verb = "watch" if query.get("watch") in ("true", "True") else "list"
        api.requests[token, verb, plural] += 1
        if api.answer_delay_s:
            time.sleep(api.answer_delay_s)
        if api.fail_next and verb != "watch":
            self._send(api.fail_next.pop(0), {"message": "as the test wants it"})
            return
        if verb == "watch":
            self._watch(token, plural, int(query.get("resourceVersion") or 0))
            return
        try:
            answer = self._act(verb, plural, name, json.loads(body) if body else {}, bool(found["status"]))
        except _RefusedError as refused:
            self._send(refused.status, {"kind": "Status", "message": str(refused), "code": refused.status})
            return
        if verb in ("create", "update", "patch") and api.lose_answers:
            api.lose_answers -= 1
            self.close_connection = True
            with_reset(self.connection)
            return
        self._send(201 if verb == "create" else 200, answer)

    def _act(
        self, verb: str, plural: str, name: str, body: dict[str, Any], is_status: bool
    ) -> dict[str, Any]:
        api = self.api
        if verb == "list":
            with api.lock:
                items = [found for (kind, _), found in api.objects.items() if kind == plural]
                return {"items": items, "metadata": {"resourceVersion": str(api.version)}}
        if verb == "get":
            if (plural, name) not in api.objects:
                raise _RefusedError(404, f'{plural} "{name}" not found')
            return api.objects[plural, name]
        if verb == "create":
            return api.create(plural, body)
        if verb == "patch":
            assert is_status
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            return api.patch_status(plural, name, body)
        return api.replace(plural, name, body) if verb == "update" else api.delete(plural, name)

    def _watch(self, token: str, plural: str, version: int) -> None:
        api = self.api
        events: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue()
        with api.lock:
            is_gone = version < api.oldest
            for at, kind_of, kind, found in api._log:
                if at > version and kind_of == plural:
                    events.put((kind, found))
            api._watchers[id(self)] = (plural, token, events)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            if is_gone:
                gone = {"code": 410, "reason": "Expired", "message": "too old resource version"}
                self._chunk({"type": "ERROR", "object": gone})
                return
            self._stream(events)
        finally:
            api._watchers.pop(id(self), None)
            self.close_connection = True
        self.wfile.write(b"0\r\n\r\n")

    def _stream(self, events: queue.Queue[tuple[str, dict[str, Any]] | None]) -> None:
        while not self.api.is_away:
            try:
                event = events.get(timeout=2.0)
            except queue.Empty:
                with self.api.lock:
                    if events.empty():
                        bookmark = {"metadata": {"resourceVersion": str(self.api.version)}}
                        self._chunk({"type": "BOOKMARK", "object": bookmark})
                continue
            if event is None:
                return
            if self.api.watch_delay_s:
                time.sleep(self.api.watch_delay_s)
            self._chunk({"type": event[0], "object": event[1]})

    def _chunk(self, value: dict[str, Any]) -> None:
        line = json.dumps(value).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def _send(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    yield fake
    fake.close()


class _Serve(_Quiet):
    """Speaks the wire format: one person in each picture."""

    def do_GET(self) -> None:
        model = {"name": "m", "version": "1", "digest": "d", "input_size": 160, "classes": ["person", "car"]}
        model |= {"precision": "fp32", "licence": "Apache-2.0", "state": "ready"}
        self._send(json.dumps({"default": "m", "models": [model]}).encode())

    def do_POST(self) -> None:
        request = decode_request(self.rfile.read(int(self.headers["Content-Length"])))
        boxes = np.array([[0.4, 0.2, 0.5, 0.8]], np.float32)
        result = FrameResult(FrameStatus.OK, boxes, np.array([0.9], np.float32), np.array([0], np.int16))
        self._send(encode_response(DetectResponse("m", "1", "d", (result,) * len(request.frames))))

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Picture(_Quiet):
    """A camera that is asked for each picture; with a password where the test sets one."""

    picture = bytes(simplejpeg.encode_jpeg(np.full((120, 160, 3), 90, np.uint8), 90, "BGR", "420"))
    password = ""

    def do_GET(self) -> None:
        wanted = base64.b64encode(f"viewer:{self.password}".encode()).decode()
        is_right = not self.password or self.headers.get("Authorization") == f"Basic {wanted}"
        body = self.picture if is_right else b""
        self.send_response(200 if is_right else 401)
        if not is_right:
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Served:
    """One handler class on a free port of this machine."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._handler = type("Own", (handler,), {})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def require(self, password: str) -> None:
        """From now on."""
        self._handler.password = password  # type: ignore[attr-defined]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def wire_serve() -> Iterator[str]:
    served = Served(_Serve)
    yield served.url
    served.close()


@pytest.fixture
def picture_url() -> Iterator[str]:
    served = Served(_Picture)
    yield f"{served.url}/now.jpg"
    served.close()


@pytest.fixture
def locked_picture() -> Iterator[Served]:
    served = Served(_Picture)
    yield served
    served.close()


CERTIFICATE = "certs/apiserver.crt"
TOOLS = Path(os.environ.get("FRAMEGRID_CLUSTER_HOME", "~/.cache/framegrid/cluster")).expanduser() / "bin"


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kubeconfig for etcd and the API server alone: what is checked there is what a cluster checks."""
    etcd = shutil.which("etcd") or str(TOOLS / "etcd")
    apiserver = shutil.which("kube-apiserver") or str(TOOLS / "kube-apiserver")
    missing = [name for name in (etcd, apiserver) if not Path(name).exists()]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)}: make test-cluster builds them")
    folder = tmp_path_factory.mktemp("api-server")
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
