"""`python -m framegrid_serve` for a measurement, on a free port."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from framegrid_local import ports

_READY_S = 180.0
_STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers."""

    port: int
    pid: int


@contextmanager
def serving(
    folder: Path, module: str = "framegrid_serve", prefix: Sequence[str] = (), **settings: Any
) -> Iterator[Serving]:
    """`PREFIX… python -m MODULE` with these keys of serve.yaml, its files in `folder`; stopped at the end."""
    port = ports.free_port()
    config = {"http_port": port, "state_dir": "state", **settings}
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    log_path = folder / "serve.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", module, "--config", str(path)],
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], _READY_S)
        line = process.stdout.readline() if readable else b""
        if not line:
            raise RuntimeError(f"serve did not start: {log_path.read_text()[-500:]}")
        json.loads(line)
        yield Serving(port, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        finally:
            process.stdout.close()
