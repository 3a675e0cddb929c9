"""A client that keeps serve busy: batches of ready JPEGs over persistent connections, closed loop.

Run as a process of its own. Prints one JSON line: frames answered OK a second.
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from pathlib import Path

import av
import numpy as np
import simplejpeg
from framegrid_serve.wire import (
    CONTENT_TYPE,
    DetectRequest,
    Frame,
    FrameStatus,
    decode_response,
    encode_request,
)

from framegrid_local.bench.codecs import scaled

WARM_UP_S = 2.0


def read_jpegs(video: Path, frames: int, longer_side: int) -> list[bytes]:
    """The video's first frames as ingest would send them: scaled to fit, JPEG at quality 90."""
    jpegs = []
    with av.open(str(video)) as container:
        for decoded in container.decode(video=0):
            picture = scaled(np.asarray(decoded.to_ndarray(format="bgr24"), np.uint8), longer_side)
            jpegs.append(
                simplejpeg.encode_jpeg(picture, quality=90, colorspace="BGR", colorsubsampling="420")
            )
            if len(jpegs) == frames:
                break
    return jpegs


class Load:
    """`connections` threads, each with one request in flight."""

    def __init__(self, port: int, jpegs: list[bytes], batch: int, connections: int) -> None:
        self._port = port
        self._bodies = [
            encode_request(
                DetectRequest(
                    tuple(Frame("bench", start + i, jpegs[(start + i) % len(jpegs)]) for i in range(batch)),
                    timeout_ms=20_000,
                )
            )
            for start in range(0, len(jpegs), batch)
        ]
        self._connections = connections
        self._ok = 0
        self._failed = 0
        self._lock = threading.Lock()

    def run(self, seconds: float) -> dict[str, float]:
        """Frames a second over `seconds`, after a warm-up."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._ask, args=(index, stop)) for index in range(self._connections)
        ]
        for thread in threads:
            thread.start()
        time.sleep(WARM_UP_S)
        before, started = self._ok, time.perf_counter()
        time.sleep(seconds)
        frames, elapsed = self._ok - before, time.perf_counter() - started
        stop.set()
        for thread in threads:
            thread.join()
        return {"fps": frames / elapsed, "failed": self._failed}

    def _ask(self, index: int, stop: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        step = index
        while not stop.is_set():
            body = self._bodies[step % len(self._bodies)]
            step += 1
            connection.request("POST", "/v1/detect", body, {"Content-Type": CONTENT_TYPE})
            response = connection.getresponse()
            answer = response.read()
            if response.status == http.client.OK:
                statuses = [result.status for result in decode_response(answer).results]
                good = sum(status is FrameStatus.OK for status in statuses)
            else:
                statuses, good = [FrameStatus.FAILED], 0
            with self._lock:
                self._ok += good
                self._failed += len(statuses) - good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    jpegs = read_jpegs(options.video, 64, options.size)
    print(json.dumps(Load(options.port, jpegs, options.batch, options.connections).run(options.seconds)))


if __name__ == "__main__":
    main()
