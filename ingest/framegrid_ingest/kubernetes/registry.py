"""Camera resources changed by the REST API: the same objects that `kubectl` changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from framegrid_ingest.camera_api import no_camera
from framegrid_ingest.errors import ConfigError, RegistryError
from framegrid_ingest.kubernetes.cluster import CAMERAS, Cluster, ClusterError, ConflictError
from framegrid_ingest.kubernetes.resource import GROUP, KIND, VERSION, camera_config, declared
from framegrid_ingest.urls import shown_template

_NOT_ALLOWED = (
    "this pod's service account may not do that: {error}; "
    "allow create, update and delete of cameras.framegrid.io"
)


class ClusterRegistry:
    """The registry over the API server."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def all(self) -> list[dict[str, Any]]:
        """All cameras of the namespace."""
        objects, _ = await self._call(self._cluster.list, CAMERAS)
        return [_shown(camera) for camera in objects]

    async def create(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Make a Camera."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": str(values.get("name", ""))},
            "spec": _checked(values),
        }
        try:
            return _shown(await self._call(self._cluster.create, CAMERAS, body))
        except ConflictError:
            raise RegistryError(
                409, f"there is a camera {values.get('name')!r} already; change it with PUT"
            ) from None

    async def replace(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a Camera's spec."""
        try:
            before = await self._call(self._cluster.get, CAMERAS, name)
        except ConflictError:
            raise RegistryError(404, no_camera(name)) from None
        stored_url = str(before["spec"].get("url", ""))
        if values.get("url") == shown_template(stored_url):
            values = {**values, "url": stored_url}
        try:
            return _shown(
                await self._call(self._cluster.replace, CAMERAS, {**before, "spec": _checked(values)})
            )
        except ConflictError:
            raise RegistryError(409, "somebody changed this camera meanwhile; read it again") from None

    async def delete(self, name: str) -> None:
        """Delete a Camera."""
        try:
            await self._call(self._cluster.delete, CAMERAS, name)
        except ConflictError:
            raise RegistryError(404, no_camera(name)) from None

    async def _call(self, function: Any, *arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(function, *arguments)
        except ConflictError:
            raise
        except ClusterError as error:
            if error.status in (400, 422):  # what the API server's own rules say
                raise RegistryError(422, str(error)) from None
            if error.status == 403:
                raise RegistryError(403, _NOT_ALLOWED.format(error=error)) from None
            raise RegistryError(503, f"the API server does not answer as expected: {error}") from None


class _AnySecret(Mapping[str, str]):
    """Stands for a Secret that need not exist yet."""

    def __getitem__(self, key: str) -> str:
        return "secret"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The spec, or a RegistryError that names every mistake in the words of cameras.yaml."""
    spec = {key: value for key, value in values.items() if key != "name"}
    camera = declared({"metadata": {"name": values.get("name", "")}, "spec": spec})
    secret: Mapping[str, str] = _AnySecret() if camera.secret else {}
    try:
        camera_config(camera, secret)
    except ConfigError as error:
        problems = [(problem.key, problem.message) for problem in error.problems]
        message = "; ".join(f"{key}: {text}" if key else text for key, text in problems)
        raise RegistryError(422, message, problems) from None
    return spec


def _shown(camera: Mapping[str, Any]) -> dict[str, Any]:
    spec = camera.get("spec") or {}
    return {"name": camera["metadata"]["name"], **spec, "url": shown_template(str(spec.get("url", "")))}
