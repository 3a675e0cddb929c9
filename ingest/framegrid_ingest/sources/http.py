"""Cameras over HTTP: open one, with authentication and redirects, and tell what it sends.

`HttpReader` looks at what comes (multipart or bare JPEGs, a single JPEG, HLS, any other video) and reads it
as that, unless the configuration names the kind.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import aclosing
from typing import NamedTuple
from urllib.parse import urljoin

from framegrid_ingest import http_auth
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import SourceError, SourceFault
from framegrid_ingest.http1 import Address, Connection, Head, HttpError, address_of
from framegrid_ingest.intake import Intake
from framegrid_ingest.jpeg_stream import boundary_of
from framegrid_ingest.sources.faults import describe_bytes, network_error, not_video, status_error
from framegrid_ingest.sources.reader import OPEN_TIMEOUT_S, Reader
from framegrid_ingest.urls import CameraUrl

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 3
_NETWORK_ERRORS = (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, HttpError)
_HLS_TYPES = frozenset(
    {"application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl", "audio/x-mpegurl"}
)


class Opened(NamedTuple):
    """An answer whose body is still to be read."""

    connection: Connection
    head: Head
    address: Address


def tls_context(verify: bool) -> ssl.SSLContext:
    """For https cameras. Without `verify` the line is encrypted, but to whom is anybody's guess."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class HttpCamera:
    """Sends GET requests to one camera, keeps the connection where it can. Raises SourceError."""

    def __init__(self, url: CameraUrl, tls_verify: bool = True) -> None:
        self.url = url
        self._address = address_of(url.reveal())
        self._context = tls_context(tls_verify) if self._address.scheme == "https" else None
        self._connection: Connection | None = None
        self._challenges = ""

    async def get(self) -> Opened:
        """Answer 200, body unread."""
        try:
            return await asyncio.wait_for(self._get(), OPEN_TIMEOUT_S)
        except _NETWORK_ERRORS as error:
            self.close()
            raise network_error(error, self.url) from None

    async def get_body(self, limit_bytes: int) -> tuple[Head, bytes]:
        """Answer 200 and its whole body."""
        opened = await self.get()
        try:
            body = await asyncio.wait_for(opened.connection.body(limit_bytes), OPEN_TIMEOUT_S)
        except _NETWORK_ERRORS as error:
            self.close()
            raise network_error(error, self.url, "a whole picture") from None
        return opened.head, body

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _get(self) -> Opened:
        address = self._address
        for _ in range(MAX_REDIRECTS + 2):
            connection, head = await self._exchange(address)
            if head.status == 200:
                return Opened(connection, head, address)
            self.close()
            if head.status == 401 and address.user and not self._challenges:
                self._challenges = head.headers.get("www-authenticate", "")
                if self._challenges:
                    continue
            if head.status in _REDIRECTS and "location" in head.headers:
                address = self._redirected(address, head.headers["location"])
                continue
            # A digest nonce grows old: ask for a new one at the next attempt.
            self._challenges = ""
            raise status_error(head.status, self.url, bool(address.user))
        raise SourceError(
            SourceFault.OTHER,
            f"{self.url}: expected a stream, got more than {MAX_REDIRECTS} redirects; use the final address",
        )

    async def _exchange(self, address: Address) -> tuple[Connection, Head]:
        if self._connection is not None and not self._connection.is_reusable:
            self.close()
        connection = self._connection or await Connection.open(address, self._context)
        self._connection = connection
        headers = [("Accept", "multipart/x-mixed-replace, image/jpeg, video/*, */*")]
        if self._challenges and address.user:
            answer = http_auth.authorization(
                self._challenges, "GET", address.target, user=address.user, password=address.password
            )
            if answer is None:
                raise SourceError(
                    SourceFault.UNAUTHORIZED,
                    f"{self.url}: expected Basic or Digest authentication, got a method that is not known; "
                    f"change it in the camera",
                )
            headers.append(("Authorization", answer))
        await connection.send(address, headers=headers)
        return connection, await connection.head()

    def _redirected(self, address: Address, location: str) -> Address:
        base = f"{address.scheme}://{address.host_header}{address.target}"
        target = address_of(urljoin(base, location))
        if target.scheme == "https" and self._context is None:
            self._context = tls_context(True)
        is_same_host = target.host == address.host and not (
            address.scheme == "https" and target.scheme == "http"
        )
        if is_same_host and not target.user:  # credentials go to nobody else
            return Address(
                target.scheme, target.host, target.port, target.target, address.user, address.password
            )
        return target


class HttpReader:
    """A camera of which only the http address is known."""

    def __init__(self, camera: CameraConfig) -> None:
        self._camera = camera

    async def read(self, intake: Intake) -> None:
        """Ask what it is, then read it as that."""
        # Imported here: these modules are built on this one.
        from framegrid_ingest.sources.jpeg import JpegReader
        from framegrid_ingest.sources.mjpeg import MjpegReader
        from framegrid_ingest.sources.video import HlsReader, RecordingReader

        source = HttpCamera(self._camera.url, self._camera.tls_verify)
        try:
            opened = await source.get()
            kind = await self._kind_of(opened)
            if kind == "mjpeg":
                reader = MjpegReader(self._camera, source)
                try:
                    return await reader.read_opened(intake, opened)
                except SourceError:
                    if reader.pictures != 1 or opened.head.content_type != "image/jpeg":
                        raise
                    kind = "jpeg"  # one picture, then the end: it wants to be asked for each
        finally:
            source.close()
        readers: dict[str, Callable[[CameraConfig], Reader]] = {
            "jpeg": JpegReader,
            "hls": HlsReader,
            "mjpeg again": MjpegReader,
        }
        await readers.get(kind, RecordingReader)(self._camera).read(intake)

    async def _kind_of(self, opened: Opened) -> str:  # noqa: PLR0911  one return for each kind
        head = opened.head
        media_type = head.content_type
        if media_type.startswith("multipart/") and boundary_of(head.headers["content-type"]):
            return "mjpeg"
        if media_type in _HLS_TYPES:
            return "hls"
        if media_type == "image/jpeg":
            return "jpeg" if "content-length" in head.headers else "mjpeg"
        if media_type in ("video/x-motion-jpeg", "video/x-jpeg", "video/mjpeg"):
            return "mjpeg"
        if media_type.startswith("video/"):
            return "video"
        try:
            first = await asyncio.wait_for(_first_chunk(opened.connection), OPEN_TIMEOUT_S)
        except _NETWORK_ERRORS as error:
            raise network_error(error, self._camera.url) from None
        if not first:
            raise SourceError(
                SourceFault.EMPTY,
                f"{self._camera.url}: expected pictures, got an empty answer; check the path",
            )
        if first.startswith(b"\xff\xd8"):
            return "jpeg" if "content-length" in head.headers else "mjpeg again"
        if first.startswith(b"#EXTM3U"):
            return "hls"
        if media_type in ("application/octet-stream", "", "binary/octet-stream", "application/mp4"):
            return "video"
        raise not_video(
            self._camera.url, f"{media_type or 'no content type'} that starts with {describe_bytes(first)}"
        )


async def _first_chunk(connection: Connection) -> bytes:
    async with aclosing(connection.chunks()) as chunks:
        async for chunk in chunks:
            return chunk
    return b""
