"""Following objects of an API server that restarts, forgets, lags and refuses; and calls that fail."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from framegrid_ingest.kubernetes.cluster import CAMERAS, LEASES, Cluster, ClusterError, ConflictError
from framegrid_ingest.kubernetes.follower import Follower

pytestmark = pytest.mark.integration


class Seen:
    """What a follower told."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.lists = 0
        self.events: list[tuple[str, str]] = []

    def on_list(self, objects: list[dict[str, Any]], version: str) -> None:
        self.lists += 1
        self.names = {found["metadata"]["name"] for found in objects}

    def on_event(self, kind: str, found: dict[str, Any]) -> None:
        if kind == "BOOKMARK":
            return
        name = found["metadata"]["name"]
        self.events.append((kind, name))
        (self.names.discard if kind == "DELETED" else self.names.add)(name)


def wait(condition: Callable[[], Any], timeout_s: float = 15.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


@pytest.fixture
def cluster(api: Any, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster("", api.kubeconfig(tmp_path))
    yield cluster
    cluster.close()


@pytest.fixture
def seen(api: Any, cluster: Cluster) -> Iterator[Seen]:
    api.apply("first", {"url": "rtsp://h/1"})
    told = Seen()
    follower = Follower(cluster, CAMERAS, told.on_list, told.on_event, quiet_s=10.0, cap_s=1.0)
    follower.start()
    wait(lambda: told.names == {"first"})
    yield told
    follower.stop()


def test_changes_follow_the_list(api: Any, seen: Seen) -> None:
    api.apply("second", {"url": "rtsp://h/2"})
    api.apply("second", {"url": "rtsp://h/3"})
    api.delete("cameras", "first")
    wait(lambda: seen.names == {"second"})
    assert seen.events == [("ADDED", "second"), ("MODIFIED", "second"), ("DELETED", "first")]
    assert seen.lists == 1


def test_a_broken_watch_goes_on_where_it_was(api: Any, seen: Seen) -> None:
    api.break_watches()
    api.apply("second", {"url": "rtsp://h/2"})
    wait(lambda: "second" in seen.names)
    assert seen.lists == 1


def test_a_history_that_is_gone_is_listed_again(api: Any, seen: Seen) -> None:
    api.away()
    api.apply("second", {"url": "rtsp://h/2"})
    api.delete("cameras", "first")
    api.forget_history()
    api.back()
    wait(lambda: seen.names == {"second"})
    assert seen.lists == 2


def test_an_api_server_that_is_away_is_waited_for(api: Any, seen: Seen) -> None:
    api.away()
    time.sleep(1.5)
    api.back()
    api.apply("second", {"url": "rtsp://h/2"})
    wait(lambda: "second" in seen.names)


def test_refusals_are_waited_for(api: Any, cluster: Cluster) -> None:
    api.fail_next = [500, 429, 403, 503]
    told = Seen()
    api.apply("first", {"url": "rtsp://h/1"})
    follower = Follower(cluster, CAMERAS, told.on_list, told.on_event, quiet_s=10.0, cap_s=0.3)
    follower.start()
    wait(lambda: told.names == {"first"})
    follower.stop()
    assert follower.breaks == 4


def test_a_slow_watch_loses_nothing(api: Any, seen: Seen) -> None:
    api.watch_delay_s = 0.05
    for number in range(20):
        api.apply(f"camera-{number}", {"url": "rtsp://h/2"})
    wait(lambda: len(seen.names) == 21)
    assert seen.lists == 1


def test_errors_say_what_was_asked_and_what_came(api: Any, cluster: Cluster) -> None:
    with pytest.raises(ConflictError, match=r"get cameras: 404 cameras \"nobody\" not found"):
        cluster.get(CAMERAS, "nobody")
    with pytest.raises(ConflictError, match="already exists"):
        for _ in range(2):
            cluster.create(CAMERAS, {"metadata": {"name": "a"}, "spec": {}})
    api.away()
    with pytest.raises(ClusterError, match=r"list leases at http://127\.0\.0\.1:") as caught:
        cluster.list(LEASES)
    assert caught.value.status == 0


def test_no_cluster_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ClusterError, match=r"expected a service account .* or a kubeconfig file, got neither"
    ):
        Cluster("", tmp_path / "none")


def test_every_request_is_counted(api: Any, tmp_path: Path) -> None:
    counted: list[tuple[str, str, str]] = []
    cluster = Cluster("", api.kubeconfig(tmp_path), lambda *call: counted.append(call))
    cluster.list(CAMERAS)
    api.fail_next = [500]
    with pytest.raises(ClusterError):
        cluster.list(LEASES)
    api.away()
    with pytest.raises(ClusterError):
        cluster.get(LEASES, "x")
    cluster.close()
    assert counted == [("list", "cameras", "200"), ("list", "leases", "500"), ("get", "leases", "0")]
