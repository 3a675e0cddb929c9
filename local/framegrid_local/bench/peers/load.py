"""A client that keeps any of the servers busy: ready bodies over persistent connections, closed loop.

Run as a process of its own; prints one JSON line: frames answered a second. `detections` asks each picture
once, for its boxes.
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from framegrid_serve.dataset import read_picture
from framegrid_serve.evaluation import Labelled

from framegrid_local.bench.peers.dialects import Ask, Dialect, LitServe, Predict, Roboflow, Wire

WARM_UP_S = 2.0
_TIMEOUT_S = 60.0


def dialect_of(name: str, model: str = "") -> Dialect:
    """By its name on the command line."""
    if name == "roboflow":
        return Roboflow(model)
    if name == "roboflow-batch":
        return Roboflow(model, batch=8)
    named: dict[str, Dialect] = {"wire": Wire(), "predict": Predict(), "litserve": LitServe()}
    return named[name]


def detections(port: int, dialect: Dialect, pictures: Sequence[Path], min_score: float) -> list[Labelled]:
    """What the server finds in each picture."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    found: list[Labelled] = []
    for start in range(0, len(pictures), dialect.batch):
        part = pictures[start : start + dialect.batch]
        sizes = [(image.shape[1], image.shape[0]) for image in map(read_picture, part)]
        answer = send(connection, dialect.ask([path.read_bytes() for path in part], min_score))
        found += dialect.found(answer, sizes)
    return found


def send(connection: http.client.HTTPConnection, ask: Ask) -> bytes:
    """The answer's body. Raises RuntimeError for any status but 200."""
    connection.request("POST", ask.path, ask.body, {"Content-Type": ask.content_type})
    response = connection.getresponse()
    answer = response.read()
    if response.status != http.client.OK:
        raise RuntimeError(f"{ask.path}: expected status 200, got {response.status}: {answer[:300]!r}")
    return answer


def frames_per_second(port: int, dialect: Dialect, asks: Sequence[Ask], seconds: float) -> float:
    """Of `dialect.connections` clients, each with one request in flight, after a first answer each and a
    warm-up."""
    stop = threading.Event()
    counts = [0] * dialect.connections
    failures: list[BaseException] = []

    def run(index: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        step = index * len(asks) // dialect.connections
        try:
            while not stop.is_set():
                send(connection, asks[step % len(asks)])
                counts[index] += dialect.batch
                step += 1
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(dialect.connections)]
    for thread in threads:
        thread.start()
    # Some peers load their model with the first request.
    deadline_s = time.perf_counter() + _TIMEOUT_S
    while not (all(counts) or failures or time.perf_counter() > deadline_s):
        time.sleep(0.05)
    time.sleep(WARM_UP_S)
    before, started_s = sum(counts), time.perf_counter()
    time.sleep(seconds)
    frames, elapsed_s = sum(counts) - before, time.perf_counter() - started_s
    stop.set()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"expected every request to be answered, got {failures[0]}")
    return frames / elapsed_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dialect", required=True)
    parser.add_argument("--model", default="")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--min-score", type=float, default=0.25)
    options = parser.parse_args()
    dialect = dialect_of(options.dialect, options.model)
    jpegs = [path.read_bytes() for path in sorted(options.folder.glob("*.jpg"))]
    whole = len(jpegs) // dialect.batch * dialect.batch
    asks = [
        dialect.ask(jpegs[start : start + dialect.batch], options.min_score)
        for start in range(0, whole, dialect.batch)
    ]
    print(json.dumps({"fps": frames_per_second(options.port, dialect, asks, options.seconds)}))


if __name__ == "__main__":
    main()
