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

import yaml
from people import api

START_TIMEOUT_S = 180.0
SIZE = 640


def write_bundle(folder: Path, version: str, *, score: float) -> Path:
    """A network that sees one person in the middle of any picture, with the given score."""
    return api.write_bundle(folder, api.one_person(score, SIZE), size=SIZE, version=version).path


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
