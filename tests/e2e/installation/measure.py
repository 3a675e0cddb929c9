"""Measure an installation on the test cluster; prints one JSON object. `make bench-cluster`: half an hour.

Seconds are wall clock on a machine that does nothing else. A take-over lasts from the kill of a pod to
the end of the first second in which each of its cameras was counted again.
"""

from __future__ import annotations

import json
import platform
import re
import statistics
import sys
import time
from collections import Counter
from datetime import datetime
from typing import Any

from e2e.installation.kubectl import HOME, cluster, get, kubectl, wait_until
from e2e.installation.release import IMAGES, Release, build_images, image
from e2e.installation.rows import Rows

NAMESPACE = "framegrid-bench"
CAMERAS = 4
FPS = 5.0
KILLS = 20
QUIET_S = 120.0


def main() -> None:
    cluster("up")
    try:
        print(json.dumps(measure(), indent=1))
    finally:
        cluster("down")


def measure() -> dict[str, Any]:
    figures: dict[str, Any] = {"machine": machine(), "image_build_s": build_images(at_once=1)}
    figures["image_mb"] = image_sizes_mb()
    release = Release(NAMESPACE, values={"ingest.autoscaling.enabled": False, "ingest.replicas": 2})
    rows = Rows(release)
    names = [f"sim-{number}" for number in range(1, CAMERAS + 1)]
    started_s = time.time()
    release.install(wait=False)
    wait_until("a first row", rows.newest_s, 600)
    figures["install_to_first_row_s"] = round(time.time() - started_s, 1)
    rows.wait_fresh(names, 300)
    release.wait_ready("ray-worker", 2, 300)
    note("installed")
    figures["worker_pod_to_ready_s"] = cold_pod_s(release, "ray-worker", 2)
    figures["ingest_pod_to_ready_s"] = cold_pod_s(release, "ingest", 2)
    rows.wait_fresh(names, 120)
    figures |= requests_per_camera_minute(release)
    figures["take_over"] = take_over(release, rows, names)
    figures["memory_mib"] = memory(release, rows)
    return figures


def note(text: str) -> None:
    print(f"{time.strftime('%T')} {text}", file=sys.stderr, flush=True)


def machine() -> str:
    with open("/proc/cpuinfo") as file:  # noqa: PTH123
        models = re.findall(r"model name\s*: (.*)", file.read())
    return f"{len(models)} x {models[0] if models else platform.machine()}"


def image_sizes_mb() -> dict[str, int]:
    """Unpacked, as the kubelet reports them: base included."""

    def sizes() -> dict[str, int]:
        (node,) = get("nodes", "default")
        size = {name: i["sizeBytes"] for i in node["status"]["images"] for name in i["names"]}
        if not {image(component) for component in IMAGES} <= size.keys():
            return {}
        return {component: round(size[image(component)] / 1e6) for component in IMAGES}

    return wait_until("the kubelet to report every image", sizes, 120)


def cold_pod_s(release: Release, component: str, count: int) -> float:
    """From the creation of a pod to Ready, its image being there."""
    before = set(release.ready(component))
    kubectl("-n", NAMESPACE, "delete", "pod", min(before), "--wait=false")
    wait_until("a new pod", lambda: set(release.ready(component)) - before, 300)
    release.wait_ready(component, count, 300)
    (new,) = [pod for pod in release.pods(component) if pod["metadata"]["name"] not in before]
    ready = next(c for c in new["status"]["conditions"] if c["type"] == "Ready")
    return unix_s(ready["lastTransitionTime"]) - unix_s(new["metadata"]["creationTimestamp"])


def unix_s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def requests_per_camera_minute(release: Release) -> dict[str, Any]:
    """What the ingest pods ask the API server for while nothing changes, from its audit log."""
    log = HOME / "logs/audit.log"
    seen = log.stat().st_size
    time.sleep(QUIET_S)
    user = f"system:serviceaccount:{NAMESPACE}:{release.name}-ingest"
    with log.open() as file:
        file.seek(seen)
        entries = [json.loads(line) for line in file if line.endswith("\n")]
    asked = [e for e in entries if e["user"]["username"] == user and "objectRef" in e]
    found = Counter(f"{e['verb']} {resource(e['objectRef'])}" for e in asked)
    minutes = QUIET_S / 60
    note(f"API requests in {QUIET_S:.0f} s: {dict(found)}")
    return {
        "api_requests_per_minute": {what: round(count / minutes, 1) for what, count in found.items()},
        "api_requests_per_camera_minute": round(sum(found.values()) / minutes / CAMERAS, 2),
    }


def resource(reference: dict[str, str]) -> str:
    return "/".join(reference[part] for part in ("resource", "subresource") if part in reference)


def take_over(release: Release, rows: Rows, names: list[str]) -> dict[str, Any]:
    """Kill the pod with most cameras, twenty times; when its cameras count again, and what was lost."""
    gaps_s: list[float] = []
    began_s = time.time()
    for kill in range(KILLS):
        owners: dict[str, list[str]] = {}
        for camera in get("cameras.framegrid.io", NAMESPACE):
            owners.setdefault(camera["status"]["owner"], []).append(camera["metadata"]["name"])
        victim = max(
            (pod for pod in owners if pod in release.ready("ingest")), key=lambda pod: len(owners[pod])
        )
        killed_s = time.time()
        release.kill(victim)
        gaps_s += [rows.resumed_s(camera, killed_s, 60) - killed_s for camera in owners[victim]]
        note(f"kill {kill + 1}: {[round(g, 1) for g in gaps_s[-len(owners[victim]) :]]}")
        release.wait_ready("ingest", 2, 120)
        time.sleep(10)  # cameras move to the new pod
        rows.wait_fresh(names, 120)
    covered = rows.covered(began_s, time.time() - 5)
    return {
        "kills": KILLS,
        "cameras_moved": len(gaps_s),
        "p50_s": round(statistics.median(gaps_s), 1),
        "max_s": round(max(gaps_s), 1),
        "intervals_recorded_twice": len(rows.doubled(began_s, FPS)),
        "recorded_share": round(
            sum(c.recorded_s for c in covered.values()) / (CAMERAS * (time.time() - 5 - began_s)), 4
        ),
    }


def memory(release: Release, rows: Rows) -> dict[str, float]:
    """Working set of an ingest pod without cameras, and what each camera adds."""
    many = 8
    release.upgrade(sim__enabled=False, cameras=[], ingest__replicas=1)
    release.wait_ready("ingest", 1, 120)
    kubectl("-n", NAMESPACE, "delete", "pod", release.ready("ingest")[0])
    release.wait_ready("ingest", 1, 120)
    time.sleep(60)
    idle = ingest_mib(release)
    release.upgrade(sim__enabled=True, sim__cameras=many)
    rows.wait_fresh([f"sim-{number}" for number in range(1, many + 1)], 180)
    time.sleep(60)
    busy = ingest_mib(release)
    return {"ingest_idle": idle, "ingest_per_camera": round((busy - idle) / many, 1)}


def ingest_mib(release: Release) -> float:
    (pod,) = release.ready("ingest")
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods/{pod}"
    (container,) = json.loads(kubectl("get", "--raw", path))["containers"]
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi)", container["usage"]["memory"]).groups()  # type: ignore[union-attr]
    return round(int(number) / (1024 if unit == "Ki" else 1), 1)


if __name__ == "__main__":
    main()
