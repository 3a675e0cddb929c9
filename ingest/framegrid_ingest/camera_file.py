"""cameras.yaml changed by the REST API: one entry at a time, comments and order kept, all of it or nothing.

The new text is checked as the file is when ingest reads it; only then does it replace the old one,
atomically. The watch on the file does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from framegrid_ingest.camera_api import no_camera
from framegrid_ingest.config import parse_cameras
from framegrid_ingest.errors import ConfigError, RegistryError
from framegrid_ingest.urls import shown_template

_OWN_KEY = re.compile(r"cameras\[(\d+)\]\.?")


class CameraFile:
    """The registry over a file. Changes are made one after the other."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._lock = asyncio.Lock()

    async def all(self) -> list[dict[str, Any]]:
        """All cameras as they are written, without passwords."""
        document = await asyncio.to_thread(self._read)
        return [_shown(entry) for entry in document["cameras"]]

    async def create(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Add a camera at the end."""

        def add(cameras: list[Any]) -> int:
            if any(entry.get("name") == values.get("name") for entry in cameras):
                raise RegistryError(
                    409, f"there is a camera {values.get('name')!r} already; change it with PUT"
                )
            cameras.append(dict(values))
            return len(cameras) - 1

        return await self._change(add)

    async def replace(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Set and remove keys until the entry says this."""

        def put(cameras: list[Any]) -> int:
            index = _index_of(name, cameras)
            entry = cameras[index]
            for key in [key for key in entry if key not in values]:
                del entry[key]
            for key, value in values.items():
                is_unchanged = key == "url" and value == shown_template(str(entry.get("url", "")))
                if not is_unchanged and entry.get(key) != value:
                    entry[key] = value
            return index

        return await self._change(put)

    async def delete(self, name: str) -> None:
        """Remove the entry."""

        def remove(cameras: list[Any]) -> int:
            del cameras[_index_of(name, cameras)]
            return -1

        await self._change(remove)

    async def _change(self, change: Callable[[list[Any]], int]) -> dict[str, Any]:
        async with self._lock:
            return await asyncio.to_thread(self._change_now, change)

    def _change_now(self, change: Callable[[list[Any]], int]) -> dict[str, Any]:
        document = self._read()
        index = change(document["cameras"])
        if not document["cameras"]:  # comments of entries that are gone would come out between key and []
            document["cameras"] = []
            document.ca.items.pop("cameras", None)
        out = io.StringIO()
        _yaml().dump(document, out)
        try:
            parse_cameras(out.getvalue(), str(self._path), self._environ, self._path.parent)
        except ConfigError as error:
            problems = [(_OWN_KEY.sub("", problem.key), problem.message) for problem in error.problems]
            message = "; ".join(f"{key}: {text}" if key else text for key, text in problems)
            raise RegistryError(422, message, problems) from None
        self._write(out.getvalue())
        return _shown(document["cameras"][index]) if index >= 0 else {}

    def _read(self) -> Any:
        """The document, valid, with a list of cameras."""
        try:
            text = self._path.read_text(encoding="utf-8")
            parse_cameras(text, str(self._path), self._environ, self._path.parent)
            document = _yaml().load(text) or {}
        except ConfigError as error:
            raise RegistryError(409, f"the file has mistakes, mend it first: {error}") from None
        except (OSError, UnicodeDecodeError, YAMLError) as error:
            raise RegistryError(503, f"{self._path}: cannot be read: {type(error).__name__}") from None
        if document.get("cameras") is None:
            document["cameras"] = []
        return document

    def _write(self, text: str) -> None:
        target = self._path.resolve()
        temporary = None
        try:
            mode = target.stat().st_mode & 0o777
            handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(target)
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()
            message = f"{self._path}: cannot be written: {error.strerror}; is it mounted read-only?"
            raise RegistryError(503, message) from None


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _index_of(name: str, cameras: list[Any]) -> int:
    for index, entry in enumerate(cameras):
        if entry.get("name") == name:
            return index
    raise RegistryError(404, no_camera(name))


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    values = _plain(entry)
    return {**values, "url": shown_template(str(values.get("url", "")))}


def _plain(value: Any) -> Any:
    """ruamel's own types as what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return bool(value) if type(value).__name__ == "ScalarBoolean" else str(value)
