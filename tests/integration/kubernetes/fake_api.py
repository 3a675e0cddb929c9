"""An API server of one namespace that misbehaves on demand."""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import re
import socket
import threading
import time
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from integration.kubernetes.served import QuietHandler

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


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    api: FakeApi

    def handle(self) -> None:
        self.api._sockets[id(self)] = ("", self.connection)
        try:
            super().handle()
        finally:
            self.api._sockets.pop(id(self), None)

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
