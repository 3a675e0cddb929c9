"""Warm workers for the replicas to come, where a node has room for some.

Most of a replica's start is a Python process that imports Ray, Ray Serve and the application. An actor gets a
worker that was started ahead and never used, but Ray starts those once, with the node. Here the raylet is
asked for more when they are used up: an internal call of the pinned Ray; without it starts are slow again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

logger = logging.getLogger(__name__)

# A step up starts a few replicas at a time; each spare holds about 150 MB.
MOST = 4
_PERIOD_S = 2.0
_ASK_TIMEOUT_S = 10.0
# Ray would end idle workers that no free CPU stands for.
_KEEP_S = 24 * 3600
_WAITING = (b"ray::IDLE", b"default_worker.py")  # a worker's command line before it has work


class Spares:
    """Keeps them from `start` to `stop`; the caller is Ray's driver, and the node's raylet its child."""

    def __init__(self, cpus_per_replica: int) -> None:
        self._cpus_per_replica = cpus_per_replica
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="spares", daemon=True)

    def start(self) -> None:
        """Begin in the background."""
        self._thread.start()

    def stop(self) -> None:
        """No more; those that wait end with Ray."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_ASK_TIMEOUT_S)

    def _keep(self) -> None:
        while not self._stopped.wait(_PERIOD_S):
            try:
                missing = self._missing()
                if missing > 0:
                    ask_for_workers(missing)
            except Exception:  # a convenience: replicas start without, only later
                logger.warning("no spare workers: new replicas will start more slowly", exc_info=True)
                return

    def _missing(self) -> int:
        import ray

        room = int(ray.available_resources().get("CPU", 0.0)) // self._cpus_per_replica
        return min(MOST, room) - len(waiting_workers())


def ask_for_workers(count: int) -> None:
    """Have the raylet of this node start so many workers, which then wait for an actor."""
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc

    mine = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == mine)
    channel = init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
    try:
        stub = node_manager_pb2_grpc.NodeManagerServiceStub(channel)
        request = node_manager_pb2.PrestartWorkersRequest(
            language=common_pb2.Language.PYTHON, num_workers=count, keep_alive_duration_secs=_KEEP_S
        )
        stub.PrestartWorkers(request, timeout=_ASK_TIMEOUT_S)
    finally:
        channel.close()


def waiting_workers() -> list[int]:
    """Processes of this node's workers that have no work, or are starting."""
    import ray

    # The raylet is their parent, and names its node on its command line.
    marker = f"--node_id={ray.get_runtime_context().get_node_id()}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                line = (entry / "cmdline").read_bytes()
                if any(mark in line for mark in _WAITING) and marker in _parent_line(entry):
                    found.append(int(entry.name))
    return found


def _parent_line(process: Path) -> bytes:
    parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
    return Path(f"/proc/{parent}/cmdline").read_bytes()
