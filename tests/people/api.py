"""The API for people in this process: the ASGI app, a real detector on a tiny network, no sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from framegrid_serve.batcher import Batcher
from framegrid_serve.bundle import Bundle, Manifest, file_sha256, write_manifest
from framegrid_serve.detector import Detector
from framegrid_serve.people.app import PeopleApi
from framegrid_serve.people.settings import PeopleSettings
from framegrid_serve.registry import ModelRegistry, ModelSpec, ServingConfig
from framegrid_serve.service import DetectService
from starlette.requests import Request

SIZE = 64


class Answer:
    """A finished response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json()["error"])


class People:
    """A replica's HTTP side: wire route, people's API, batcher, detector. Requests run on one event loop."""

    def __init__(self, bundle: Bundle, *, capacity_frames: int = 64, **settings: Any) -> None:
        self.bundle = bundle
        self.batcher = Batcher(streams=1, capacity_frames=capacity_frames)
        self.batcher.start()
        self.registry = ModelRegistry(Detector)
        spec = ModelSpec(name="tiny", path=bundle.path)
        assert self.registry.apply(ServingConfig(models=(spec,))) == []
        self.service = DetectService(self.registry, self.batcher)
        self.api = PeopleApi(self.service, PeopleSettings(**settings))
        self.service.mount(self.api.app)
        self.loop = asyncio.new_event_loop()

    def close(self) -> None:
        self.api.close()
        self.batcher.stop()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def call(self, method: str, path: str, body: bytes | Sequence[bytes] = b"", **options: Any) -> Answer:
        return self.loop.run_until_complete(self.ask(method, path, body, **options))

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        *,
        kind: str = "",
        headers: dict[str, str] | None = None,
        query: str = "",
        cut_off: bool = False,
        pause_s: float = 0.0,
        **parameters: Any,
    ) -> Answer:
        """One request. `cut_off`: the client goes away after the body's chunks; `pause_s`: before each."""
        chunks = [body] if isinstance(body, bytes) else list(body)
        waiting = [
            {"type": "http.request", "body": chunk, "more_body": cut_off or number < len(chunks) - 1}
            for number, chunk in enumerate(chunks)
        ]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if pause_s:
                await asyncio.sleep(pause_s)
            if waiting:
                return waiting.pop(0)
            if not cut_off:
                await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        raw = [(key.lower().encode(), value.encode("latin-1")) for key, value in (headers or {}).items()]
        if kind:
            raw.append((b"content-type", kind.encode("latin-1")))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": (query or urlencode(parameters, doseq=True)).encode(),
            "headers": raw,
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
        }
        response = await self.service.handle(Request(scope, receive, send))
        await response(scope, receive, send)
        head = next(message for message in sent if message["type"] == "http.response.start")
        found = {key.decode(): value.decode("latin-1") for key, value in head["headers"]}
        return Answer(head["status"], found, b"".join(message.get("body", b"") for message in sent))


def form(*files: tuple[str, bytes], **fields: str) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    boundary = "framegrid-boundary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for name, data in files:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def one_person(score: float = 0.75, size: int = SIZE) -> np.ndarray:
    """What the network answers: one person in the middle of its input."""
    output = np.zeros((1, 6, 8), np.float32)
    output[0, :5, 0] = [size / 2, size / 2, size / 4, size / 2, score]
    return output


def write_constant_onnx(path: Path, output: np.ndarray, *, size: int | None, work: int = 0) -> None:
    """An ONNX network that answers `output` (1, a, b) plus 0 x the mean of its input: any picture will do.

    To be slow it multiplies `work` matrices of 256 x 256 first.
    """
    onnx = pytest.importorskip("onnx", reason="the test extra brings onnx; tiny networks are made with it")
    from onnx import TensorProto, helper, numpy_helper

    side: int | str = "side" if size is None else size
    width: int | str = "width" if size is None else size
    nodes = [helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0)]
    constants = {
        "answer": output.astype(np.float32),
        "zero": np.zeros(1, np.float32),
        "axes": np.arange(4, dtype=np.int64),
    }
    mean = "mean"
    if work:
        constants |= {"square": np.eye(256, dtype=np.float32), "both": np.arange(2, dtype=np.int64)}
        nodes.append(helper.make_node("Mul", ["mean", "square"], ["work0"]))
        nodes += [helper.make_node("MatMul", [f"work{n}", "square"], [f"work{n + 1}"]) for n in range(work)]
        nodes.append(helper.make_node("ReduceMean", [f"work{work}", "both"], ["worked"], keepdims=0))
        mean = "worked"
    nodes += [
        helper.make_node("Mul", [mean, "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, width])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, list(output.shape))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


def write_bundle(
    folder: Path, output: np.ndarray, *, size: int = SIZE, work: int = 0, **changes: object
) -> Bundle:
    """A bundle around a constant network: `output` is what the network answers."""
    values: dict[str, object] = {
        "name": "tiny",
        "version": "1",
        "licence": "Apache-2.0",
        "layout": "yolov8",
        "classes": ["person", "car"],
        "input_size": size,
        "dynamic": False,
        "weights": "tiny.onnx",
    }
    values.update(changes)
    folder.mkdir(parents=True, exist_ok=True)
    write_constant_onnx(folder / "tiny.onnx", output, size=None if values["dynamic"] else size, work=work)
    values.setdefault("sha256", file_sha256(folder / "tiny.onnx"))
    return write_manifest(folder, Manifest.model_validate(values))
