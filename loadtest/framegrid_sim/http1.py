"""As much HTTP/1.1 as a camera speaks: requests from bytes, responses to bytes. Pure, no sockets.

Our own and not a framework's: the hot path is one write of header, picture and boundary to a transport.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_HEAD_BYTES = 16_384
MAX_BODY_BYTES = 65_536  # no route reads a body; a small one is skipped
METHODS = ("GET", "HEAD", "POST")


class BadRequestError(ValueError):
    """A request that cannot be answered as asked: `status` says why, and the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str  # decoded, without the query
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False  # end the connection after this answer

    def encode(self, *, head_only: bool, keep_alive: bool) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        return head if head_only else head + self.body


def json_response(value: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, json.dumps(value).encode(), headers=headers)


def error_response(status: int, message: str, **headers: str) -> Response:
    """Errors are `{"error": "expected …, got …"}`, as everywhere in Framegrid."""
    return json_response({"error": message}, status, **headers)


def take_request(buffer: bytearray) -> Request | None:
    """Cut the first whole request (its body skipped) off the buffer; None when there is none yet.

    Raises BadRequestError for what is no HTTP/1 request or is too large.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0 or end > MAX_HEAD_BYTES:
        if len(buffer) > MAX_HEAD_BYTES:
            raise BadRequestError(431, f"expected at most {MAX_HEAD_BYTES} bytes of request head, got more")
        return None
    request_line, *header_lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    headers = _parse_headers(header_lines)
    body_bytes = _body_bytes(headers)
    if len(buffer) < end + 4 + body_bytes:
        return None
    del buffer[: end + 4 + body_bytes]
    return _parse_line(request_line, headers)


def _parse_line(line: str, headers: dict[str, str]) -> Request:
    parts = line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequestError(400, f"expected an HTTP/1.1 request line, got {line[:80]!r}")
    method, target, version = parts
    if method not in METHODS:
        raise BadRequestError(405, f"expected a method of {', '.join(METHODS)}, got {method[:20]!r}")
    try:
        url = urlsplit(target)
    except ValueError as error:
        raise BadRequestError(400, f"expected a path, got {target[:80]!r}") from error
    connection = headers.get("connection", "").lower()
    keep_alive = connection != "close" if version == "HTTP/1.1" else connection == "keep-alive"
    return Request(method, unquote(url.path), dict(parse_qsl(url.query)), headers, keep_alive)


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise BadRequestError(400, f"expected a header as 'Name: value', got {line[:40]!r}")
        headers[name.strip().lower()] = value.strip()
    return headers


def _body_bytes(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequestError(411, "expected a body with Content-Length or none, got Transfer-Encoding")
    text = headers.get("content-length", "0")
    if not text.isascii() or not text.isdigit():
        raise BadRequestError(400, f"expected Content-Length as a number, got {text[:20]!r}")
    if len(text) > 9 or int(text) > MAX_BODY_BYTES:
        raise BadRequestError(413, f"expected a body of at most {MAX_BODY_BYTES} bytes, got {text[:20]}")
    return int(text)
