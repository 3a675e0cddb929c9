"""The chart in `kuberay` mode on a real KubeRay operator, on the test cluster; prints one JSON object.

The operator comes from KubeRay's source, which is no part of this repository:

    git clone --branch v1.7.0 --depth 1 https://github.com/ray-project/kuberay
    (cd kuberay/ray-operator && CGO_ENABLED=0 go build -o ../operator .)
    PYTHONPATH=tests python -m e2e.installation.kuberay kuberay/operator kuberay/ray-operator/config/crd/bases

Ready, rows with right counts, a worker killed, the Serve config changed in the same RayCluster, worker pods
added by the in-tree autoscaler for four times the cameras and taken away again, uninstalled. Each step raises
AssertionError where it does not come true.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.installation.kubectl import cluster, get, wait_until
from e2e.installation.measure import machine, note
from e2e.installation.release import Release, build_images
from e2e.installation.rows import Rows
from framegrid_local.serve_status import fetch, lines

NAMESPACE = "framegrid-kuberay"
CAMERAS, FPS = 2, 5.0  # names are sim-1 to sim-9 below ten, and sim-01 above
COUNTED_S = 40.0
VALUES = {
    "ray.mode": "kuberay",
    # The operator watches all namespaces from one of its own.
    "ray.kuberay.operatorNamespace": "operator-system",
    "ray.kuberay.idleTimeoutSeconds": 20,
    "ingest.autoscaling.enabled": False,
    "sim.cameras": CAMERAS,
    # One replica does for these cameras, two for four times as many; and down again while one watches.
    "serve.autoscaling.downscale_delay_s": 20,
    "serve.autoscaling.policy.policy_kwargs.target_utilisation": 0.5,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.installation.kuberay", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("operator", type=Path, help="static binary of the operator")
    parser.add_argument("crds", type=Path, help="folder of its CustomResourceDefinitions")
    options = parser.parse_args()
    cluster("up")
    try:
        cluster("operator", str(options.operator), str(options.crds))
        build_images()
        print(json.dumps(measure(), indent=1))
    finally:
        cluster("down")


def measure() -> dict[str, Any]:
    figures: dict[str, Any] = {"machine": machine()}
    release = Release(NAMESPACE, values=dict(VALUES))
    rows = Rows(release)
    names = cameras(CAMERAS)
    try:
        installed_s = time.time()
        release.install(wait=False)
        figures["install_to_rayservice_ready_s"] = seconds_until(
            "the RayService", is_ready, 600, since_s=installed_s
        )
        wait_until("a first row", rows.newest_s, 300)
        figures["install_to_first_row_s"] = round(time.time() - installed_s, 1)
        figures["counts"] = counts(rows, names)
        figures["worker_killed"] = kill_worker(release, rows, names)
        figures["config_changed_in_place_s"] = change_config(release, rows, names)
        figures["four_times_the_cameras"] = scale(release, rows)
    except AssertionError:
        note_status(release)
        release.save_logs(Path("build/kuberay-logs"))
        raise
    release.uninstall()
    figures["uninstalled_s"] = seconds_until("no pods", lambda: not get("pods", NAMESPACE), 200)
    return figures


def cameras(count: int) -> list[str]:
    return [f"sim-{number}" for number in range(1, count + 1)]


def seconds_until(
    what: str, look: Callable[[], bool], within_s: float, since_s: float | None = None
) -> float:
    """Seconds from `since_s` (unix time), or from now, until it is so."""
    started_s = time.time() if since_s is None else since_s
    wait_until(what, look, within_s)
    took_s = round(time.time() - started_s, 1)
    note(f"{what}: {took_s} s")
    return took_s


def note_status(release: Release) -> None:
    """Why there are so many replicas."""
    for report in fetch(f"http://{release.address('serve-svc')}:8000"):
        note("\n".join(lines(report, time.time())))


def ray_service() -> dict[str, Any]:
    (found,) = get("rayservices.ray.io", NAMESPACE)
    return found


def is_ready() -> bool:
    conditions = ray_service().get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def ray_clusters() -> list[str]:
    return [item["metadata"]["name"] for item in get("rayclusters.ray.io", NAMESPACE)]


def counts(rows: Rows, names: list[str]) -> dict[str, Any]:
    """Crossings stored against the simulator's truth, and that every frame is accounted for."""
    rows.wait_fresh(names, 120)
    from_s = time.time() + 3
    to_s = from_s + COUNTED_S
    rows.wait_stored(names, to_s + 2, COUNTED_S + 60)
    verdict = rows.verdict(names, from_s, to_s)
    assert verdict.is_right, verdict.wrong
    assert rows.stored(names, from_s).is_accounted_for
    covered = rows.covered(from_s, to_s)
    return {
        "crossings_true": verdict.truth,
        "frames": sum(seen.processed for seen in covered.values()),
        "frames_expected": sum(seen.expected for seen in covered.values()),
    }


def kill_worker(release: Release, rows: Rows, names: list[str]) -> dict[str, float]:
    """The only worker: what a user without a second one sees."""
    note_status(release)
    (victim,) = release.wait_ready("ray-worker", 1, 200)
    killed_s = time.time()
    release.kill(victim)
    resumed_s = max(rows.resumed_s(camera, killed_s, 300) for camera in names)
    note(f"counted again {resumed_s - killed_s:.1f} s after the only worker was killed")
    release.wait_ready("ray-worker", 1, 300)
    assert rows.doubled(killed_s, FPS) == []
    return {"counted_again_s": round(resumed_s - killed_s, 1)}


def change_config(release: Release, rows: Rows, names: list[str]) -> float:
    """A changed deployment reaches Ray in the same RayCluster, with the same pods."""
    before = ray_clusters(), sorted(release.ready("ray-worker"))
    changed_s = time.time()
    release.upgrade(serve__deployment__max_ongoing_requests=128)
    took_s = seconds_until(
        "the changed Serve config",
        lambda: release.deployed()["max_ongoing_requests"] == 128,
        120,
        since_s=changed_s,
    )
    rows.wait_fresh(names, 60)
    assert (ray_clusters(), sorted(release.ready("ray-worker"))) == before
    return took_s


def scale(release: Release, rows: Rows) -> dict[str, float]:
    clusters = ray_clusters()
    more_s = time.time()
    release.upgrade(sim__cameras=4 * CAMERAS)
    up_s = seconds_until(
        "a second worker", lambda: len(release.ready("ray-worker")) == 2, 400, since_s=more_s
    )
    rows.wait_fresh(cameras(4 * CAMERAS), 120)
    fewer_s = time.time()
    release.upgrade(sim__cameras=CAMERAS)
    down_s = seconds_until(
        "one worker again", lambda: len(release.pods("ray-worker")) == 1, 400, since_s=fewer_s
    )
    rows.wait_fresh(cameras(CAMERAS), 60)
    assert ray_clusters() == clusters
    return {"second_worker_serves_s": up_s, "one_worker_again_s": down_s}


if __name__ == "__main__":
    main()
