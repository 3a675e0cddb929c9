"""What each of Ray's Python workers imports first (RAY_preload_python_modules): half of a replica's start.

Ray Serve comes without pandas, which it would load where it is installed (the dashboards bring it) to encode
data frames that nobody here returns: more than half of its import. Whoever imports pandas afterwards gets it.
A worker that then waits for work imports the application meanwhile (`spares.py` sees that some do).
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import time

# Who begins to work at once (the controller, proxies, the first replicas) has no time for more, and no need.
_IDLE_AFTER_S = 3.0
_APPLICATION = (
    "framegrid_serve.app",
    "framegrid_serve.people.app",
    "framegrid_serve.engines.openvino_engine",
    "onnxruntime",  # asked for CUDA when an engine is chosen
)


def import_serve() -> None:
    """Ray Serve, without pandas."""
    is_hidden = "pandas" not in sys.modules
    if is_hidden:
        sys.modules["pandas"] = None  # type: ignore[assignment]  # an import of it fails, as if not there
    try:
        importlib.import_module("ray.serve._private.replica")
    finally:
        if is_hidden:
            del sys.modules["pandas"]


def import_application_when_idle() -> None:
    """Wait, and import the application unless an actor lives here by then."""
    time.sleep(_IDLE_AFTER_S)
    # Not ray.get_runtime_context(): outside of a worker it would start a Ray.
    worker = importlib.import_module("ray._private.worker").global_worker
    if not worker.connected or not worker.actor_id.is_nil():
        return
    for name in _APPLICATION:
        with contextlib.suppress(ImportError):  # not installed here
            importlib.import_module(name)


import_serve()
threading.Thread(target=import_application_when_idle, name="preload", daemon=True).start()
