"""What went wrong with a camera, in one sentence: what was expected, what came, where, what to do.

Turns the exceptions of sockets, TLS, HTTP and PyAV into `SourceError`. Texts of libraries may hold the whole
URL, so they are never passed on.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

import av.error

from framegrid_ingest.errors import FrameError, SourceError, SourceFault
from framegrid_ingest.http1 import HttpError
from framegrid_ingest.urls import CameraUrl


def network_error(  # noqa: PLR0911  one return for each kind of mistake
    error: BaseException, url: CameraUrl, what: str = "an answer"
) -> SourceError:
    """SourceError for what a socket or TLS raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return SourceError(
            SourceFault.TLS,
            f"{url}: expected a certificate that this machine trusts, got one that it does not "
            f"({error.verify_message}); install the camera's CA or set tls_verify: false",
        )
    if isinstance(error, ssl.SSLError):
        return SourceError(
            SourceFault.TLS,
            f"{url}: expected TLS, got something else ({error.reason or 'handshake failed'}); "
            f"check the port, or use http:// or rtsp:// without the s",
        )
    if isinstance(error, socket.gaierror):
        return SourceError(
            SourceFault.UNREACHABLE, f"{url}: expected a host that DNS knows, got none; check its name"
        )
    if isinstance(error, ConnectionRefusedError):
        return SourceError(
            SourceFault.REFUSED,
            f"{url}: expected {what}, got connection refused; check the port and that the camera is on",
        )
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return SourceError(
            SourceFault.UNREACHABLE,
            f"{url}: expected {what}, got none in time; check the address and the network in between",
        )
    if isinstance(error, (asyncio.IncompleteReadError, EOFError)):
        return SourceError(
            SourceFault.TRUNCATED, f"{url}: expected {what}, got the end of the connection in the middle"
        )
    if isinstance(error, ConnectionError):
        return SourceError(
            SourceFault.RESET,
            f"{url}: expected {what}, got a closed connection; the camera may have restarted",
        )
    if isinstance(error, HttpError):
        return SourceError(SourceFault.NOT_VIDEO, f"{url}: {url.hide(str(error))}; check the port")
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
        return SourceError(
            SourceFault.UNREACHABLE,
            f"{url}: expected a reachable host, got no route to it; check the network",
        )
    number = getattr(error, "errno", None)
    name = errno.errorcode.get(number, "") if number else ""
    return SourceError(SourceFault.OTHER, f"{url}: expected {what}, got {name or type(error).__name__}")


def status_error(status: int, url: CameraUrl, has_credentials: bool) -> SourceError:
    """SourceError for an HTTP or RTSP status that is no success."""
    if status in (401, 403):
        advice = "check user and password" if has_credentials else "put user:${PASSWORD}@ before the host"
        return SourceError(
            SourceFault.UNAUTHORIZED, f"{url}: expected to be let in, got {status} unauthorised; {advice}"
        )
    if status in (404, 410, 454):
        return SourceError(
            SourceFault.NOT_FOUND, f"{url}: expected a stream, got {status} not found; check the path"
        )
    if status >= 500:
        return SourceError(
            SourceFault.SERVER,
            f"{url}: expected a stream, got error {status} from the camera; look at its log",
        )
    return SourceError(SourceFault.OTHER, f"{url}: expected a stream, got status {status}; check the path")


def not_video(url: CameraUrl, got: str) -> SourceError:
    """SourceError for a source that answers with something that is no picture."""
    advice = (
        "check that it is a video" if url.kind == "file" else "check the path (the camera's manual names it)"
    )
    return SourceError(SourceFault.NOT_VIDEO, f"{url}: expected video or JPEG pictures, got {got}; {advice}")


def too_large(url: CameraUrl, error: FrameError) -> SourceError:
    """SourceError for pictures that would not fit into memory."""
    return SourceError(SourceFault.TOO_LARGE, f"{url}: {error}")


def stalled(url: CameraUrl, for_s: float) -> SourceError:
    """SourceError for a stream that is open and silent."""
    return SourceError(
        SourceFault.STALLED, f"{url}: expected a new picture every {for_s:g} s, got none; opening it again"
    )


def describe_bytes(data: bytes) -> str:
    """The first bytes of an answer, for a message; bounded, printable."""
    text = data[:24].decode("latin-1")
    return repr("".join(c if c.isprintable() else "." for c in text))


def av_error(  # noqa: PLR0911  one return for each kind of mistake
    error: BaseException, url: CameraUrl, was_open: bool
) -> SourceError:
    """SourceError for what PyAV raised. `was_open`: pictures had come before."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return status_error(401, url, "@" in str(url))
    if isinstance(error, av.error.HTTPNotFoundError):
        return status_error(404, url, False)
    if isinstance(error, av.error.HTTPServerError):
        return status_error(500, url, False)
    if isinstance(error, av.error.HTTPClientError):
        return status_error(400, url, False)
    if isinstance(error, FileNotFoundError):
        return SourceError(SourceFault.NOT_FOUND, f"{url}: expected a file, got none; check the path")
    if isinstance(error, (IsADirectoryError, PermissionError)):
        return SourceError(
            SourceFault.NOT_FOUND, f"{url}: expected a file that can be read, got {error.strerror}; check it"
        )
    if isinstance(error, (av.error.ExitError, av.error.TimeoutError)):
        if was_open:
            return SourceError(
                SourceFault.STALLED, f"{url}: expected more pictures, got none; opening it again"
            )
        return network_error(TimeoutError(), url, "a stream")
    if isinstance(error, av.error.InvalidDataError):
        if was_open:
            return SourceError(SourceFault.TRUNCATED, f"{url}: expected more pictures, got broken data")
        return not_video(url, "something that no decoder knows")
    if isinstance(error, (ConnectionError, OSError)):
        return network_error(error, url, "a stream")
    return SourceError(SourceFault.OTHER, f"{url}: expected a stream, got {type(error).__name__}")
