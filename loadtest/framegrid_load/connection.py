"""One HTTP/1.1 connection that carries one request at a time, on an event loop, without copies."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

_MAX_ANSWER_BYTES = 16 * 1024 * 1024
Answered = Callable[[int, bytes], None]  # status, body
Broken = Callable[[str, bool], None]  # reason, whether the request may simply be sent again


class TargetError(ValueError):
    """Not the address of a serve."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where serve listens."""

    host: str
    port: int
    is_tls: bool
    base_path: str

    @classmethod
    def parse(cls, url: str) -> Target:
        """Raises TargetError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TargetError(
                f"expected a target like http://127.0.0.1:8000, got {parts.scheme or 'no'} scheme"
            )
        if parts.username or parts.password or parts.query:
            raise TargetError("expected a target without credentials and query")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise TargetError(f"expected a port in 1..65535 in the target: {error}") from error
        return cls(parts.hostname, port, parts.scheme == "https", parts.path.rstrip("/"))

    def head(self, path: str, content_type: str, body_bytes: int) -> bytes:
        """The head of a POST."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            f"POST {self.base_path}{path} HTTP/1.1\r\nHost: {host}:{self.port}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {body_bytes}\r\n\r\n"
        ).encode("ascii")


class Connection(asyncio.Protocol):
    """Open it, `send`, wait for a callback, `send` again. A close while idle calls `on_idle_close`."""

    def __init__(self, on_idle_close: Callable[[Connection], None]) -> None:
        self._on_idle_close = on_idle_close
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._size_bytes = 0
        self._requests = 0
        self._answered: Answered | None = None
        self._broken: Broken | None = None
        self.retire_at_s = 0.0

    @classmethod
    async def open(
        cls, target: Target, on_idle_close: Callable[[Connection], None], timeout_s: float
    ) -> Connection:
        """Raises OSError, asyncio.TimeoutError."""
        context = ssl.create_default_context() if target.is_tls else None
        opening = asyncio.get_running_loop().create_connection(
            lambda: cls(on_idle_close), target.host, target.port, ssl=context
        )
        _, connection = await asyncio.wait_for(opening, timeout_s)
        return connection

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes, answered: Answered, broken: Broken) -> None:
        """Exactly one of the callbacks follows."""
        assert self._transport is not None
        self._answered, self._broken = answered, broken
        self._body, self._size_bytes = [], 0
        self._parser = httptools.HttpResponseParser(self)
        self._requests += 1
        self._transport.writelines((head, body))

    def close(self, reason: str = "") -> None:
        """Give up; a request under way is told `broken`."""
        if self._transport is not None:
            self._transport.abort()
        self._fail(reason, False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases

    def data_received(self, data: bytes) -> None:
        self._size_bytes += len(data)
        try:
            if self._size_bytes > _MAX_ANSWER_BYTES:
                raise httptools.HttpParserError("answer too large")
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close(f"not HTTP: {type(error).__name__}")

    def connection_lost(self, exc: Exception | None) -> None:
        # A server may close a connection that idled just when we use it again: not its failure.
        is_race = self._size_bytes == 0 and self._requests > 1
        if not self._fail(type(exc).__name__ if exc else "closed", is_race):
            self._on_idle_close(self)

    def on_body(self, body: bytes) -> None:
        """httptools: a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """httptools: the answer is whole."""
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue; the answer follows
            self._parser = httptools.HttpResponseParser(self)
            return
        answered, self._answered, self._broken = self._answered, None, None
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        if answered is not None:
            answered(status, b"".join(self._body))

    def _fail(self, reason: str, may_repeat: bool) -> bool:
        broken, self._answered, self._broken = self._broken, None, None
        if broken is None:
            return False
        broken(reason, may_repeat)
        return True
