"""The Camera definition and the Lease rules on a real API server (etcd and kube-apiserver alone)."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from framegrid_ingest.kubernetes.cluster import CAMERAS, LEASES, Cluster, ClusterError, ConflictError, Watch
from framegrid_ingest.kubernetes.leases import ended, lease_object, member_lease, written
from framegrid_ingest.kubernetes.membership import Step
from framegrid_ingest.kubernetes.rendezvous import Member
from framegrid_ingest.kubernetes.resource import GROUP, KIND, VERSION
from kubernetes import client, config

pytestmark = pytest.mark.integration

CRD_FILE = Path(__file__).parents[3] / "charts/framegrid/crds/cameras.framegrid.io.yaml"
GOOD = {
    "url": "rtsp://viewer:${password}@192.0.2.5/stream",
    "secretRef": {"name": "gate"},
    "fps": 5,
    "classes": {"person": {"of": ["person"]}},
    "zones": [{"name": "door", "polygon": [[0.1, 0.1], [0.5, 0.1], [0.5, 0.9]]}],
    "lines": [{"name": "in", "start": [0.1, 0.5], "end": [0.9, 0.5]}],
}


@pytest.fixture(scope="module")
def cluster(api_server: Path) -> Iterator[Cluster]:
    cluster = Cluster("default", api_server)
    configuration = client.Configuration()
    config.load_kube_config(config_file=str(api_server), client_configuration=configuration)
    with client.ApiClient(configuration) as connection:
        definitions = client.ApiextensionsV1Api(connection)
        definitions.create_custom_resource_definition(yaml.safe_load(CRD_FILE.read_text()))
        until_s = time.monotonic() + 30
        while True:
            found = definitions.read_custom_resource_definition(f"cameras.{GROUP}")
            conditions = {c.type: c.status for c in found.status.conditions or ()}
            if conditions.get("Established") == "True":
                break
            assert time.monotonic() < until_s, conditions
            time.sleep(0.1)
        assert "NonStructuralSchema" not in conditions
        yield cluster
    cluster.close()


def camera(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": spec}


def test_a_camera_is_created_changed_reported_and_deleted(cluster: Cluster) -> None:
    made = cluster.create(CAMERAS, camera("gate", GOOD))
    assert made["spec"] == GOOD
    changed = cluster.replace(CAMERAS, {**made, "spec": {**GOOD, "paused": True}})
    assert changed["metadata"]["generation"] == 2
    cluster.patch_status(CAMERAS, "gate", {"status": {"state": "running", "fps": 4.9, "lastFrameTime": None}})
    found = cluster.get(CAMERAS, "gate")
    assert found["status"] == {"state": "running", "fps": 4.9}
    assert found["metadata"]["generation"] == 2  # status is no change of the spec
    cluster.delete(CAMERAS, "gate")
    with pytest.raises(ConflictError):
        cluster.get(CAMERAS, "gate")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "ftp://h/s"}, "expected rtsp://, rtsps://, http://"),
        ({"url": "rtsp://viewer:geheim@h/s"}, "expected no password in the address, got one"),
        ({"url": "rtsp://viewer:${password}@h/s", "secretRef": None}, "expected secretRef with the name"),
        ({"kind": "mjpeg"}, "expected kind auto, rtsp for this url, got mjpeg"),
        ({"url": "http://h/s", "kind": "rtsp"}, "expected kind auto, file, hls, jpeg, mjpeg for this url"),
        ({"url": "webcam:0", "kind": "hls"}, "expected kind auto, webcam for this url, got hls"),
        ({"url": "/videos/a.mp4", "kind": "jpeg"}, "expected kind auto, file for this url, got jpeg"),
        ({"kind": "rtps"}, "supported values"),
        ({"pace": "fast"}, "expected native, got fast"),
        ({"fps": 0}, "should be greater than 0"),
        ({"fps": 121}, "should be less than or equal to 120"),
        ({"fps": "5"}, "must be of type number"),
        ({"lines": [{"name": "in", "start": [0, 1], "end": [0, 1]}]}, "expected start and end to differ"),
        ({"zones": [{"name": "a", "polygon": [[0, 0], [0, 1]]}]}, "should have at least 3 items"),
        ({"zones": GOOD["zones"] * 2}, "Duplicate value"),
        ({"classes": {"-person": {"of": ["person"]}}}, "expected names of at most 64 letters"),
        ({"url": None}, "Required value"),
    ],
)
def test_what_is_wrong_is_said_by_the_api_server(
    cluster: Cluster, changes: dict[str, Any], message: str
) -> None:
    spec = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    with pytest.raises(ClusterError, match="422") as caught:
        cluster.create(CAMERAS, camera("wrong", spec))
    assert message in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.b", "a" * 64])
def test_names_are_those_of_cameras_yaml(cluster: Cluster, name: str) -> None:
    with pytest.raises(ClusterError, match="expected a name of at most 63 small letters"):
        cluster.create(CAMERAS, camera(name, GOOD))


@pytest.mark.parametrize(
    "url",
    ["rtsp://h:554/s", "RTSPS://viewer@h/s", "http://${user}:${password}@h/s", "file:///v.mp4", "webcam:3"],
)
def test_addresses_that_are_right_pass(cluster: Cluster, url: str) -> None:
    cluster.create(CAMERAS, camera("right", {"url": url, "secretRef": {"name": "gate"}}))
    cluster.delete(CAMERAS, "right")


def test_columns_show_the_status(cluster: Cluster, api_server: Path) -> None:
    cluster.create(CAMERAS, camera("shown", GOOD))
    status = {"state": "failed", "sourceKind": "rtsp", "fps": 4.9, "owner": "ingest-0", "message": "refused"}
    cluster.patch_status(CAMERAS, "shown", {"status": status})
    configuration = client.Configuration()
    config.load_kube_config(config_file=str(api_server), client_configuration=configuration)
    with client.ApiClient(configuration) as connection:
        connection.set_default_header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        table: Any = client.CustomObjectsApi(connection).list_namespaced_custom_object(
            GROUP,
            VERSION,
            "default",
            "cameras",
            _headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"},
        )
    columns = [column["name"].upper() for column in table["columnDefinitions"]]
    assert columns[1:] == ["SOURCE-KIND", "STATE", "FPS", "LAST-FRAME", "OWNER", "MESSAGE"]
    assert table["rows"][0]["cells"][1:4] == ["rtsp", "failed", 4.9]
    assert table["rows"][0]["cells"][5:] == ["ingest-0", "refused"]
    cluster.delete(CAMERAS, "shown")


STEP = Step(True, True, True, 17, 1_800_000_000.5, (), ())


def lease(me: Member, before: Any = None, until_s: float = 1_800_000_005.25) -> dict[str, Any]:
    return lease_object(
        me,
        STEP,
        lease_s=6.0,
        records_until_s=until_s,
        unix_s=1_800_000_000.25,
        before=before,
    )


def test_an_ended_lease_cannot_be_written_by_its_process_again(cluster: Cluster) -> None:
    me = Member("ingest-0-1a2b", "ingest-0")
    stored = cluster.create(LEASES, lease(me))
    found = member_lease(stored)
    assert (found.pod, found.is_member, found.seen) == ("ingest-0", True, 17)
    assert (found.records_until_s, found.start_after_s) == (1_800_000_005.25, 1_800_000_000.5)
    own = written(stored)
    after = cluster.replace(LEASES, ended(stored))
    assert member_lease(after).pod == ""
    assert member_lease(after).records_until_s == found.records_until_s  # its promise stands
    assert member_lease(after).version > found.version
    with pytest.raises(ConflictError):
        cluster.replace(LEASES, lease(me, own))
    assert member_lease(cluster.get(LEASES, me.name)).pod == ""


def test_a_lease_that_was_deleted_is_not_made_again_by_a_renewal(cluster: Cluster) -> None:
    me = Member("ingest-0-3c4d", "ingest-0")
    own = written(cluster.create(LEASES, lease(me)))
    cluster.delete(LEASES, me.name)
    with pytest.raises(ConflictError):
        cluster.replace(LEASES, lease(me, own))
    with pytest.raises(ConflictError):
        cluster.get(LEASES, me.name)


def test_a_watch_shows_what_follows_a_list_in_order_and_ends_when_told(cluster: Cluster) -> None:
    me = Member("ingest-0-5e6f", "ingest-0")
    before, version = cluster.list(LEASES)
    assert me.name not in {found["metadata"]["name"] for found in before}
    watch = cluster.watch(LEASES, version, quiet_s=20.0)
    stored = cluster.create(LEASES, lease(me))
    cluster.replace(LEASES, lease(me, written(stored), until_s=1_800_000_007.25))
    cluster.delete(LEASES, me.name)
    kinds, versions = [], [int(version)]
    for kind, found in watch:
        kinds.append(kind)
        versions.append(int(found["metadata"]["resourceVersion"]))
        if kind == "DELETED":
            watch.stop()
    assert kinds == ["ADDED", "MODIFIED", "DELETED"]
    assert versions == sorted(versions)
    assert isinstance(watch, Watch)


def test_an_old_version_is_refused_with_the_sentence_of_the_api_server(cluster: Cluster) -> None:
    with pytest.raises(ClusterError) as caught:
        for _ in cluster.watch(CAMERAS, "999999999", quiet_s=5.0):
            pass
    assert caught.value.status in (0, 410, 504, 500)
