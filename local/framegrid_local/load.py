"""`framegrid load`: the load test, with a Serve of its own when no target is given."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from framegrid_serve.activation import RUNNING

from framegrid_local import machine, ports
from framegrid_local.errors import UsageError
from framegrid_local.process import Command
from framegrid_local.state import StateDir
from framegrid_local.supervisor import ProcessService

if TYPE_CHECKING:
    from framegrid_load.run import LoadPlan

_READY_S = 300.0  # many replicas on few cores start one after another
_GRACE_S = 30.0
_USUAL_WEB_PORT = 8089  # Locust's own


@dataclass(frozen=True, slots=True)
class OwnServe:
    """The Serve to start: a model, or with `synthetic_ms` an engine that only waits."""

    model: str = "street-sim"
    replicas: int = 0  # 0: one per core, less one for the load
    synthetic_ms: float = 0.0


def run(plan: LoadPlan, own: OwnServe, state_dir: Path, *, web: bool) -> int:
    """The exit status of `framegrid load`. Raises LocalError and the load test's own errors."""
    if not plan.target:
        with serving(own, state_dir) as (url, replicas):
            return run(replace(plan, target=url, cores=plan.cores or replicas), own, state_dir, web=web)
    return _open_page(plan) if web else _measure(plan)


def require_locust() -> None:
    """Raises UsageError without the extra `load`."""
    if importlib.util.find_spec("locust") is None or importlib.util.find_spec("uvloop") is None:
        raise UsageError("the load test needs Locust: make setup-load, or pip install 'framegrid[load]'")


@contextmanager
def serving(
    own: OwnServe, state_dir: Path, *, module: str = "framegrid_serve", **settings: Any
) -> Iterator[tuple[str, int]]:
    """A Serve on a free port, stopped at the end; gives its address and its number of replicas.

    `settings` are further keys of serve.yaml, `module` is what serves.
    """
    replicas = own.replicas or machine.default_replicas()
    state = StateDir(state_dir)
    state.lock()
    port = ports.free_port()
    config = {
        "http_host": ports.LOOPBACK,
        "http_port": port,
        "replicas": replicas,
        "cpus_per_replica": 1,
        "state_dir": str(state.root / "serve"),
        **_model(own, state),
        **settings,
    }
    running = state.root / "serve" / RUNNING
    running.unlink(missing_ok=True)
    path = state.write_private(state.root / "serve-load.yaml", yaml.safe_dump(config, sort_keys=False))
    service = ProcessService(
        "serve",
        Command(
            (sys.executable, "-m", module, "--config", str(path)),
            state.logs / "serve-load.log",
            grace_s=_GRACE_S,
        ),
        running.exists,  # not /healthz, which the first replica answers while the others still start
        _READY_S,
    )
    try:
        service.start()
        yield f"http://{ports.LOOPBACK}:{port}", replicas
    finally:
        service.stop()
        state.unlock()


def _model(own: OwnServe, state: StateDir) -> dict[str, Any]:
    if own.synthetic_ms:
        from framegrid_load.synthetic import FRAMEGRID_ENGINE, MODEL, write_bundle

        bundle = write_bundle(state.root / "synthetic", own.synthetic_ms)
        models = [{"name": MODEL, "path": str(bundle.path)}]
        return {"models": models, "engine": FRAMEGRID_ENGINE.__module__}
    from framegrid_serve.workshop import resolve

    folder = resolve(own.model, state.models)
    return {"models": [{"name": folder.name, "path": str(folder)}]}


def _measure(plan: LoadPlan) -> int:
    from framegrid_load.run import run_load

    return run_load(plan, tell=lambda text: print(text, flush=True))


def _open_page(plan: LoadPlan) -> int:
    """Locust's own page; runs until Ctrl-C."""
    from framegrid_load.run import fitted, locust_argv

    plan, _ = fitted(plan)
    port = ports.free_port(_USUAL_WEB_PORT)
    argv = [*locust_argv(plan), f"--web-host={ports.LOOPBACK}", f"--web-port={port}"]
    argv += [f"--cameras={plan.cameras or 8}"]
    print(f"Locust: http://{ports.LOOPBACK}:{port}   (loads {plan.target}; Ctrl-C ends it)", flush=True)
    try:
        return subprocess.run(argv, check=False).returncode
    except KeyboardInterrupt:
        return 0
