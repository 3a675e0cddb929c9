"""A tiny HTTP server for /status, /metrics and /healthz: GET only, one request per connection, bounded."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0
MAX_REQUEST_BYTES = 8 * 1024
MAX_CONNECTIONS = 64


class Answer(NamedTuple):
    """Status, content type and body."""

    status: int
    content_type: str
    body: bytes


_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}
Page = Callable[[], Answer]


def json_answer(value: Any, status: int = 200) -> Answer:
    """`value` as JSON."""
    return Answer(status, "application/json", json.dumps(value, separators=(",", ":")).encode())


class HttpServer:
    """Serves fixed paths from functions that must be quick."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self._pages = dict(pages)
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError when it is taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_REQUEST_BYTES)
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
            await asyncio.wait_for(self._answer(reader, writer), REQUEST_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            logger.debug("a request to the status server was cut short")
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        answer = self._page(*parts[:2]) if len(parts) == 3 else json_answer({"error": "not HTTP"}, 400)
        lines = (
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        is_head = parts[0] == "HEAD"
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if is_head else answer.body))
        await writer.drain()

    def _page(self, method: str, target: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return json_answer({"error": "only GET is answered here"}, 405)
        page = self._pages.get(target.partition("?")[0])
        if page is None:
            return json_answer({"error": f"no such path; there are {', '.join(sorted(self._pages))}"}, 404)
        return page()
