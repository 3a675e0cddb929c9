"""`python -m framegrid_ingest.kubernetes.simulation`: how ownership scales, in figures. Prints JSON lines.

The pods are simulated, the rules are the real ones (see `simulated`). One line for each thing that happens to
an installation that was at rest: requests a second to the API server before it and in the worst second,
Lease events a second that watchers get, share of cameras that moved, and for how long those showed no picture
(median, longest). Exits with 1 when any interval of a camera was recorded twice or a camera has no owner.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from framegrid_ingest.kubernetes.simulated import Installation

_REST_S = 30.0


def start(cameras: int, pods: int, seed: int) -> tuple[Installation, dict[str, Any]]:
    """All pods start within two seconds."""
    world = Installation(cameras, seed)
    began_s = world.now_s
    for number in range(pods):
        offset_s = world.rng.uniform(-0.05, 0.05)
        world.at(world.rng.uniform(0, 2.0), functools.partial(_add, world, number, offset_s))
    world.let_go = dict.fromkeys(world.cameras, began_s)
    world.run(40.0)
    line = _line(world, "start", began_s, set(world.cameras), 40.0)
    return world, line


def after(
    world: Installation, what: str, change: Callable[[Installation], None], seconds: float
) -> dict[str, Any]:
    """Let the installation rest, change it, and see what follows."""
    asked, watched = world.requests.copy(), world.watch_events
    world.run(_REST_S)
    statuses = world.requests["patch status"] - asked["patch status"]
    leases = sum(world.requests.values()) - sum(asked.values()) - statuses
    events = (world.watch_events - watched) / _REST_S
    before = world.recorded_by
    began_s = world.now_s
    change(world)
    world.run(seconds)
    now = world.recorded_by
    moved = {camera for camera in world.cameras if before[camera] != now[camera]}
    line = _line(world, what, began_s, moved, seconds)
    return line | {
        "lease_requests_s_at_rest": round(leases / _REST_S, 1),
        "status_requests_s_at_rest": round(statuses / _REST_S, 1),
        "lease_events_s_at_rest": round(events),
    }


def _line(world: Installation, what: str, began_s: float, moved: set[str], seconds: float) -> dict[str, Any]:
    gaps = sorted(world.shown.get(camera, math.inf) - world.let_go[camera] for camera in moved)
    counts = [len(pod.recordings) for pod in world.pods.values() if not pod.is_dead]
    worst = max(n for second, n in world.requests_by_second.items() if began_s <= second <= began_s + seconds)
    return {
        "what": what,
        "cameras": len(world.cameras),
        "pods": len(counts),
        "moved_share": round(len(moved) / len(world.cameras), 4),
        "gap_s": round(gaps[len(gaps) // 2], 2) if gaps else 0.0,
        "longest_gap_s": round(gaps[-1], 2) if gaps else 0.0,
        "requests_worst_second": worst,
        "cameras_per_pod": [min(counts), max(counts)],
        "without_owner": sum(not by for by in world.recorded_by.values()),
    }


def _add(world: Installation, number: int, offset_s: float = 0.0) -> None:
    world.add(f"ingest-{number}", offset_s)


def _kill(world: Installation, share: float) -> None:
    alive = [pod for pod in world.pods.values() if not pod.is_dead]
    for pod in alive[: max(1, round(share * len(alive)))]:
        pod.kill()


def _leave(world: Installation) -> None:
    next(pod for pod in world.pods.values() if not pod.is_dead).leave()


def _outage(world: Installation) -> None:
    world.is_away = True
    world.at(30.0, lambda: setattr(world, "is_away", False))


def play(cameras: int, pods: int, seed: int) -> tuple[list[dict[str, Any]], int]:
    """All scenes on one installation: their lines, and how many camera intervals were recorded twice."""
    world, first = start(cameras, pods, seed)
    lines = [
        first,
        after(world, "one pod added", lambda w: _add(w, pods), 20.0),
        after(world, "one pod told to stop", _leave, 20.0),
        after(world, "one pod killed", lambda w: _kill(w, 0.0), 20.0),
        after(world, "a tenth of the pods killed", lambda w: _kill(w, 0.1), 25.0),
        after(world, "API server away for 30 s", _outage, 60.0),
    ]
    return lines, len(world.doubled())


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="framegrid_ingest.kubernetes.simulation", description=__doc__)
    parser.add_argument("--cameras", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--pods", type=int, nargs="*", default=[3, 20, 200])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    is_wrong = False
    for cameras, pods in zip(arguments.cameras, arguments.pods, strict=True):
        began_s = time.process_time()
        lines, doubled = play(cameras, pods, arguments.seed)
        for line in lines:
            print(json.dumps(line))
        print(json.dumps({"recorded_twice": doubled, "cpu_s": round(time.process_time() - began_s, 1)}))
        is_wrong |= bool(doubled) or any(line["without_owner"] for line in lines)
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
