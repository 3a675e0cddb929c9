"""Passes /videos on to the video service, so that people see one address.

Tracking and counting live in ingest, which serve does not import; they run as a process of their own
(`python -m framegrid_ingest.videos`) that asks this serve for boxes like any camera. Bodies are streamed both
ways. Ray Serve reads a request's body as fast as it comes, so what the service does not take at once waits in
this replica: uploads at a time are few.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from framegrid_serve.people.refusal import RefusedError
from framegrid_serve.people.settings import PeopleSettings
from framegrid_serve.people.upload import bounded

MAX_UPLOADS = 2
_CONNECT_TIMEOUT_S = 3.0
# Silence of the service: it answers progress at once, and an upload after its last byte.
_SILENT_S = 60.0
_RETRY_S = 5.0
_CHUNK_BYTES = 256 * 1024
_TO_SERVICE = ("content-type", "content-length", "range", "if-range", "if-none-match", "accept")
_FROM_SERVICE = (
    "content-type",
    "content-length",
    "content-range",
    "content-disposition",
    "accept-ranges",
    "cache-control",
    "etag",
    "last-modified",
    "retry-after",
    "location",
)


class VideoGate:
    """One per replica; the session belongs to the event loop of the first request."""

    def __init__(self, settings: PeopleSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._uploads = 0

    async def pass_on(self, request: Request) -> Response:
        """The service's answer. Raises RefusedError: 404 no service here, 413, 429, 503."""
        if not self._settings.videos_url:
            raise RefusedError(404, "videos are not analysed here (people.videos_url is not set)")
        if request.method != "POST":
            return await self._exchange(request, None)
        if self._uploads >= MAX_UPLOADS:
            raise RefusedError(
                429, f"expected at most {MAX_UPLOADS} uploads at a time, got one more", _RETRY_S
            )
        self._uploads += 1
        try:
            chunks = bounded(request, self._settings.max_video_bytes, "a video")
            first = await anext(chunks, b"")  # a stated size is refused before anybody is asked
            return await self._exchange(request, _joined(first, chunks))
        finally:
            self._uploads -= 1

    async def _exchange(self, request: Request, body: AsyncIterator[bytes] | None) -> Response:
        url = self._settings.videos_url + request.url.path
        if request.url.query:
            url += f"?{request.url.query}"
        headers = {name: request.headers[name] for name in _TO_SERVICE if name in request.headers}
        try:
            answer = await self._open().request(
                request.method, url, data=body, headers=headers, allow_redirects=False
            )
        except ClientDisconnect:
            raise RefusedError(400, "the body ended before it was whole") from None
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            if isinstance(error.__cause__, RefusedError):
                raise error.__cause__ from None
            raise RefusedError(503, "the video service does not answer; retry", _RETRY_S) from None
        kept = {name: answer.headers[name] for name in _FROM_SERVICE if name in answer.headers}
        return StreamingResponse(_passed(answer), answer.status, kept)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_SILENT_S)
            # `auto_decompress` off: what comes is passed on as it is.
            self._session = aiohttp.ClientSession(
                timeout=timeout, trust_env=False, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        """Ends the connections."""
        if self._session is not None:
            await self._session.close()


async def _passed(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The service's body; the connection is given back, or closed when the reader goes away early."""
    async with answer:
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            yield chunk


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    yield first
    async for chunk in rest:
        yield chunk
