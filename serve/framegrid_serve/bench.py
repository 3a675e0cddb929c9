"""What serving costs: frames/s through HTTP and back, against the same network in a bare loop.

`python -m framegrid_serve.bench --model DIR --pictures DIR [--threads 2] [--seconds 10]` starts a serve of
its own, measures both in turn three times, and prints one JSON line with the medians. The bare loop gets its
input ready made: no JPEG, no boxes, no suppression. Both run on the same cores, client included.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import yaml

from framegrid_serve.bundle import Bundle, load_bundle, rect_shape
from framegrid_serve.errors import ServeError
from framegrid_serve.node import free_ports
from framegrid_serve.wire import (
    CONTENT_TYPE,
    DetectRequest,
    Frame,
    FrameStatus,
    decode_response,
    encode_request,
)

_ROUNDS = 3
_BATCH_FRAMES = 8
_JPEG_QUALITY = 90


def bare_loop_fps(bundle: Bundle, height: int, width: int, *, threads: int, seconds: float) -> float:
    """Inferences per second of the bundle's network alone, `threads` streams of one thread."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(bundle.weights_path)
    if bundle.manifest.dynamic:
        model.reshape([1, 3, height, width])
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
    requests = ov.AsyncInferQueue(core.compile_model(model, "CPU", options), threads)
    ready = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
    for _ in range(2 * threads):
        requests.start_async({0: ready}, share_inputs=True)
    requests.wait_all()
    count, started_s = 0, time.perf_counter()
    while time.perf_counter() - started_s < seconds:
        requests.start_async({0: ready}, share_inputs=True)
        count += 1
    requests.wait_all()
    return count / (time.perf_counter() - started_s)


def http_fps(url: str, jpegs: Sequence[bytes], *, connections: int, seconds: float) -> float:
    """Frames answered OK per second, in requests of 8, by so many clients that each wait for their answer.

    Raises ServeError on any other answer: a refused frame would make the figure look better than it is.
    """
    address = urllib.parse.urlsplit(url)
    bodies = [_body(jpegs[start : start + _BATCH_FRAMES]) for start in range(0, len(jpegs), _BATCH_FRAMES)]
    ends_s = time.perf_counter() + seconds
    counts, problems = [0] * connections, list[str]()

    def send(client: int) -> None:
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60.0)
        turn = client
        while time.perf_counter() < ends_s and not problems:
            connection.request(
                "POST", "/v1/detect", bodies[turn % len(bodies)], {"Content-Type": CONTENT_TYPE}
            )
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                problems.append(f"expected status 200, got {answer.status}: {content[:200]!r}")
                return
            statuses = [result.status for result in decode_response(content).results]
            if set(statuses) != {FrameStatus.OK}:
                problems.append(f"expected OK for every frame, got {statuses}")
            counts[client] += len(statuses)
            turn += 1
        connection.close()

    started_s = time.perf_counter()
    threads = [threading.Thread(target=send, args=(client,)) for client in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise ServeError(problems[0])
    return sum(counts) / (time.perf_counter() - started_s)


def frames_from(pictures: Path, size: int, count: int = 32) -> tuple[list[bytes], tuple[int, int]]:
    """JPEG frames as a 16:9 camera sends them (cut, not squeezed), and the network's shape for them."""
    height, width = size * 9 // 16, size
    jpegs: list[bytes] = []
    for path in sorted(pictures.glob("*.jpg")):
        image = cv2.imread(str(path))
        if image is None or len(jpegs) == count:
            continue
        ratio = max(height / image.shape[0], width / image.shape[1])
        scaled = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
        top, left = max(0, scaled.shape[0] - height) // 2, max(0, scaled.shape[1] - width) // 2
        cut = np.ascontiguousarray(scaled[top : top + height, left : left + width])
        jpegs.append(simplejpeg.encode_jpeg(cut, quality=_JPEG_QUALITY, colorspace="BGR"))
    if not jpegs:
        raise ServeError(f"{pictures}: expected .jpg pictures, got none")
    return jpegs, rect_shape(height, width, size)


def measure(model: Path, pictures: Path, *, threads: int, seconds: float) -> dict[str, object]:
    """Both loops in turn, `_ROUNDS` times, around one serve; medians, and the ratio of each pair."""
    bundle = load_bundle(model)
    jpegs, (height, width) = frames_from(pictures, bundle.manifest.input_size)
    raw, served = [], []
    with tempfile.TemporaryDirectory(prefix="fg-bench-") as folder:
        (port,) = free_ports(1)
        values = {"http_port": port, "cpus_per_replica": threads, "state_dir": folder}
        values["models"] = [{"name": "bench", "path": str(model.resolve())}]
        config = Path(folder) / "serve.yaml"
        config.write_text(yaml.safe_dump(values), encoding="utf-8")
        command = [sys.executable, "-m", "framegrid_serve", "--config", str(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                ready = json.loads(process.stdout.readline() or b"{}")
                if not ready:
                    raise ServeError("serve did not start; its message is above")
                http_fps(ready["url"], jpegs, connections=2, seconds=2.0)  # compiles and warms
                for _ in range(_ROUNDS):
                    raw.append(bare_loop_fps(bundle, height, width, threads=threads, seconds=seconds / 2))
                    served.append(http_fps(ready["url"], jpegs, connections=threads + 1, seconds=seconds))
                    raw[-1] += bare_loop_fps(bundle, height, width, threads=threads, seconds=seconds / 2)
                    raw[-1] /= 2
            finally:
                process.terminate()
                process.wait(60)
    ratios = [fps / bare for fps, bare in zip(served, raw, strict=True)]
    return {
        "serve_over_raw": round(statistics.median(ratios), 3),
        "serve_over_raw_rounds": [round(ratio, 3) for ratio in ratios],
        "serve_fps": round(statistics.median(served), 1),
        "raw_fps": round(statistics.median(raw), 1),
        "network_input": f"{width}x{height}",
        "frame_bytes": round(statistics.mean(map(len, jpegs))),
        "threads": threads,
        "startup_s": ready["startup_s"],
    }


def main() -> int:
    """Print the figures of `measure` as one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m framegrid_serve.bench", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    figures = measure(options.model, options.pictures, threads=options.threads, seconds=options.seconds)
    print(json.dumps(figures))
    return 0


def _body(jpegs: Sequence[bytes]) -> bytes:
    frames = tuple(Frame("bench", seq, jpeg) for seq, jpeg in enumerate(jpegs))
    return encode_request(DetectRequest(frames, timeout_ms=60_000))


if __name__ == "__main__":
    raise SystemExit(main())
