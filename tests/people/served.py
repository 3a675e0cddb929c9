"""`python -m framegrid_serve` as a process of its own, around networks made here."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import yaml
from framegrid_serve.bundle import Manifest, file_sha256, write_manifest

START_TIMEOUT_S = 180.0
SIZE = 640


def write_bundle(folder: Path, version: str, *, score: float) -> Path:
    """A network that sees one person in the middle of any picture, with the given score."""
    onnx = pytest.importorskip("onnx", reason="needs onnx (the test extra) to make tiny networks")
    from onnx import TensorProto, helper, numpy_helper

    output = np.zeros((1, 6, 8), np.float32)
    output[0, :5, 0] = [SIZE / 2, SIZE / 2, SIZE / 4, SIZE / 2, score]
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, list(output.shape))],
        [
            numpy_helper.from_array(output, "answer"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.arange(4, dtype=np.int64), "axes"),
        ],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "tiny.onnx")
    manifest = Manifest(
        name="tiny",
        version=version,
        licence="Apache-2.0",
        layout="yolov8",
        classes=("person", "car"),
        input_size=SIZE,
        weights="tiny.onnx",
        sha256=file_sha256(folder / "tiny.onnx"),
    )
    write_manifest(folder, manifest)
    return folder


class Served:
    """`python -m framegrid_serve` as a process of its own."""

    def __init__(self, folder: Path, models: list[dict[str, str]], **settings: object) -> None:
        self.folder = folder
        self.config = folder / "serve.yaml"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.settings = {
            "http_port": self.port,
            "cpus_per_replica": 1,
            "queue_frames": 64,
            "state_dir": str(folder / "state"),
            **settings,
        }
        self.write(models)
        self.mark = uuid.uuid4().hex
        self.log = folder / "serve.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "framegrid_serve", "--config", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "FRAMEGRID_TEST_MARK": self.mark},
            )

    def write(self, models: list[dict[str, str]]) -> None:
        self.config.write_text(yaml.safe_dump({**self.settings, "models": models}))

    def ready_line(self) -> dict[str, object]:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_TIMEOUT_S)
        line = self.process.stdout.readline() if readable else b""
        assert line, f"no ready line; stderr:\n{self.log.read_text()[-3000:]}"
        return dict(json.loads(line))

    def reload(self, models: list[dict[str, str]]) -> None:
        self.write(models)
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        self.process.terminate()
        assert self.process.stdout is not None
        code = self.process.wait(60)
        self.process.stdout.close()
        return code

    def processes(self) -> list[str]:
        """Command lines of every living process that this one started, however far down."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and self.mark.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return [line for line in found if line.strip()]
