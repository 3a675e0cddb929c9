"""Exactly why a stream does not open, asked of the camera itself after FFmpeg has failed.

FFmpeg says "invalid data" for a wrong password, a web page and a silent server alike. These ask once more, in
plain RTSP or HTTP, and read the answer.
"""

from __future__ import annotations

import asyncio
from urllib.parse import unquote, urlsplit

from framegrid_ingest import http_auth
from framegrid_ingest.errors import SourceError
from framegrid_ingest.http1 import HttpError
from framegrid_ingest.sources.faults import describe_bytes, network_error, not_video, status_error
from framegrid_ingest.sources.http import HttpCamera, tls_context
from framegrid_ingest.urls import CameraUrl

TIMEOUT_S = 4.0
_MAX_ANSWER_BYTES = 16 * 1024
_NETWORK_ERRORS = (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, HttpError)


async def why_not_rtsp(url: CameraUrl) -> SourceError | None:
    """The reason, or None when the camera answers DESCRIBE as it should."""
    try:
        return await asyncio.wait_for(_why_not_rtsp(url), TIMEOUT_S)
    except _NETWORK_ERRORS as error:
        return network_error(error, url, "an RTSP answer")


async def why_not_http(url: CameraUrl, tls_verify: bool) -> SourceError | None:
    """The reason, or None when the address answers 200 with something."""
    camera = HttpCamera(url, tls_verify)
    try:
        opened = await asyncio.wait_for(camera.get(), TIMEOUT_S)
        async for data in opened.connection.chunks():
            if data.startswith(b"#EXTM3U"):
                return None
            return not_video(
                url, f"{opened.head.content_type or 'data'} that starts with {describe_bytes(data)}"
            )
        return not_video(url, "an empty answer")
    except SourceError as error:
        return error
    except _NETWORK_ERRORS as error:
        return network_error(error, url)
    finally:
        camera.close()


async def _why_not_rtsp(url: CameraUrl) -> SourceError | None:
    parts = urlsplit(url.reveal())
    is_tls = parts.scheme == "rtsps"
    port = parts.port or (322 if is_tls else 554)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    target = parts._replace(netloc=f"{host}:{port}" if parts.port else f"{host}").geturl()
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    header: list[str] = []
    for attempt in range(2):
        reader, writer = await asyncio.open_connection(
            parts.hostname, port, ssl=tls_context(True) if is_tls else None
        )
        try:
            lines = [
                f"DESCRIBE {target} RTSP/1.0",
                f"CSeq: {attempt + 1}",
                "Accept: application/sdp",
                *header,
            ]
            request = "\r\n".join([*lines, "", ""])
            writer.write(request.encode())
            await writer.drain()
            answer = await _head_of(reader)
        finally:
            writer.transport.abort()
        if not answer.startswith("RTSP/"):
            got = describe_bytes(answer.encode()) if answer else "nothing"
            return not_video(url, f"an answer that is no RTSP: {got}")
        code = answer.split(" ", 2)[1:2]
        status = int(code[0]) if code and code[0].isdigit() else 0
        if status == 200:
            return None
        challenges = "\n".join(
            line.partition(":")[2].strip()
            for line in answer.split("\r\n")
            if line.lower().startswith("www-authenticate:")
        )
        authorization = http_auth.authorization(challenges, "DESCRIBE", target, user=user, password=password)
        if status != 401 or not user or authorization is None or attempt:
            return status_error(status, url, bool(user))
        header = [f"Authorization: {authorization}"]
    return None


async def _head_of(reader: asyncio.StreamReader) -> str:
    data = b""
    while b"\r\n\r\n" not in data and len(data) < _MAX_ANSWER_BYTES:
        chunk = await reader.read(4096)
        if not chunk:
            break
        data += chunk
    return data.decode("latin-1")
