"""The chart on a real Kubernetes: installed once, then broken and changed in all ways it promises to survive.

The tests run in the order of this file on one installation (two workers, two ingest pods, four simulated
cameras, TimescaleDB); each leaves it whole. `make test-cluster` runs them: up, images, tests, down.
FRAMEGRID_KEEP_CLUSTER=1 leaves the cluster up, FRAMEGRID_CLUSTER_LOGS names a folder for the pods' logs.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.installation.kubectl import HOME, CommandError, cluster, get, get_one, helm, kubectl, wait_until
from e2e.installation.release import CHART, TAG, Release, build_images, image
from e2e.installation.rows import Rows

pytestmark = pytest.mark.cluster

KEEP = os.environ.get("FRAMEGRID_KEEP_CLUSTER") == "1"
NAMESPACE = "framegrid-e2e"
CAMERAS = ["sim-1", "sim-2", "sim-3", "sim-4"]
FPS = 5.0
# Not part of this repository: its licence is another one.
DATA = Path(os.environ.get("FRAMEGRID_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
KUBERAY_CRDS = DATA / "schemas" / "crds"


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    """The cluster with the images, up for all tests of this file, and the one installation on it."""
    cluster("up")
    values = {
        "ingest.autoscaling.enabled": False,
        "ingest.replicas": 2,
        "ray.static.startTimeoutSeconds": 120,
    }
    release = Release(NAMESPACE, values=values)
    try:
        build_images()
        yield release
    finally:
        logs = os.environ.get("FRAMEGRID_CLUSTER_LOGS")
        if logs and (HOME / "kubeconfig").exists():
            release.save_logs(Path(logs))
        if not KEEP:
            cluster("down")


@pytest.fixture(scope="module")
def rows(release: Release) -> Rows:
    return Rows(release)


@pytest.fixture
def counting(rows: Rows) -> Iterator[float]:
    """Every camera counts before and after the test, and nothing twice; yields when it began."""
    rows.wait_fresh(CAMERAS, within_s=90)
    began_s = time.time()
    yield began_s
    rows.wait_fresh(CAMERAS, within_s=90)
    assert rows.doubled(began_s, FPS) == []


# -- Installing


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("ray.mode=kuberay", "needs the KubeRay operator"),
        ("ray.mode=dynamic", "ray.mode"),
        ("ingest.replica=2", "replica"),
        ("database.mode=external", "existingSecret"),
        ("ingest.settings.interval_s=-1", "interval_s"),
    ],
    ids=["no operator", "not one of", "misspelt", "no secret named", "out of range"],
)
def test_wrong_values_are_refused_in_one_sentence_before_anything_is_installed(
    release: Release, value: str, sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        helm("install", "wrong", str(CHART), *release.arguments(), "--create-namespace", f"--set={value}")
    assert "wrong" not in helm("list", "--namespace", NAMESPACE, "--all", "--short")


def test_the_api_server_accepts_every_object_of_kuberay_mode(release: Release) -> None:
    if not KUBERAY_CRDS.is_dir():
        pytest.skip(f"needs KubeRay's CustomResourceDefinitions in {KUBERAY_CRDS}; see FRAMEGRID_TEST_DATA")
    kubectl("apply", "--server-side", "-f", str(KUBERAY_CRDS))
    try:
        kubectl("apply", "--server-side", "-f", str(CHART / "crds"))
        for definition in ("rayservices.ray.io", "cameras.framegrid.io"):
            wait_until(
                f"{definition} to be served", lambda name=definition: is_established(name), within_s=30
            )
        manifests = helm(
            "template", release.name, str(CHART), *release.arguments(), "--set=ray.mode=kuberay", "--validate"
        )
        kubectl("create", "namespace", NAMESPACE)
        accepted = kubectl("create", "--dry-run=server", "-n", NAMESPACE, "-f", "-", stdin=manifests)
    finally:
        kubectl("delete", "--ignore-not-found", "-f", str(KUBERAY_CRDS), "-f", str(CHART / "crds"))
    assert "rayservice.ray.io/framegrid created (server dry run)" in accepted


def is_established(definition: str) -> bool:
    """`kubectl wait` gives up on a definition so young that it has no conditions yet."""
    conditions = get_one("crd", "default", definition).get("status", {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def test_helm_install_waits_until_everything_is_ready(release: Release) -> None:
    release.install()
    for component, count in {"ray-head": 1, "ray-worker": 2, "ingest": 2, "database": 1, "sim": 1}.items():
        assert len(release.ready(component)) == count, component


def test_rows_of_every_camera_arrive_and_counts_agree_with_the_truth(rows: Rows) -> None:
    rows.wait_fresh(CAMERAS, within_s=120)
    from_s = time.time() + 3  # whoever is in the picture has a track by then
    to_s = from_s + 40
    rows.wait_stored(CAMERAS, to_s + 2, within_s=120)
    run = rows.stored(CAMERAS, from_s)
    assert run.is_accounted_for
    covered = rows.covered(from_s, to_s)
    assert sorted(covered) == CAMERAS
    for camera, seen in covered.items():
        assert seen.processed >= 0.9 * 40 * FPS, (camera, seen)
    verdict = rows.verdict(CAMERAS, from_s, to_s)
    assert verdict.truth > 0
    assert verdict.is_right, verdict.wrong


def test_helm_test_proves_that_a_frame_became_a_row(release: Release) -> None:
    assert "Phase:          Succeeded" in helm("test", release.name, "--namespace", NAMESPACE, "--timeout=3m")


# -- Cameras


def test_kubectl_get_cameras_tells_state_rate_and_owner(release: Release) -> None:
    def look() -> list[dict[str, Any]]:
        found = get("cameras.framegrid.io", NAMESPACE)
        running = [c for c in found if c.get("status", {}).get("state") == "running"]
        return running if len(running) == len(found) == len(CAMERAS) else []

    cameras = wait_until("four running cameras", look, within_s=60)
    owners = {camera["status"]["owner"] for camera in cameras}
    assert owners <= set(release.ready("ingest"))
    header = kubectl("-n", NAMESPACE, "get", "cameras").splitlines()[0].split()
    assert header == ["NAME", "SOURCE-KIND", "STATE", "FPS", "LAST-FRAME", "OWNER", "MESSAGE"]


def test_adding_pausing_and_deleting_a_camera_disturbs_no_other(
    release: Release, rows: Rows, counting: float
) -> None:
    url = f"http://{release.name}-sim:8090/cameras/sim-1/stream.mjpg"
    camera = {
        "apiVersion": "framegrid.io/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": "extra", "namespace": NAMESPACE},
        "spec": {"url": url, "fps": 2},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(camera))
    rows.wait_fresh(["extra"], within_s=30)
    kubectl("-n", NAMESPACE, "patch", "camera", "extra", "--type=merge", '-p={"spec": {"paused": true}}')
    wait_until("the camera to be paused", lambda: state("extra") == "paused", within_s=20)
    kubectl("-n", NAMESPACE, "delete", "camera", "extra")
    rows.wait_fresh(CAMERAS, within_s=30)
    assert_nothing_missed(rows, counting, time.time() - 3, share=0.8)


def test_an_impossible_camera_is_refused_in_one_sentence(release: Release) -> None:
    camera = {
        "apiVersion": "framegrid.io/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": "impossible", "namespace": NAMESPACE},
        "spec": {"url": "gopher://192.0.2.1/", "fps": -1},
    }
    with pytest.raises(CommandError, match=r"fps|url"):
        kubectl("apply", "-f", "-", stdin=json.dumps(camera))


def state(camera: str) -> str:
    return str(get_one("camera.framegrid.io", NAMESPACE, camera).get("status", {}).get("state", ""))


def assert_nothing_missed(rows: Rows, from_s: float, to_s: float, share: float) -> None:
    """Each camera has a row for every second, and `share` of its frames were counted."""
    rows.wait_stored(CAMERAS, to_s + 1, within_s=90)
    for camera, seen in rows.covered(from_s, to_s).items():
        if camera in CAMERAS:
            assert seen.recorded_s >= to_s - from_s - 2, (camera, seen)
            assert seen.processed >= share * seen.expected, (camera, seen)


# -- Breaking


def test_cameras_of_a_killed_ingest_pod_run_elsewhere_in_under_ten_seconds(
    release: Release, rows: Rows, counting: float
) -> None:
    (victim, *_) = owners_of(CAMERAS)
    orphans = owners_of(CAMERAS)[victim]
    killed_s = time.time()
    release.kill(victim)
    gaps_s = {camera: rows.resumed_s(camera, killed_s, within_s=40) - killed_s for camera in orphans}
    assert max(gaps_s.values()) < 10, gaps_s
    release.wait_ready("ingest", 2, within_s=90)


def test_a_frozen_ingest_pod_that_wakes_up_records_nothing_twice(
    release: Release, rows: Rows, counting: float
) -> None:
    victim, orphans = next(iter(owners_of(CAMERAS).items()))
    with release.frozen(victim):
        frozen_s = time.time()
        gaps_s = {camera: rows.resumed_s(camera, frozen_s, within_s=40) - frozen_s for camera in orphans}
        assert max(gaps_s.values()) < 10, gaps_s
    time.sleep(5)  # it goes on with what it had in hand
    rows.wait_fresh(CAMERAS, within_s=60)
    release.wait_ready("ingest", 2, within_s=90)
    assert rows.doubled(counting, FPS) == []


def test_an_ingest_pod_that_is_told_to_go_hands_its_cameras_over_in_under_three_seconds(
    release: Release, rows: Rows, counting: float
) -> None:
    victim, orphans = next(iter(owners_of(CAMERAS).items()))
    told_s = time.time()
    kubectl("-n", NAMESPACE, "delete", "pod", victim, "--wait=false")
    gaps_s = {camera: rows.longest_gap_s(camera, told_s, within_s=30) for camera in orphans}
    assert max(gaps_s.values()) < 5, gaps_s  # under 3 s without an owner, in intervals of one second
    release.wait_ready("ingest", 2, within_s=90)


def test_counting_goes_on_without_one_of_two_workers(release: Release, rows: Rows, counting: float) -> None:
    release.kill(release.ready("ray-worker")[0])
    rows.wait_fresh(CAMERAS, within_s=15)
    release.wait_ready("ray-worker", 2, within_s=180)
    assert_nothing_missed(rows, counting, time.time() - 3, share=0.5)


def test_counting_goes_on_without_the_head(release: Release, rows: Rows, counting: float) -> None:
    workers = sorted(release.ready("ray-worker"))
    release.kill(release.ready("ray-head")[0])
    rows.wait_fresh(CAMERAS, within_s=15)
    release.wait_ready("ray-head", 1, within_s=180)
    assert_nothing_missed(rows, counting, time.time() - 3, share=0.8)
    assert sorted(release.ready("ray-worker")) == workers


def test_no_row_is_lost_while_the_database_is_away(release: Release, rows: Rows, counting: float) -> None:
    release.kill(release.ready("database")[0])
    release.wait_ready("database", 1, within_s=120)
    rows.wait_fresh(CAMERAS, within_s=60)
    assert_nothing_missed(rows, counting, time.time() - 3, share=0.8)


# -- Changing


def test_an_upgrade_changes_the_serve_config_in_place_and_rollback_takes_it_back(
    release: Release, rows: Rows, counting: float
) -> None:
    workers = sorted(release.ready("ray-worker"))
    release.upgrade(serve__deployment__max_ongoing_requests=128, maintain__settings__settle_s=20)
    wait_for_ongoing(release, 128)
    assert sorted(release.ready("ray-worker")) == workers
    # As a later release would leave the schema, which no rollback takes back.
    rows.execute("UPDATE framegrid.alembic_version SET version_num = '9999'")
    rows.execute("ALTER TABLE framegrid.coverage ADD COLUMN later_ms BIGINT DEFAULT 0 NOT NULL")
    helm("rollback", release.name, "--namespace", NAMESPACE, "--wait", "--timeout=5m")
    wait_for_ongoing(release, 256)
    assert sorted(release.ready("ray-worker")) == workers
    rolled_back_s = time.time()
    wait_until("maintenance", lambda: rows.maintained_s() > rolled_back_s, within_s=60)
    assert_nothing_missed(rows, counting, time.time() - 3, share=0.8)


def wait_for_ongoing(release: Release, wanted: int) -> None:
    """A kubelet looks at a mounted ConfigMap every 60 to 90 s; the keeper beside the head does the rest."""
    wait_until(
        f"max_ongoing_requests {wanted} in Ray",
        lambda: release.deployed()["max_ongoing_requests"] == wanted,
        within_s=120,
    )


def test_new_images_roll_through_while_counting_goes_on(
    release: Release, rows: Rows, counting: float
) -> None:
    before = {pod for component in ("ingest", "ray-worker") for pod in release.ready(component)}
    for component in ("ingest", "serve"):
        cluster("tag", image(component), image(component, f"{TAG}-next"))
    release.upgrade(ingest__image__tag=f"{TAG}-next", serve__image__tag=f"{TAG}-next")
    release.wait_ready("ingest", 2, within_s=240)
    release.wait_ready("ray-worker", 2, within_s=300)
    after = {pod for component in ("ingest", "ray-worker") for pod in release.ready(component)}
    assert not before & after
    assert_nothing_missed(rows, counting, time.time() - 3, share=0.3)


def test_a_drain_takes_one_ingest_pod_at_a_time(release: Release, counting: float) -> None:
    first, second = release.ready("ingest")
    evict(first)
    with pytest.raises(CommandError, match="disruption budget"):
        evict(second)
    release.wait_ready("ingest", 2, within_s=120)


def test_ingest_scales_out_under_load(release: Release, counting: float) -> None:
    release.upgrade(ingest__autoscaling__enabled=True, ingest__autoscaling__targetCpuPercent=10)
    wait_until("a third ingest pod", lambda: len(release.ready("ingest")) > 2, within_s=150)


def evict(pod: str) -> None:
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def owners_of(cameras: list[str]) -> dict[str, list[str]]:
    """Ingest pod -> its cameras, by their status."""
    found: dict[str, list[str]] = {}
    for camera in get("cameras.framegrid.io", NAMESPACE):
        if camera["metadata"]["name"] in cameras:
            found.setdefault(camera["status"]["owner"], []).append(camera["metadata"]["name"])
    return found


# -- Removing


def test_uninstall_leaves_nothing_but_the_data_and_the_kind_of_cameras(release: Release) -> None:
    release.uninstall()
    data = [f"PersistentVolumeClaim/data-{release.name}-database-0"]
    with contextlib.suppress(AssertionError):  # the assertion below shows more
        wait_until("objects to go", lambda: objects() == data, within_s=150)  # a worker may drain for 120 s
    assert objects() == data
    kubectl("-n", NAMESPACE, "delete", "pvc", "--all", "--timeout=60s")
    kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")
    kubectl("delete", "crd", "cameras.framegrid.io", "--timeout=60s")


def objects() -> list[str]:
    """Everything in the namespace that is neither an event nor the cluster's own."""
    return [
        f"{item['kind']}/{item['metadata']['name']}"
        for kind in kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
        if kind not in ("events", "events.events.k8s.io")
        for item in get(kind, NAMESPACE)
        if not belongs_to_kubernetes(item)
    ]


def belongs_to_kubernetes(item: dict[str, Any]) -> bool:
    return (item["kind"], item["metadata"]["name"]) in {
        ("ServiceAccount", "default"),
        ("ConfigMap", "kube-root-ca.crt"),
    }


def test_down_leaves_no_process_interface_or_cgroup() -> None:
    if KEEP:
        pytest.skip("the cluster is kept: FRAMEGRID_KEEP_CLUSTER=1")
    cluster("down")
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    assert "fgcluster0" not in links
    assert not [group for group in Path("/sys/fs/cgroup").glob("**/kubepods") if group.is_dir()]
    assert not (HOME / "node").exists()
    with pytest.raises(CommandError, match=r"refused|no route|timed out|connect"):
        kubectl("get", "nodes", "--request-timeout=3s")
