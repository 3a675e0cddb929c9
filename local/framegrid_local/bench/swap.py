"""Activations of a real model on a real Ray Serve, under load: how long they take, and what they lose."""

from __future__ import annotations

import http.client
import shutil
import statistics
import tempfile
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from framegrid_serve.activation import activate, running_serve
from framegrid_serve.bundle import Bundle, Manifest, file_sha256, load_bundle, write_manifest
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.golden import GOLDEN_IMAGE
from framegrid_serve.library import Library
from framegrid_serve.settings import COMPILED
from framegrid_serve.trial import try_bundle
from framegrid_serve.wire import (
    CONTENT_TYPE,
    DetectRequest,
    Frame,
    FrameStatus,
    decode_response,
    encode_request,
)
from framegrid_serve.workshop import resolve

from framegrid_local.bench import inputs
from framegrid_local.bench.process_tree import tree_bytes
from framegrid_local.bench.serve_load import read_jpegs
from framegrid_local.bench.serving import Serving, serving

MODEL = "street-sim"
SWAPS = 100
MEMORY_EVERY = 5
CLIENTS = 2
_STOP_S = 60.0


def measure_swap() -> dict[str, Any]:
    """swap_s: from telling serve until every replica answers with the new version, median. swap_failed.

    The trial, which the gate and `framegrid model activate` make beforehand, is not part of it.
    """
    with tempfile.TemporaryDirectory(prefix="fg-bench-") as name:
        folder = Path(name)
        library = Library(folder / "models")
        bundles = [_version(library, version) for version in ("1", "2")]
        for bundle in bundles:
            try_bundle(bundle, EngineSettings(), passed_dir=folder / "state" / COMPILED)
        jpegs = read_jpegs(inputs.video(), 16, bundles[0].manifest.input_size)
        with _serving(folder) as server, Clients(server.port, jpegs) as clients:
            took_s: list[float] = []
            memory_bytes: list[int] = []
            for turn in range(SWAPS):
                took_s.append(_swap(library, bundles[(turn + 1) % 2], folder / "state"))
                if (turn + 1) % MEMORY_EVERY == 0:
                    memory_bytes.append(tree_bytes(server.pid))
    return {
        "swap_s": round(statistics.median(took_s), 3),
        "swap_failed": clients.failed,
        "swap_memory_growth": round(growth(memory_bytes), 4),
        "swap": {
            "swaps": SWAPS,
            "longest_s": round(max(took_s), 3),
            "frames_answered": clients.answered,
            "memory_mib": [round(size / 2**20, 1) for size in memory_bytes],
        },
    }


def growth(memory_bytes: list[int]) -> float:
    """Memory of the last third over that of the first, less 1; medians, since a replica loads meanwhile."""
    third = max(1, len(memory_bytes) // 3)
    return statistics.median(memory_bytes[-third:]) / statistics.median(memory_bytes[:third]) - 1


class Clients:
    """Threads that ask all the time; a frame that is not answered OK has failed."""

    def __init__(self, port: int, jpegs: list[bytes]) -> None:
        self.answered = self.failed = 0
        self._port = port
        frames = tuple(Frame("bench", index, jpeg) for index, jpeg in enumerate(jpegs[:2]))
        self._body = encode_request(DetectRequest(frames, MODEL, timeout_ms=20_000))
        self._frames = len(frames)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_STOP_S)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stop.is_set():
            good = 0
            try:
                connection.request("POST", "/v1/detect", self._body, {"Content-Type": CONTENT_TYPE})
                response = connection.getresponse()
                answer = response.read()
                if response.status == http.client.OK:
                    results = decode_response(answer).results
                    good = sum(result.status is FrameStatus.OK for result in results)
            except (OSError, http.client.HTTPException):
                connection.close()
            with self._lock:
                self.answered += good
                self.failed += self._frames - good


def _swap(library: Library, bundle: Bundle, state_dir: Path) -> float:
    """Seconds that the command told."""
    said: list[str] = []
    activate(
        library,
        bundle,
        by="bench",
        serve=running_serve(state_dir),
        force="bench",
        cache_dir=state_dir / COMPILED,
        watch_s=0.0,
        say=said.append,
    )
    told = next(line for line in said if line.startswith("serves after "))
    return float(told.split()[2])


def _version(library: Library, version: str) -> Bundle:
    """The packaged model with other bytes: as a model trained again would be, of the same size."""
    import onnx

    packaged = load_bundle(resolve(MODEL))
    with library.workspace() as folder:
        made = folder / "bundle"
        made.mkdir()
        network = onnx.load(packaged.weights_path)
        network.doc_string = f"version {version}"
        onnx.save(network, made / packaged.manifest.weights)
        shutil.copyfile(packaged.path / GOLDEN_IMAGE, made / GOLDEN_IMAGE)
        values = packaged.manifest.model_dump(mode="json", exclude={"size_bytes"})
        values |= {"version": version, "sha256": file_sha256(made / packaged.manifest.weights)}
        return library.keep(write_manifest(made, Manifest.model_validate(values)))


def _serving(folder: Path) -> AbstractContextManager[Serving]:
    """Serve on the library in `folder`."""
    models = [{"name": MODEL, "path": f"models/{MODEL}"}]
    return serving(folder, models=models, watch={"window_s": 1})
