"""HTTP/1.1 over asyncio streams: as much of it as cameras and serve need, at a fifth of a library's CPU.

One `Connection` carries one request at a time. Bodies come by Content-Length, chunked, or until the server
closes. Every size is bounded. Raises OSError (and its kin) for the network, HttpError for what is not HTTP;
neither carries the URL. Timeouts are the caller's: cancelling a call leaves the connection unusable, close
it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from framegrid_ingest.errors import IngestError

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
_READ_BYTES = 256 * 1024
_USER_AGENT = "framegrid-ingest"


class HttpError(IngestError):
    """The other side does not speak HTTP/1.x, or too much of it."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect and what to ask for, from an http(s) URL. Not for messages: holds credentials."""

    scheme: str
    host: str
    port: int
    target: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


def address_of(url: str) -> Address:
    """Parts of an http(s) URL. Raises HttpError that does not show it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise HttpError("expected an http:// or https:// address, got one that cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HttpError("expected an http:// or https:// address with a host name, got something else")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(
        parts.scheme,
        parts.hostname,
        port or (443 if parts.scheme == "https" else 80),
        target.replace(" ", "%20"),
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers (names in small letters; repeated ones joined by a line break)."""

    status: int
    reason: str
    headers: dict[str, str]

    @property
    def content_type(self) -> str:
        """Media type in small letters, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def keeps_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class Connection:
    """One connection, one request at a time: `send`, `head`, then `body` or `chunks`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._head: Head | None = None
        self._is_spent = False

    @classmethod
    async def open(cls, address: Address, context: ssl.SSLContext | None = None) -> Connection:
        """Connect. `context` None means the usual one, which checks certificates, for https."""
        tls = (context or ssl.create_default_context()) if address.scheme == "https" else None
        reader, writer = await asyncio.open_connection(
            address.host, address.port, ssl=tls, limit=4 * _READ_BYTES
        )
        return cls(reader, writer)

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent: the last answer was read whole and the server is there."""
        return not self._is_spent and not self._reader.at_eof() and not self._writer.is_closing()

    async def send(
        self,
        address: Address,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> None:
        """Write one request."""
        lines = [
            f"{method} {address.target} HTTP/1.1",
            f"Host: {address.host_header}",
            f"User-Agent: {_USER_AGENT}",
        ]
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines)
        if any(ord(character) > 126 for character in head):
            raise HttpError("expected an address of ASCII characters, got others; percent-encode them")
        self._is_spent = True
        self._writer.write(head.encode() + b"\r\n\r\n")
        if body:
            self._writer.write(body)
        await self._writer.drain()

    async def head(self) -> Head:
        """The answer's status and headers; 1xx answers are passed over."""
        head = await self._read_head()
        while 100 <= head.status < 200:
            head = await self._read_head()
        self._head = head
        return head

    async def body(self, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
        """The whole answer. Raises HttpError beyond `limit_bytes`."""
        parts, size_bytes = [], 0
        async for chunk in self.chunks():
            size_bytes += len(chunk)
            if size_bytes > limit_bytes:
                raise HttpError(f"expected an answer of at most {limit_bytes} bytes, got more")
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The answer as it comes. Raises asyncio.IncompleteReadError when it is cut short."""
        head = self._head
        if head is None:
            raise HttpError("expected head() before the body")
        if head.status in (204, 304):
            self._is_spent = not head.keeps_alive
            return
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            async for chunk in self._chunked():
                yield chunk
            self._is_spent = not head.keeps_alive
            return
        length = head.headers.get("content-length", "")
        if length.isdigit() and len(length) < 16:
            left = int(length)
            while left:
                data = await self._reader.read(min(left, _READ_BYTES))
                if not data:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(data)
                yield data
            self._is_spent = not head.keeps_alive
            return
        while data := await self._reader.read(_READ_BYTES):
            yield data

    def close(self) -> None:
        """Drop the connection at once; whatever is under way fails."""
        self._is_spent = True
        self._writer.transport.abort()

    async def _read_head(self) -> Head:
        try:
            raw = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise HttpError("expected a short HTTP head, got more than 1 MB without an end") from None
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                raise ConnectionResetError("the connection was closed before an answer came") from None
            shown = error.partial[:40].decode("latin-1")
            raise HttpError(f"expected an HTTP answer, got {shown!r} and the end") from None
        if len(raw) > MAX_HEAD_BYTES:
            raise HttpError(f"expected an HTTP head of at most {MAX_HEAD_BYTES} bytes, got {len(raw)}")
        first, *lines = raw.decode("latin-1").split("\r\n")
        protocol, _, rest = first.partition(" ")
        status, _, reason = rest.partition(" ")
        if not protocol.startswith("HTTP/1.") or not status.isdigit() or len(status) != 3:
            raise HttpError(f"expected an HTTP/1.x answer, got {first[:40]!r}")
        headers: dict[str, str] = {}
        for line in lines:
            name, mark, value = line.partition(":")
            if mark:
                key = name.strip().lower()
                value = value.strip()
                headers[key] = f"{headers[key]}\n{value}" if key in headers else value
        if protocol == "HTTP/1.0":
            headers.setdefault("connection", "close")
        return Head(int(status), reason[:80], headers)

    async def _chunked(self) -> AsyncGenerator[bytes, None]:
        while True:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                raise asyncio.IncompleteReadError(line, None)
            text = line.partition(b";")[0].strip()
            try:
                left = int(text, 16)
            except ValueError:
                raise HttpError(f"expected the size of a chunk, got {text[:20]!r}") from None
            if not 0 <= left <= MAX_BODY_BYTES:
                raise HttpError(f"expected a chunk of at most {MAX_BODY_BYTES} bytes, got {text[:20]!r}")
            if left == 0:
                while (await self._reader.readline()).strip():
                    pass  # trailers
                return
            while left:
                data = await self._reader.read(min(left, _READ_BYTES))
                if not data:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(data)
                yield data
            await self._reader.readline()
