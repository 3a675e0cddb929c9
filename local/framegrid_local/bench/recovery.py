"""Load x4 on running replicas, with room on the node: until p95 is back under its target.

Framegrid's autoscaling policy beside Ray Serve's own with its defaults, turn about. The engine only waits
(framegrid_load.synthetic), so that new replicas take their starts from this machine's cores and nothing else.
Every frame counts from the step on: those of new replicas' first moments, and the lost ones as the slowest.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from pathlib import Path
from typing import Any

from framegrid_load.fleet import FleetProcess
from framegrid_load.sender import FleetOptions

from framegrid_local.bench import stack
from framegrid_local.load import OwnServe, serving

logger = logging.getLogger(__name__)

SERVICE_MS = 50.0
CAMERAS, FPS = 13, 1.0  # 13 frames/s keep one replica busy for 0.65 of its time; four times that want four
MAX_REPLICAS = 8
TARGET_MS = 500.0
BEFORE_S = 12.0
# Ray's own waits 30 s with a mean over 30 s before it adds a replica.
MOST_S = {"framegrid": 40.0, "ray": 90.0}
SETTLED_S = 10.0  # so long within the target: it is back
MODULES = {"framegrid": "framegrid_serve", "ray": "framegrid_local.bench.ray_policy_node"}
ORDER = ("framegrid", "ray", "framegrid")
# Frames of the last seconds may still be under way: their time is 1 s, and serve's silence may last 2 s more.
_UNDER_WAY_S = 4


def measure_recovery() -> dict[str, Any]:
    """step_recovery_s, and ray_step_recovery_s beside it; medians. Never back: the time that was watched."""
    found: dict[str, list[float]] = {policy: [] for policy in MODULES}
    for policy in ORDER:
        found[policy].append(_recovery_s(policy))
    medians = {policy: statistics.median(values) for policy, values in found.items()}
    return {
        "step_recovery_s": round(medians["framegrid"], 1),
        "ray_step_recovery_s": round(medians["ray"], 1),
        "step_recovery": {
            "service_ms": SERVICE_MS,
            "frames_per_s": [CAMERAS * FPS, 4 * CAMERAS * FPS],
            "target_ms": TARGET_MS,
            "watched_at_most_s": MOST_S,
            "rounds": {policy: [round(value, 1) for value in values] for policy, values in found.items()},
        },
    }


def _recovery_s(policy: str) -> float:
    own = OwnServe(replicas=1, synthetic_ms=SERVICE_MS)
    with stack.scratch() as folder:
        running = serving(own, Path(folder), module=MODULES[policy], max_replicas=MAX_REPLICAS)
        with running as (url, _), FleetProcess(FleetOptions(url, fps=FPS)) as fleet:
            fleet.set_cameras(CAMERAS)
            time.sleep(BEFORE_S)
            stepped_s = fleet.set_cameras(4 * CAMERAS)
            _watch(fleet, math.floor(stepped_s), MOST_S[policy])
            end_s = fleet.set_cameras(0)
        found = fleet.timeline.recovery_s(math.floor(stepped_s), math.floor(end_s), TARGET_MS)
    logger.info("  %s: %s s, %s", policy, found, dict(fleet.timeline.total().outcomes))
    return MOST_S[policy] if found is None else found


def _watch(fleet: FleetProcess, stepped_s: int, most_s: float) -> None:
    """Until p95 is back and has stayed for SETTLED_S, or for `most_s`."""
    while (now_s := fleet.now_s()) < stepped_s + most_s:
        seen_s = math.floor(now_s) - _UNDER_WAY_S
        back_s = fleet.timeline.recovery_s(stepped_s, seen_s, TARGET_MS)
        if back_s is not None and seen_s - stepped_s - back_s >= SETTLED_S:
            return
        time.sleep(1.0)
