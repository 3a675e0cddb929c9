"""A part of a measurement that runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def json_of(module: str, **options: object) -> dict[str, Any]:
    """The JSON line that a module of this package prints last, run with `--KEY=VALUE` for each option.

    Raises RuntimeError with the end of what it said when it fails.
    """
    argv = [sys.executable, "-m", f"framegrid_local.bench.{module}"]
    argv += [f"--{key}={value}" for key, value in options.items()]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{module} failed: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
