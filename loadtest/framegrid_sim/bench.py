"""How many camera frames a second one core serves: `sim_fps`.

The server runs as its own process, as it does in use; this process only takes the bytes from its sockets
and counts the parts. `sim_fps` is the frames served per second of the *server's* CPU time, which a busy
machine changes little, and which is also right when nobody asks for as much as a core can give.
"""

from __future__ import annotations

import http.client
import json
import platform
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 120.0  # a clip is rendered when the cache has none
WARM_UP_S = 0.5
READ_BYTES = 1 << 20
_PART = b"X-Frame: "


class BenchError(RuntimeError):
    """The measurement cannot be had; the message says why."""


@dataclass(frozen=True)
class SimBench:
    sim_fps: float  # frames served per second of the server's CPU; median of the rounds
    rounds_fps: list[float]
    cameras: int
    camera_fps: float
    round_s: float
    frames_served: int
    frames_received: int  # by the consumer, in the same rounds; differs by what is on its way
    frames_skipped: int  # not sent because the consumer was behind
    frame_bytes: float  # mean size of a part
    core_share: float  # of one core, that the server took at this load
    python: str
    machine: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_sim_fps(
    cameras: int = 200,
    camera_fps: float = 10.0,
    round_s: float = 2.0,
    rounds: int = 3,
    cache_dir: Path | None = None,
) -> SimBench:
    """Serve `cameras` of 640x360 to one reader of all of them. Takes rounds * round_s and the start."""
    command = [sys.executable, "-m", "framegrid_sim", "serve", "--cameras", str(cameras), "--clips", "1"]
    command += ["--fps", str(camera_fps), "--duration", "5", "--port", "0"]
    if cache_dir is not None:
        command += ["--cache", str(cache_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            ready = _ready_line(server)
            return _measure(ready["port"], ready["cameras"], camera_fps, round_s, rounds)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(10)


def _measure(port: int, names: list[str], camera_fps: float, round_s: float, rounds: int) -> SimBench:
    reader = _Reader(port, names)
    try:
        reader.run(WARM_UP_S)
        results, received, skipped, sent_bytes = [], 0, 0, 0
        for _ in range(rounds):
            before = _stats(port)
            received += reader.run(round_s)
            after = _stats(port)
            served = after["frames_served"] - before["frames_served"]
            skipped += after["frames_skipped"] - before["frames_skipped"]
            sent_bytes += after["bytes_served"] - before["bytes_served"]
            results.append((served, after["cpu_s"] - before["cpu_s"], after["uptime_s"] - before["uptime_s"]))
    finally:
        reader.close()
    frames = sum(served for served, _, _ in results)
    if not frames:
        raise BenchError(f"expected frames from {len(names)} cameras, got none in {rounds} rounds")
    per_core = [served / cpu_s for served, cpu_s, _ in results]
    return SimBench(
        sim_fps=round(statistics.median(per_core), 1),
        rounds_fps=[round(fps, 1) for fps in per_core],
        cameras=len(names),
        camera_fps=camera_fps,
        round_s=round_s,
        frames_served=frames,
        frames_received=received,
        frames_skipped=skipped,
        frame_bytes=round(sent_bytes / frames, 1),
        core_share=round(sum(r[1] for r in results) / sum(r[2] for r in results), 4),
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
    )


class _Reader:
    """Takes what comes from every stream and counts the parts, doing as little as it can."""

    def __init__(self, port: int, names: list[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self._memory = bytearray(READ_BYTES)
        self._tails: dict[socket.socket, bytes] = {}
        for name in names:
            sock = socket.create_connection(("127.0.0.1", port), timeout=10)
            sock.sendall(f"GET /cameras/{name}/stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
            self._tails[sock] = b""

    def run(self, seconds: float) -> int:
        """Read for so long; returns the parts that began."""
        parts, end_s = 0, time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            for key, _ in self._selector.select(left_s):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                size = sock.recv_into(self._memory)
                if not size:
                    raise BenchError("expected the streams to go on, got one closed by the server")
                # A part's header may be cut in two by the end of a read.
                seam = self._tails[sock] + self._memory[: min(size, len(_PART))]
                parts += seam.count(_PART) + self._memory.count(_PART, 1, size)
                kept = len(_PART) - 1
                self._tails[sock] = (self._tails[sock] + self._memory[max(0, size - kept) : size])[-kept:]
        return parts

    def close(self) -> None:
        for sock in self._tails:
            sock.close()
        self._selector.close()


def _ready_line(server: subprocess.Popen[str]) -> dict[str, Any]:
    """The server's JSON line; what it prints in case of an error goes to our standard error."""
    assert server.stdout is not None
    watcher = selectors.DefaultSelector()
    watcher.register(server.stdout, selectors.EVENT_READ)
    came = watcher.select(START_TIMEOUT_S)
    watcher.close()
    line = server.stdout.readline() if came else ""
    if not line:
        raise BenchError("expected the camera server's ready line, got none; its message is above")
    ready: dict[str, Any] = json.loads(line)
    return ready


def _stats(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/stats")
        stats: dict[str, Any] = json.loads(connection.getresponse().read())
        return stats
    finally:
        connection.close()
