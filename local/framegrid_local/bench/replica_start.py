"""How long a new replica takes on a warm node: from being asked for until it detects, and is routed to.

Run as a process of its own, because it is the node. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from framegrid_load.pictures import street_jpegs
from framegrid_serve import node as serve_node
from framegrid_serve.node import Node
from framegrid_serve.settings import ModelEntry, NodeSettings, serving_config
from framegrid_serve.spec import ServingConfig
from framegrid_serve.wire import (
    CONTENT_TYPE,
    DetectRequest,
    Frame,
    FrameStatus,
    decode_response,
    encode_request,
)

from framegrid_local import ports

STARTS = 5
# The replica that left has ended, and the worker that waits for the next has imported everything.
SETTLE_S = 20.0
_TIMEOUT_S = 60.0
_POLL_S = 0.01
_LISTENING = "0A"  # a state of /proc/net/tcp


def measure(state_dir: Path, model: str) -> dict[str, Any]:
    """`starts_s`: for each start, until the new replica answered a frame and HAProxy sent it some."""
    settings = NodeSettings(
        http_port=ports.free_port(),
        replicas=1,
        max_replicas=2,
        models=(ModelEntry(name=model),),
        state_dir=state_dir,
    )
    config = serving_config(settings)
    node = Node(settings)
    frame = Frame("bench", 0, street_jpegs()[0])
    body = encode_request(DetectRequest((frame,), timeout_ms=20_000))
    try:
        node.start(config)
        starts = []
        for _ in range(STARTS):
            _scale(settings, config, 1)
            known = _wait_replicas(1)
            starts.append(_start_one(settings, config, known, body))
        return {"starts_s": [round(sum_s, 3) for _, _, sum_s in starts], **_medians(starts)}
    finally:
        node.stop()


def _start_one(
    settings: NodeSettings, config: ServingConfig, known: set[int], body: bytes
) -> tuple[float, float, float]:
    """Seconds until its first detection, until it is routed, and until both."""
    asked_s = time.monotonic()
    _scale(settings, config, 2)
    detected_s = routed_s = 0.0
    while not (detected_s and routed_s):
        now_s = time.monotonic() - asked_s
        if now_s > _TIMEOUT_S:
            raise RuntimeError(f"expected a new replica within {_TIMEOUT_S:.0f} s, got none")
        if not routed_s and len(_routed()) > len(known):
            routed_s = now_s
        if not detected_s:
            new = (_listening() & _replica_ports()) - known
            if any(_detects(port, body) for port in new):
                detected_s = time.monotonic() - asked_s
        time.sleep(_POLL_S)
    return detected_s, routed_s, max(detected_s, routed_s)


def _medians(starts: list[tuple[float, float, float]]) -> dict[str, float]:
    names = ("first_detection_s", "routed_s", "replica_start_s")
    return {
        name: round(statistics.median(column), 3)
        for name, column in zip(names, zip(*starts, strict=True), strict=True)
    }


def _scale(settings: NodeSettings, config: ServingConfig, replicas: int) -> None:
    """As the autoscaler would, but at once."""
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    values = serve_node._deploy_config(settings, config)
    deployment = values["applications"][0]["deployments"][0]
    deployment.pop("autoscaling_config", None)
    deployment["num_replicas"] = replicas
    _get_global_client().deploy_apps(ServeDeploySchema(**values))


def _wait_replicas(count: int) -> set[int]:
    deadline_s = time.monotonic() + _TIMEOUT_S
    while len(found := _routed()) != count:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"expected {count} replicas in HAProxy's configuration, got {len(found)}")
        time.sleep(_POLL_S)
    time.sleep(SETTLE_S)
    return found


def _routed() -> set[int]:
    """Ports of the replicas that HAProxy knows."""
    folder = Path(os.environ["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"]).parent
    (path,) = folder.glob("*/haproxy.cfg")  # of the one node
    text = path.read_text()
    found = re.findall(r"^\s*server \S+ \S+:(\d+)", text, re.MULTILINE)
    return {int(port) for port in found} & _replica_ports()


def _replica_ports() -> set[int]:
    """Where replicas of this node may listen; the node has put it there."""
    first, last = (int(os.environ[f"RAY_SERVE_DIRECT_INGRESS_{end}_HTTP_PORT"]) for end in ("MIN", "MAX"))
    return set(range(first, last + 1))


def _listening() -> set[int]:
    """Ports of this machine that somebody listens on."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def _detects(port: int, body: bytes) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", "/v1/detect", body, {"Content-Type": CONTENT_TYPE})
        response = connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            return False
        return decode_response(answer).results[0].status is FrameStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--model", default="street-sim")
    options = parser.parse_args()
    print(json.dumps(measure(options.state_dir, options.model)), flush=True)
    sys.exit(0)
