"""A model is tried in a process of its own before a replica loads it.

What would take a replica down (a crash in native code, memory without end, a hang) takes this process down,
and the old model serves on. The trial verifies the bundle, opens the engine and runs the golden frame.
A bundle that passed is noted in `passed_dir`, by everything that could change the outcome, and is not tried
again on this machine: a rollback, or the second replica of a node, pays nothing.

`python -m framegrid_serve.trial FOLDER` is the child; it prints one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict

from framegrid_serve.bundle import MANIFEST, Bundle, load_bundle
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.memory import peak_bytes

# Compiling a large model on a busy core takes tens of seconds; beyond this it would not serve either.
TRIAL_TIMEOUT_S = 120.0
_KEPT_FILES = 100
_REFUSED = 3  # the child's exit status for a ModelError, told on stdout


class TrialReport(BaseModel):
    """What the child saw."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str
    precision: str
    peak_bytes: int  # resident memory of the whole child: engine, model, one picture


def try_bundle(
    bundle: Bundle,
    settings: EngineSettings,
    *,
    passed_dir: Path | None = None,
    timeout_s: float = TRIAL_TIMEOUT_S,
) -> TrialReport:
    """Try a bundle in a child process; blocks. Raises ModelError when it may not serve."""
    note = None if passed_dir is None else passed_dir / f"{_key(bundle, settings)}.json"
    if note is not None:
        with contextlib.suppress(OSError, ValueError):
            return TrialReport.model_validate_json(note.read_bytes())
    report = _run_child(bundle, settings, timeout_s)
    if note is not None:
        _write_note(note, report)
    return report


def _run_child(bundle: Bundle, settings: EngineSettings, timeout_s: float) -> TrialReport:
    argv = [sys.executable, "-m", "framegrid_serve.trial", str(bundle.path)]
    argv += ["--settings", settings.model_copy(update={"threads": 1}).model_dump_json()]
    argv += ["--seconds", str(int(timeout_s) + 1)]
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            code = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                timeout=timeout_s,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"{bundle.path}: expected an answer within {timeout_s:.0f} s in a trial, got none; "
                f"the engine hangs on it or the machine is far too slow"
            ) from None
        last_line = _tail(stdout)
        if code == 0:
            return TrialReport.model_validate_json(last_line)
        if code == _REFUSED:
            raise ModelError(str(json.loads(last_line)["error"]))
        how = f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        raise ModelError(
            f"{bundle.path}: expected the model to run in a trial, got a crash of the engine ({how}): "
            f"{_tail(stderr) or 'no message'}"
        )


def _tail(file: IO[bytes]) -> str:
    """The last line of what the child wrote, bounded."""
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 65536))
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _key(bundle: Bundle, settings: EngineSettings) -> str:
    """A digest of everything that decides how a trial ends."""
    parts = [
        bundle.digest,
        hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest(),
        settings.engine,
        settings.form,
        platform.machine(),
        *(f"{package} {_version(package)}" for package in ("framegrid", "openvino", "onnxruntime")),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _write_note(note: Path, report: TrialReport) -> None:
    """A convenience: a folder that cannot be written only costs the next trial its time."""
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        scratch = note.with_suffix(f".{os.getpid()}")
        scratch.write_text(report.model_dump_json(), encoding="utf-8")
        scratch.replace(note)


def prune_cache(cache_dir: Path | None) -> None:
    """Keep the newest files: engines put a compiled network there for each shape of each model."""
    if cache_dir is None:
        return
    with contextlib.suppress(OSError):  # another replica prunes the same folder
        files = sorted(
            (path for path in cache_dir.iterdir() if path.is_file()), key=lambda path: path.stat().st_mtime
        )
        for path in files[:-_KEPT_FILES]:
            path.unlink()


def main() -> int:
    """The child: exit status 0 and a report, or 3 and the reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", type=EngineSettings.model_validate_json, default=EngineSettings())
    parser.add_argument("--seconds", type=int, default=int(TRIAL_TIMEOUT_S))
    options = parser.parse_args()
    signal.alarm(options.seconds)  # the parent may be gone
    os.nice(10)  # frames of the model that serves go first
    with contextlib.suppress(OSError):  # Linux alone: when memory runs out, this process goes
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        print(try_here(options.folder, options.settings).model_dump_json())
        return 0
    except ModelError as error:
        print(json.dumps({"error": str(error)[:4000]}))
        return _REFUSED


def try_here(folder: Path, settings: EngineSettings) -> TrialReport:
    """The trial itself, in this process. Raises ModelError."""
    from framegrid_serve.detector import Detector
    from framegrid_serve.golden import check_golden

    detector = Detector(load_bundle(folder), settings)
    check_golden(detector)
    return TrialReport(
        engine=detector.engine.name,
        precision=detector.engine.precision,
        peak_bytes=peak_bytes(),
    )


if __name__ == "__main__":
    # Straight out: engines are known to crash while the interpreter takes them apart.
    code = main()
    sys.stdout.flush()
    os._exit(code)
