"""Sixteen replicas against one: what routing costs when there are many.

The engine only waits (framegrid_load.synthetic), so sixteen replicas fit on two cores. Cameras offer more
than the replicas can do, open loop, so every replica could work all the time; frames answered per second
are counted from the first frame on, connections and all that has to warm up included.
"""

from __future__ import annotations

import logging
import statistics
import time
from pathlib import Path
from typing import Any

from framegrid_load.fleet import FleetProcess
from framegrid_load.sender import FleetOptions
from framegrid_load.tally import WRONG, Outcome

from framegrid_local.bench import stack
from framegrid_local.load import OwnServe, serving

logger = logging.getLogger(__name__)

REPLICAS = 16
# 16 replicas are 80 frames/s, whose HTTP and JPEGs take a part of two cores; with a shorter time the cores
# would be measured.
SERVICE_MS = 200.0
OFFERED = 1.25  # of what the engines could do
ROUNDS = 2
SECONDS = 20.0


def measure_scaling() -> dict[str, Any]:
    """scaling_efficiency: frames/s of 16 replicas over 16 times those of one."""
    rounds = []
    for _ in range(ROUNDS):
        one, many = (_served_fps(replicas) for replicas in (1, REPLICAS))
        rounds.append({"one_fps": one, "many_fps": many, "efficiency": many / (REPLICAS * one)})
        logger.info("  %s", {key: round(value, 4) for key, value in rounds[-1].items()})
    figures = {key: statistics.median(entry[key] for entry in rounds) for key in rounds[0]}
    return {
        "scaling_efficiency": round(figures["efficiency"], 4),
        "scaling": {
            "replicas": REPLICAS,
            "service_ms": SERVICE_MS,
            "one_fps": round(figures["one_fps"], 2),
            "many_fps": round(figures["many_fps"], 2),
            "rounds": [{key: round(value, 4) for key, value in entry.items()} for entry in rounds],
        },
    }


def _served_fps(replicas: int) -> float:
    with stack.scratch() as folder:
        own = OwnServe(replicas=replicas, synthetic_ms=SERVICE_MS)
        with serving(own, Path(folder)) as (url, _):
            return _fps(url, replicas)


def _fps(url: str, replicas: int) -> float:
    fps = OFFERED * 1e3 / SERVICE_MS
    options = FleetOptions(url, fps=fps, connections=8 * replicas, frames_per_request=1, deadline_s=2.0)
    with FleetProcess(options) as fleet:
        fleet.set_cameras(replicas)
        time.sleep(SECONDS)
        fleet.set_cameras(0)
    total = fleet.timeline.total()
    if any(total.outcomes[outcome] for outcome in WRONG):
        raise RuntimeError(f"expected no broken frames, got {dict(fleet.errors)}")
    # Frames go on being answered for their deadline after the last is due.
    return total.outcomes[Outcome.OK] / (SECONDS + options.deadline_s)
