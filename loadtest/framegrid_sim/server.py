"""The camera server: hundreds of MJPEG cameras over HTTP on one core, with exact truth and faults on command.

`serve` blocks until SIGTERM, SIGINT or the given event; `SimServer` is the same for an event loop of yours;
`BackgroundServer` runs one in a thread, for tests and for programs that do something else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from framegrid_sim.feed import CameraSpec
from framegrid_sim.http1 import BadRequestError, Request, Response, error_response, take_request
from framegrid_sim.routes import STREAM_TYPE, ResetAnswer, SilentAnswer, StreamAnswer, answer
from framegrid_sim.site import Channel, Site, Viewer, end_connection

logger = logging.getLogger(__name__)

DEFAULT_HOST = "127.0.0.1"  # the control routes (faults) have no password: other machines only when asked for
BACKLOG = 1024  # hundreds of cameras are opened in the same moment
START_TIMEOUT_S = 30.0

_STREAM_HEAD = (
    f"HTTP/1.1 200 OK\r\nContent-Type: {STREAM_TYPE}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
).encode()


class ServeError(RuntimeError):
    """The server cannot start; the message says what to change."""


class Connection(asyncio.Protocol):
    """One client: requests in order, or one stream."""

    def __init__(self, site: Site, connections: set[Connection]) -> None:
        self._site = site
        self._connections = connections
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._channel: Channel | None = None
        self._viewer: Viewer | None = None
        self._deaf = False  # a stream, or silence: whatever the client still sends is not read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        if self._channel is not None and self._viewer is not None:
            self._site.leave(self._channel, self._viewer)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._buffer += data
        while self._transport is not None and not self._deaf and not self._transport.is_closing():
            try:
                request = take_request(self._buffer)
            except BadRequestError as error:
                refusal = error_response(error.status, str(error))
                self._write(self._transport, refusal, head_only=False, keep_alive=False)
                return
            if request is None:
                return
            self._answer(self._transport, request)

    def end(self) -> None:
        if self._transport is not None:
            end_connection(self._transport, reset=False)

    def _answer(self, transport: asyncio.Transport, request: Request) -> None:
        found = answer(self._site, request)
        if isinstance(found, Response):
            self._write(transport, found, request.method == "HEAD", request.keep_alive)
        elif isinstance(found, StreamAnswer):
            self._deaf = True
            self._channel, self._viewer = found.channel, Viewer(transport)
            transport.write(_STREAM_HEAD)
            self._site.watch(self._channel, self._viewer)
        elif isinstance(found, ResetAnswer):
            end_connection(transport, reset=True)
        elif isinstance(found, SilentAnswer):
            self._deaf = True

    def _write(
        self, transport: asyncio.Transport, response: Response, head_only: bool, keep_alive: bool
    ) -> None:
        keep = keep_alive and not response.close
        transport.write(response.encode(head_only=head_only, keep_alive=keep))
        if not keep:
            transport.close()


def check_port(port: int) -> None:
    """Raises ValueError for what is no TCP port; 0 stands for a free one."""
    if not 0 <= port <= 65_535:
        raise ValueError(f"expected a port from 0 to 65535, got {port}")


class SimServer:
    """Cameras on a port. `start`, then `stop`, both on one event loop."""

    def __init__(self, cameras: Sequence[CameraSpec], host: str = DEFAULT_HOST, port: int = 0) -> None:
        """Raises SiteError for cameras that cannot be served together, ValueError for an impossible port."""
        check_port(port)
        self.site = Site(cameras)
        self.host = host
        self.port = port
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen; port 0 becomes a free one. Raises ServeError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self.site, self._connections), self.host, self.port, backlog=BACKLOG
            )
        except OSError as error:
            raise ServeError(
                f"expected a free address for the cameras, got {self.host}:{self.port} ({error.strerror}); "
                "choose another --port, or 0 for a free one"
            ) from error
        self.port = self.site.http_port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and end every connection."""
        if self._server is None:
            return
        self._server.close()
        self.site.stop()
        for connection in tuple(self._connections):
            connection.end()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # lets the ended connections run their connection_lost
        self._server = None

    def ready_json(self) -> dict[str, Any]:
        """What a parent process has to know, for the ready line."""
        return {"ready": True, "url": self.url, "port": self.port, "cameras": list(self.site.channels)}


async def serve_until(
    server: SimServer, stop: asyncio.Event, ready: Callable[[SimServer], None] | None = None
) -> None:
    """Serve until the event is set. `ready` is called once the port is open."""
    await server.start()
    try:
        if ready is not None:
            ready(server)
        await stop.wait()
    finally:
        await server.stop()


def stop_on_signals() -> asyncio.Event:
    """An event of the running loop that SIGTERM and SIGINT set. Main thread only."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def serve(
    cameras: Sequence[CameraSpec],
    host: str = DEFAULT_HOST,
    port: int = 0,
    ready: Callable[[SimServer], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Blocks; main thread only. Prints one JSON line when the port is open.

    Raises ServeError when the address cannot be had, SiteError for cameras that cannot be served together.
    """

    async def run() -> None:
        await serve_until(SimServer(cameras, host, port), stop_on_signals(), ready or print_ready)

    asyncio.run(run())


def print_ready(server: SimServer) -> None:
    print(json.dumps(server.ready_json()), flush=True)


class BackgroundServer:
    """A server in a daemon thread: `with BackgroundServer(cameras) as server: … server.url …`."""

    def __init__(self, cameras: Sequence[CameraSpec], host: str = DEFAULT_HOST, port: int = 0) -> None:
        self._server = SimServer(cameras, host, port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="framegrid-sim", daemon=True)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def site(self) -> Site:
        """For reading; changes go over HTTP, because the site lives on the thread's event loop."""
        return self._server.site

    def __enter__(self) -> BackgroundServer:
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S):
            raise ServeError(
                f"expected the cameras within {START_TIMEOUT_S:.0f} s, got nothing; is the machine busy?"
            )
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except (OSError, ServeError) as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        started_s = time.monotonic()
        await serve_until(self._server, self._stop, lambda _: self._ready.set())
        logger.debug("cameras served", extra={"elapsed_s": time.monotonic() - started_s})
