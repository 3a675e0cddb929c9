"""The limit: an OpenVINO model in a bare loop, input ready, nothing around it.

Run as a process of its own (`python -m framegrid_local.bench.raw_loop`), so that nothing else shares its
interpreter. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import threading
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
        rates[name] = _loop(compiled, frame, streams, seconds)
    return rates


def _loop(compiled: Any, frame: Any, streams: int, seconds: float) -> float:
    """One thread a stream, each with its own request: as fast as an AsyncInferQueue, without callbacks."""
    counts = [0] * streams
    stop_at = [float("inf")]

    def run(index: int) -> None:
        request = compiled.create_infer_request()
        request.set_input_tensor(ov_tensor(frame))
        for _ in range(5):
            request.infer()
        ready.wait()
        while time.perf_counter() < stop_at[0]:
            request.infer()
            counts[index] += 1

    started = [0.0]

    def start_clock() -> None:
        started[0] = time.perf_counter()
        stop_at[0] = started[0] + seconds

    ready = threading.Barrier(streams, action=start_clock)
    threads = [threading.Thread(target=run, args=(index,)) for index in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started[0])


def ov_tensor(array: Any) -> Any:
    import openvino as ov

    return ov.Tensor(array.copy())


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
