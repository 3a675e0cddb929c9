"""Reads a person's request into pictures and options, within bounds of bytes and time.

Three ways in: one raw picture, multipart/form-data with files, or JSON {"url": …}. The body is counted while
it comes, whatever its headers say.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from framegrid_serve.people.refusal import RefusedError
from framegrid_serve.people.settings import PeopleSettings

# It writes a line for each malformed form.
logging.getLogger("python_multipart").setLevel(logging.ERROR)

MAX_JSON_BYTES = 64 * 1024
MAX_FIELDS = 64
_FIELD_BYTES = 4096
# Boundaries, part headers and option fields beside the pictures.
_FORM_OVERHEAD_BYTES = 256 * 1024
_MAX_NAME = 200

Fetch = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Named:
    """Bytes of a picture and what the sender calls it."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Upload:
    """What a request brought."""

    pictures: list[Named]
    options: dict[str, Any] = field(default_factory=dict)


async def read_upload(request: Request, settings: PeopleSettings, fetch: Fetch) -> Upload:
    """The pictures and options in the body. Raises RefusedError: 400, 403, 408, 413, 415, 422."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if kind == "application/json":
            body = await _in_time(_whole(request, MAX_JSON_BYTES, "JSON"), settings)
            return await _from_json(body, fetch)
        if kind == "multipart/form-data":
            form: Upload = await _in_time(_from_form(request, settings), settings)
            return form
        if kind in ("", "application/octet-stream") or kind.startswith("image/"):
            data = await _in_time(_whole(request, settings.max_image_bytes, "a picture"), settings)
            return Upload([Named("", data)])
    except ClientDisconnect:
        raise RefusedError(400, "the body ended before it was whole") from None
    raise RefusedError(
        415, f"expected image/*, multipart/form-data or application/json, got content type {kind[:80]!r}"
    )


async def _in_time(reading: Awaitable[Any], settings: PeopleSettings) -> Any:
    try:
        return await asyncio.wait_for(reading, settings.upload_timeout_s)
    except asyncio.TimeoutError:
        raise RefusedError(
            408,
            f"expected the whole body within {settings.upload_timeout_s:g} s, got a part; send it again",
        ) from None


async def bounded(request: Request, limit_bytes: int, what: str) -> AsyncIterator[bytes]:
    """The body in chunks; RefusedError 413 when it is, or says that it is, larger than the limit."""
    problem = RefusedError(413, f"expected {what} of at most {limit_bytes} bytes, got more; send less")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated[:20]) > limit_bytes:
        raise problem
    size_bytes = 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise problem
        yield chunk


async def _whole(request: Request, limit_bytes: int, what: str) -> bytes:
    return b"".join([chunk async for chunk in bounded(request, limit_bytes, what)])


async def _from_json(body: bytes, fetch: Fetch) -> Upload:
    expected = 'expected JSON like {"url": "https://…", "model": …}'
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, f"{expected}, got {len(body)} bytes that are no JSON") from None
    if not isinstance(values, dict):
        raise RefusedError(400, f"{expected}, got {type(values).__name__}")
    url = values.pop("url", None)
    if not isinstance(url, str) or not url:
        raise RefusedError(422, f"{expected}, got no url")
    return Upload([Named(url[:_MAX_NAME], await fetch(url))], values)


async def _from_form(request: Request, settings: PeopleSettings) -> Upload:
    limit_bytes = settings.max_images * settings.max_image_bytes + _FORM_OVERHEAD_BYTES
    parser = MultiPartParser(
        request.headers,
        bounded(request, limit_bytes, "a form"),
        max_files=settings.max_images,
        max_fields=MAX_FIELDS,
        max_part_size=_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
        return await _form_parts(form, settings)
    except MultiPartException as error:
        raise RefusedError(400, f"expected multipart/form-data with pictures: {error.message}") from None
    except (FormParserError, UnicodeError, LookupError, ValueError) as error:
        raise RefusedError(
            400, f"expected multipart/form-data with pictures, got a malformed body ({type(error).__name__})"
        ) from None
    finally:
        # Starlette closes them for errors of its own alone; the rest is left to the garbage collector.
        for file in parser._files_to_close_on_error:
            file.close()


async def _form_parts(form: Any, settings: PeopleSettings) -> Upload:
    pictures: list[Named] = []
    options: dict[str, Any] = {}
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            name = (value.filename or "")[:_MAX_NAME]
            if (value.size or 0) > settings.max_image_bytes:
                raise RefusedError(
                    413,
                    f"expected pictures of at most {settings.max_image_bytes} bytes, "
                    f"got {value.size} in {name!r}",
                )
            pictures.append(Named(name, await value.read()))
        elif key == "classes":
            options.setdefault(key, []).append(value)
        else:
            options[key] = value
    if not pictures:
        raise RefusedError(400, "expected a file in the form (curl -F file=@street.jpg), got none")
    return Upload(pictures, options)
