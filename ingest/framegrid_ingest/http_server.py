"""A small HTTP server: pages by GET, paths below a prefix for an API; bounded, one request a connection."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 8 * 1024
MAX_BODY_BYTES = 256 * 1024
MAX_CONNECTIONS = 64


class Request(NamedTuple):
    """`path` without its query; header names in small letters; `peer` is the client's address."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    peer: str


class Answer(NamedTuple):
    """Status, content type and body."""

    status: int
    content_type: str
    body: bytes


_REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
Page = Callable[[], Answer]
Api = Callable[[Request], Awaitable[Answer]]


def json_answer(value: Any, status: int = 200) -> Answer:
    """`value` as JSON."""
    return Answer(status, "application/json", json.dumps(value, separators=(",", ":")).encode())


class HttpServer:
    """Serves fixed paths from functions that must be quick, and prefixes from coroutines."""

    def __init__(self, pages: Mapping[str, Page], apis: Mapping[str, Api] | None = None) -> None:
        self._pages = dict(pages)
        self._apis = dict(apis or {})
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError when it is taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open += 1
        try:
            await asyncio.wait_for(self._exchange(reader, writer), REQUEST_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            logger.debug("a request to the status server was cut short")
        finally:
            self._open -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = (writer.get_extra_info("peername") or ("",))[0]
        request = await _read_request(reader, str(peer))
        answer = request if isinstance(request, Answer) else await self._answer(request)
        is_head = not isinstance(request, Answer) and request.method == "HEAD"
        lines = (
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if is_head else answer.body))
        await writer.drain()

    async def _answer(self, request: Request) -> Answer:
        for prefix, api in self._apis.items():
            if request.path == prefix or request.path.startswith(f"{prefix}/"):
                try:
                    return await api(request)
                except Exception:
                    logger.exception("answering %s failed unexpectedly", prefix)
                    return json_answer({"error": "this failed unexpectedly; see the log"}, 500)
        if request.method not in ("GET", "HEAD"):
            return json_answer({"error": "only GET is answered here"}, 405)
        page = self._pages.get(request.path)
        if page is None:
            known = ", ".join(sorted((*self._pages, *self._apis)))
            return json_answer({"error": f"no such path; there are {known}"}, 404)
        return page()


async def _read_request(reader: asyncio.StreamReader, peer: str) -> Request | Answer:
    """A request, or the answer to what is none."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3:
        return json_answer({"error": "not HTTP"}, 400)
    headers = {
        name.strip().lower(): value.strip()
        for name, mark, value in (line.partition(":") for line in lines)
        if mark
    }
    length = headers.get("content-length", "0")
    if not length.isdigit() or "transfer-encoding" in headers:
        return json_answer({"error": "expected Content-Length with a number of bytes, got none"}, 400)
    if int(length) > MAX_BODY_BYTES:
        return json_answer({"error": f"expected a body of at most {MAX_BODY_BYTES} bytes, got more"}, 413)
    body = await reader.readexactly(int(length))
    return Request(parts[0], parts[1].partition("?")[0], headers, body, peer)
