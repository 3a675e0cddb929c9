"""/v1/cameras: cameras listed, read, added, changed and deleted over HTTP, where they are declared.

    GET    /v1/cameras            {"cameras": [{"name": …, "url": …, …}]}
    POST   /v1/cameras            a camera with its name              201, 409 exists, 422 wrong
    GET    /v1/cameras/{name}     that camera                         404
    PUT    /v1/cameras/{name}     replaces it                         404, 409 changed meanwhile, 422
    DELETE /v1/cameras/{name}                                         204, 404

Bodies are JSON with the keys of cameras.yaml (and `secretRef` where cameras are Kubernetes resources). A
password in an address is never shown; an address that is sent back as it was shown stays as it is stored.

Who may: `authorise` decides, one function for all of it. Until there are tokens, anybody who reaches the port
may read, and only this machine (loopback; in a pod that is `kubectl port-forward`) may change.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote

from framegrid_ingest.errors import RegistryError
from framegrid_ingest.http_server import Answer, Request, json_answer

PREFIX = "/v1/cameras"


class Registry(Protocol):
    """Where cameras are declared. Values are as in cameras.yaml, with `name`. Raises RegistryError."""

    async def all(self) -> list[dict[str, Any]]: ...

    async def create(self, values: Mapping[str, Any]) -> dict[str, Any]: ...

    async def replace(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]: ...

    async def delete(self, name: str) -> None: ...


def only_loopback_changes(request: Request) -> Answer | None:
    """None when the request may go on."""
    if request.method in ("GET", "HEAD"):
        return None
    try:
        is_near = ipaddress.ip_address(request.peer).is_loopback
    except ValueError:
        is_near = False
    if is_near:
        return None
    message = "cameras are changed from this machine only (127.0.0.1); in a pod use kubectl port-forward"
    return json_answer({"error": message}, 403)


class CameraApi:
    """Requests to a registry."""

    def __init__(
        self, registry: Registry, authorise: Callable[[Request], Answer | None] = only_loopback_changes
    ) -> None:
        self._registry = registry
        self._authorise = authorise

    async def answer(self, request: Request) -> Answer:
        """Never raises for anything that a client or the registry does."""
        refused = self._authorise(request)
        if refused is not None:
            return refused
        name = unquote(request.path[len(PREFIX) :].strip("/"))
        try:
            return await (self._one(name, request) if name else self._all(request))
        except RegistryError as error:
            body: dict[str, Any] = {"error": str(error)}
            if error.problems:
                body["problems"] = [{"key": key, "message": message} for key, message in error.problems]
            return json_answer(body, error.status)

    async def _all(self, request: Request) -> Answer:
        if request.method in ("GET", "HEAD"):
            return json_answer({"cameras": await self._registry.all()})
        if request.method == "POST":
            return json_answer(await self._registry.create(_values(request)), 201)
        return _no_such_method("GET, POST")

    async def _one(self, name: str, request: Request) -> Answer:
        if request.method in ("GET", "HEAD"):
            found = [values for values in await self._registry.all() if values["name"] == name]
            return json_answer(found[0]) if found else json_answer({"error": no_camera(name)}, 404)
        if request.method == "PUT":
            values = _values(request)
            if values.setdefault("name", name) != name:
                raise RegistryError(422, f"expected the name {name!r} as in the path, got another one")
            return json_answer(await self._registry.replace(name, values))
        if request.method == "DELETE":
            await self._registry.delete(name)
            return Answer(204, "application/json", b"")
        return _no_such_method("GET, PUT, DELETE")


def no_camera(name: str) -> str:
    """What to say of a camera that is not there."""
    return f"there is no camera {name[:64]!r}; GET {PREFIX} lists all"


def _values(request: Request) -> dict[str, Any]:
    # A web page on another site cannot send this type without being asked first (CORS).
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RegistryError(415, "expected Content-Type: application/json, got another one")
    try:
        values = json.loads(request.body)
    except (ValueError, RecursionError):
        raise RegistryError(400, "expected JSON, got something else") from None
    if not isinstance(values, dict):
        raise RegistryError(422, "expected one camera (an object with keys), got something else")
    return values


def _no_such_method(allowed: str) -> Answer:
    return json_answer({"error": f"expected one of {allowed} for this path, got another method"}, 405)
