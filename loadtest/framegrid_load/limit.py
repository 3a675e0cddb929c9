"""What the load generator itself can send: against a server that answers at once and looks at nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import httptools
import numpy as np
import uvloop
from framegrid_serve.wire import DetectResponse, FrameResult, FrameStatus, encode_response

from framegrid_load.capacity import GeneratorLimitError, Goal, Prober, Trial, search
from framegrid_load.fleet import FleetProcess
from framegrid_load.sender import FleetOptions

_FRAMES_AT = slice(6, 8)  # u16 of the request's head: how many frames
_FIRST = 64
_BOX = FrameResult(
    FrameStatus.OK,
    np.array([[0.1, 0.1, 0.2, 0.2]], np.float32),
    np.array([0.9], np.float32),
    np.array([0], np.int16),
)


class _Null(asyncio.Protocol):
    """Every request is answered with one box a frame."""

    _answers: ClassVar[dict[int, bytes]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases
        self._parser = httptools.HttpRequestParser(self)
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """httptools: a part of the body; the first bytes say how many frames there are."""
        if len(self._head) < _FRAMES_AT.stop:
            self._head += body[: _FRAMES_AT.stop]

    def on_message_complete(self) -> None:
        """httptools: the request is whole."""
        frames = int.from_bytes(self._head[_FRAMES_AT], "little")
        self._head = b""
        self._transport.write(self._answers.get(frames) or self._answer(frames))

    def _answer(self, frames: int) -> bytes:
        body = encode_response(DetectResponse("null", "1", "", (_BOX,) * frames))
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        return self._answers.setdefault(frames, head + body)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Null, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the parent goes


@contextmanager
def null_server() -> Iterator[str]:
    """A process of its own on a free port; gives its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "framegrid_load.limit"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        port = json.loads(process.stdout.readline())["port"]
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def measure_limit(fps: float = 10.0, seconds: float = 5.0) -> dict[str, Any]:
    """Cameras that one sender carries on this machine, with its core use at that number.

    Its limit is where it comes late, or where frames take longer than 50 ms though nobody works on them.
    """
    cpu_share: dict[int, float] = {}
    with null_server() as url, FleetProcess(FleetOptions(target=url, fps=fps)) as fleet:
        prober = Prober(fleet, Goal(p95_ms=50.0, lost_share=0.0), short_s=seconds, long_s=2 * seconds)

        def attempt(cameras: int, is_long: bool) -> Trial:
            before_s = fleet.cpu_s
            try:
                trial = prober(cameras, is_long)
            except GeneratorLimitError:
                return Trial(cameras, seconds, 0, 1.0, 0.0, 0.0, False)
            cpu_share[cameras] = (fleet.cpu_s - before_s) / trial.seconds
            return trial

        cameras, trials = search(attempt, _FIRST)
    return {
        "cameras": cameras,
        "fps": fps,
        "frames_per_s": round(cameras * fps),
        "core_share": round(cpu_share.get(cameras, 0.0), 2),
        "trials": [trial.to_json() for trial in trials],
    }


if __name__ == "__main__":
    uvloop.run(_serve())
