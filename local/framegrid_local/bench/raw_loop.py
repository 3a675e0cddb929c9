"""The limit: an OpenVINO model in a bare loop, input ready, nothing around it.

Run as a process of its own (`python -m framegrid_local.bench.raw_loop`), so that nothing else shares its
interpreter. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np


def measure_fps(model_path: str, height: int, width: int, cores: int, seconds: float) -> dict[str, float]:
    """Frames per second of the two sensible CPU layouts, `cores` x one thread and one x `cores` threads."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(model_path)
    model.reshape([1, 3, height, width])
    frame = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
    rates = {}
    for name, streams in (("streams_of_one_thread", cores), ("one_stream", 1)):
        settings = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": cores}
        compiled = core.compile_model(model, "CPU", settings)
        rates[name] = _loop(ov, compiled, frame, streams, seconds)
    return rates


def _loop(ov: Any, compiled: Any, frame: Any, streams: int, seconds: float) -> float:
    done = 0

    def count(_request: Any, _data: Any) -> None:
        nonlocal done
        done += 1

    queue = ov.AsyncInferQueue(compiled, streams)
    queue.set_callback(count)
    for _ in range(4 * streams):
        queue.start_async([frame])
    queue.wait_all()
    done = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        queue.start_async([frame])
    queue.wait_all()
    return done / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="OpenVINO .xml or .onnx with dynamic input")
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    rates = measure_fps(options.model, options.height, options.width, options.cores, options.seconds)
    print(json.dumps({"fps": max(rates.values()), **rates}))


if __name__ == "__main__":
    main()
