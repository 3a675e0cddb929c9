"""A version becomes the one that serves: checked first, told to the running serve, undone when it fails.

`activate` refuses what the gate has not let through, tries the model in a process of its own, moves the name
to it, and waits until every replica answers with it; then it stays for the watch. Whatever goes wrong, the
name moves back and serve is told again, so that what is written down is what serves.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framegrid_serve.bundle import Bundle, load_bundle
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.gate import Decision
from framegrid_serve.gate_report import JSON, read_decision
from framegrid_serve.library import Activation, Library
from framegrid_serve.trial import try_bundle

GATES = ".gates"  # decisions, in the library's folder
RUNNING = "serve.json"  # in the state_dir of a serve, while it runs
_SWAP_TIMEOUT_S = 120.0
_POLL_S = 0.05
_ANSWERS_PER_REPLICA = 3  # in a row, over new connections: HAProxy gives each to another replica


@dataclass(frozen=True, slots=True)
class Running:
    """A serve on this machine."""

    pid: int
    url: str
    replicas: int

    def reload(self) -> None:
        """Have it read its models again. Raises ModelError when it is gone."""
        try:
            os.kill(self.pid, signal.SIGHUP)
        except ProcessLookupError as error:
            raise ModelError(f"expected serve to run as process {self.pid}, it has ended") from error

    def models(self) -> dict[str, Any]:
        """`/v1/models` of one replica, by name. Raises OSError."""
        with urllib.request.urlopen(f"{self.url}/v1/models", timeout=5.0) as response:
            return {model["name"]: model for model in json.load(response)["models"]}


def note_running(state_dir: Path, url: str, replicas: int) -> Path:
    """Tell `running_serve` of this process; it is to delete the file when it ends."""
    path = state_dir / RUNNING
    told = {"pid": os.getpid(), "url": url, "replicas": replicas}
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


def running_serve(state_dir: Path) -> Running | None:
    """The serve whose state lies there, if it runs."""
    try:
        told = json.loads((state_dir / RUNNING).read_text(encoding="utf-8"))
        found = Running(int(told["pid"]), str(told["url"]), int(told["replicas"]))
        command = Path(f"/proc/{found.pid}/cmdline")
        if command.parent.parent.is_dir() and b"framegrid_serve" not in command.read_bytes():
            return None  # the number belongs to another process by now
        os.kill(found.pid, 0)
    except (OSError, ValueError, KeyError):
        return None
    return found


def gate_folder(library: Library, digest: str) -> Path:
    """Where the gate's report on a candidate lies."""
    return library.models_dir / GATES / digest[:16]


def check_gate(library: Library, candidate: Bundle, current: Bundle | None) -> Decision | None:
    """The decision that lets the candidate through; None for the first of a name. Raises ModelError."""
    if current is None:
        return None
    path = gate_folder(library, candidate.digest) / JSON
    advice = f"framegrid model gate {candidate.name}@{candidate.version} --data …"
    if not path.is_file():
        raise ModelError(
            f"{candidate.name} {candidate.version}: expected a gate that compared it with "
            f"{current.version}, got none; run `{advice}`, or give a reason to do without (--force)"
        )
    decision = read_decision(path)
    against = decision.current.digest if decision.current else ""
    if (decision.candidate.digest, against) != (candidate.digest, current.digest):
        raise ModelError(
            f"{candidate.name} {candidate.version}: the gate compared it with another version than "
            f"{current.version}, which serves; run `{advice}` again"
        )
    if not decision.deploy:
        raise ModelError(
            f"{candidate.name} {candidate.version}: blocked by the gate: {'; '.join(decision.reasons)}"
        )
    return decision


def activate(
    library: Library,
    bundle: Bundle,
    *,
    by: str,
    serve: Running | None,
    action: str = "activate",
    force: str = "",
    cache_dir: Path | None = None,
    watch_s: float = 60.0,
    say: Callable[[str], None] = lambda text: None,
) -> Activation:
    """See the module. `force` is the reason to do without the gate. On ModelError all is as before."""
    folder = library.active(bundle.name)
    try:
        current = load_bundle(folder) if folder is not None else None
    except ModelError as error:  # damaged where it lies: it can be left, not gone back to
        if action == "activate" and not force:
            raise ModelError(
                f"{error}; roll back, or activate with a reason (--force): the gate cannot compare with it"
            ) from error
        current = None
    if current is not None and current.path == bundle.path.resolve():
        raise ModelError(f"{bundle.name} {bundle.version}: expected another version, this one is active")
    if action == "activate" and not force:
        check_gate(library, bundle, current)
    report = try_bundle(bundle, EngineSettings(), passed_dir=cache_dir)
    say(f"tried: runs on {report.engine} in {report.precision}, {report.peak_bytes / 1e6:.0f} MB")
    activation = library.activate(bundle, by=by, action=action, reason=force)
    if serve is None:
        say("no serve runs here; it will take this version when it starts")
        return activation
    started_s = time.monotonic()
    try:
        serve.reload()
        if not _wait_for(serve, bundle):
            say(f"serve has no model {bundle.name}; it takes this version when a camera asks for it")
            return activation
        say(f"serves after {time.monotonic() - started_s:.2f} s; watching for {watch_s:.0f} s")
        _stay(serve, bundle, watch_s)
    except ModelError as error:
        if current is not None:
            library.activate(current, by=by, action="rollback", reason=str(error))
            serve.reload()
        raise
    return activation


def _wait_for(serve: Running, bundle: Bundle) -> bool:
    """Until every replica answers with this bundle. False when none serves such a model."""
    deadline_s = time.monotonic() + _SWAP_TIMEOUT_S
    good = 0
    while time.monotonic() < deadline_s:
        model = _told(serve, bundle.name)
        if model is None:
            return False
        _check_problem(model, bundle)
        good = good + 1 if model.get("digest") == bundle.digest else 0
        if good >= _ANSWERS_PER_REPLICA * serve.replicas:
            return True
        if not good:
            time.sleep(_POLL_S)
    raise ModelError(
        f"{bundle.name} {bundle.version}: expected it to serve within {_SWAP_TIMEOUT_S:.0f} s, it does not; "
        f"see the log of serve"
    )


def _stay(serve: Running, bundle: Bundle, watch_s: float) -> None:
    deadline_s = time.monotonic() + watch_s
    while time.monotonic() < deadline_s:
        model = _told(serve, bundle.name)
        if model is not None:
            _check_problem(model, bundle)
        time.sleep(min(1.0, watch_s))


def _told(serve: Running, name: str) -> dict[str, Any] | None:
    try:
        found = serve.models().get(name)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"expected serve at {serve.url} to answer, got {type(error).__name__}") from error
    return None if found is None else dict(found)


def _check_problem(model: dict[str, Any], bundle: Bundle) -> None:
    """Serve's problem with this model; an older one is gone as soon as serve has read its models again."""
    problem = str(model.get("problem", ""))
    if problem and model.get("digest") != bundle.digest:
        raise ModelError(f"{bundle.name} {bundle.version}: not taken: {problem}; the old version serves on")
