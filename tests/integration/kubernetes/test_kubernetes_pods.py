"""Ingest processes that share Camera resources: what is recorded, by whom, and never twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from framegrid_store.migrate import upgrade

pytestmark = [pytest.mark.integration, pytest.mark.faults]

FPS = 4
FRESH_S = 1.5
LEASE_S = 3  # the shortest: tests need not wait for six


class Pod:
    """One ingest process with a name of its own."""

    def __init__(self, name: str, folder: Path, api: Any, serve_url: str, database_url: str) -> None:
        self.name = name
        folder = folder / f"{name}-{time.monotonic_ns()}"
        folder.mkdir()
        kubeconfig = api.kubeconfig(folder, name)
        (folder / "ingest.yaml").write_text(
            f"kubernetes: {{kubeconfig: {kubeconfig}, pod: {name}, lease_s: {LEASE_S}}}\n"
            f"serve_url: {serve_url}\nhttp_port: 0\ninterval_s: 1\n"
        )
        self.log = folder / "log.txt"
        self._log_file = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "framegrid_ingest", "--config", str(folder / "ingest.yaml")],
            env={**os.environ, "FRAMEGRID_DATABASE_URL": database_url},
            stdout=subprocess.PIPE,
            stderr=self._log_file,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.port = json.loads(line)["http_port"]

    def ask(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text.startswith(b"{") else text.decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    @property
    def last_frames(self) -> dict[str, float]:
        """Capture time of the last counted frame, of cameras that count frames now."""
        try:
            status = self.ask("/status")[1]
        except OSError:  # it ends
            return {}
        return {
            camera["name"]: camera["captured_at_s"]
            for camera in status["cameras"]
            if (camera["captured_at_s"] or 0.0) > status["time_s"] - FRESH_S
        }

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGKILL) -> float:
        began_s = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(20)
        if not self._log_file.closed:
            self._log_file.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return time.monotonic() - began_s


class Site:
    """An API server, cameras, serve, a database and pods."""

    def __init__(self, api: Any, folder: Path, serve_url: str, database_url: str) -> None:
        self.api = api
        self.database_url = database_url
        self._made = (folder, api, serve_url, database_url)
        self.pods: dict[str, Pod] = {}

    def start(self, *names: str) -> None:
        made: dict[str, Pod] = {}

        def one(name: str) -> None:
            made[name] = Pod(name, *self._made)

        threads = [threading.Thread(target=one, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.pods |= made

    def recorded(self) -> dict[str, str]:
        """Pod by camera, where frames are counted."""
        newest: dict[str, tuple[float, str]] = {}
        for pod in self.pods.values():
            if pod.process.poll() is None:
                for camera, at_s in pod.last_frames.items():
                    newest[camera] = max((at_s, pod.name), newest.get(camera, (0.0, "")))
        return {camera: pod for camera, (_, pod) in newest.items()}

    def wait_for(self, cameras: set[str], timeout_s: float = 30.0) -> dict[str, str]:
        until_s = time.monotonic() + timeout_s
        while set(found := self.recorded()) != cameras:
            assert time.monotonic() < until_s, (sorted(found), self.logs())
            time.sleep(0.1)
        return found

    def settled(self, *names: str) -> dict[str, str]:
        """Pod by camera, when these pods know of each other and each records what it owns.

        That all cameras are recorded is not enough: a pod that has just started waits for consent.
        """
        until_s = time.monotonic() + 30.0
        while True:
            told = [self.pods[name].ask("/status")[1]["kubernetes"] for name in names]
            owned = {pod["pod"]: pod["cameras_owned"] for pod in told}
            recorded = self.recorded()
            if (
                all(pod["is_active"] and pod["members"] == sorted(names) for pod in told)
                and sum(owned.values()) == len(ALL) == len(recorded)
                and Counter(recorded.values()) == Counter({pod: n for pod, n in owned.items() if n})
            ):
                return recorded
            assert time.monotonic() < until_s, (told, recorded, self.logs())
            time.sleep(0.1)

    def logs(self) -> str:
        return "\n".join(f"== {name}\n{pod.log.read_text()[-2000:]}" for name, pod in self.pods.items())

    def doubled(self) -> list[tuple[Any, ...]]:
        """Cameras and intervals with more ticks than the interval has room for."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(
                "SELECT camera_id, time, sum(expected), count(*) FROM framegrid.coverage "
                "GROUP BY camera_id, time HAVING sum(expected) > %s",
                [FPS],
            ).fetchall()

    def rows(self) -> int:
        with psycopg.connect(self.database_url) as connection:
            found = connection.execute("SELECT count(*) FROM framegrid.coverage").fetchone()
            assert found is not None
            return int(found[0])


@pytest.fixture
def site(api: Any, tmp_path: Path, wire_serve: str, picture_url: str, database_url: str) -> Iterator[Site]:
    upgrade(database_url)
    made = Site(api, tmp_path, wire_serve, database_url)
    for number in range(12):
        api.apply(f"camera-{number}", spec(picture_url))
    yield made
    for pod in made.pods.values():
        if pod.process.poll() is None:
            pod.send(signal.SIGCONT)
        pod.end()


ALL = {f"camera-{number}" for number in range(12)}


def spec(url: str, **keys: Any) -> dict[str, Any]:
    return {"url": url, "kind": "jpeg", "fps": FPS, "model": "m", **keys}


def wait(condition: Callable[[], Any], timeout_s: float = 20.0, why: Callable[[], Any] = lambda: "") -> None:
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, why()
        time.sleep(0.05)


def test_pods_share_the_cameras_and_lose_none_when_one_is_killed_or_told_to_stop(site: Site) -> None:
    site.start("ingest-0", "ingest-1", "ingest-2")
    shared = site.settled("ingest-0", "ingest-1", "ingest-2")
    assert set(shared.values()) == {"ingest-0", "ingest-1", "ingest-2"}
    wait(lambda: {site.api.status(name).get("owner") for name in ALL} == set(shared.values()))

    lost = {camera for camera, pod in shared.items() if pod == "ingest-1"}
    began_s = time.monotonic()
    site.pods["ingest-1"].end(signal.SIGKILL)
    taken = site.wait_for(ALL, timeout_s=10.0)
    assert time.monotonic() - began_s < 10.0
    assert {camera for camera in ALL if shared[camera] != taken[camera]} == lost

    lost = {camera for camera, pod in taken.items() if pod == "ingest-2"}
    member = next(name for name, pod in site.api.leases().items() if pod == "ingest-2")
    began_s = time.monotonic()
    site.pods["ingest-2"].send(signal.SIGTERM)
    wait(lambda: site.api.leases()[member] == "", timeout_s=3.0)
    site.wait_for(ALL, timeout_s=10.0)
    assert time.monotonic() - began_s < 6.0
    assert site.pods["ingest-2"].end(signal.SIGTERM) < 6.0

    site.start("ingest-3")
    again = site.settled("ingest-0", "ingest-3")
    assert set(again.values()) == {"ingest-0", "ingest-3"}
    time.sleep(2.0)
    for pod in site.pods.values():
        pod.end(signal.SIGTERM)
    assert site.doubled() == []
    assert site.rows() > 12 * 10


def test_a_pod_that_sleeps_or_is_cut_off_records_nothing_that_another_one_records(site: Site) -> None:
    site.start("ingest-0", "ingest-1")
    before = site.settled("ingest-0", "ingest-1")
    mine = {camera for camera, pod in before.items() if pod == "ingest-0"}
    assert mine and mine != ALL

    sleeper = site.pods.pop("ingest-0")
    sleeper.send(signal.SIGSTOP)
    site.wait_for(ALL, timeout_s=12.0)
    sleeper.send(signal.SIGCONT)
    site.pods["ingest-0"] = sleeper
    wait(lambda: sleeper.ask("/status")[1]["kubernetes"]["is_active"], why=site.logs)
    wait(lambda: set(site.recorded().values()) == {"ingest-0", "ingest-1"}, why=site.logs)

    site.api.cut("ingest-0")  # the network between it and the API server
    wait(lambda: {c for c, pod in site.recorded().items() if pod == "ingest-1"} == ALL, why=site.logs)
    site.api.cut_off.clear()
    wait(lambda: set(site.recorded().values()) == {"ingest-0", "ingest-1"}, why=site.logs)
    site.wait_for(ALL)
    for pod in site.pods.values():
        pod.end(signal.SIGTERM)
    assert site.doubled() == []


def test_an_outage_of_the_api_server_closes_no_stream(site: Site) -> None:
    site.start("ingest-0", "ingest-1")
    before = site.settled("ingest-0", "ingest-1")
    site.api.away()
    time.sleep(LEASE_S * 3)
    assert site.recorded() == {}  # nobody is sure to be the only one
    site.api.back()
    assert site.wait_for(ALL, timeout_s=8.0) == before
    events = query(site.database_url, "SELECT kind FROM framegrid.event WHERE kind = 'camera.lost'")
    assert events == []
    for pod in site.pods.values():
        pod.end(signal.SIGTERM)
    assert site.doubled() == []


def query(database_url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(sql).fetchall()  # type: ignore[arg-type]


def test_adding_pausing_changing_and_deleting_a_camera_disturbs_no_other(
    site: Site, picture_url: str
) -> None:
    site.start("ingest-0")
    site.wait_for(ALL)
    status = {camera["name"]: camera for camera in site.pods["ingest-0"].ask("/status")[1]["cameras"]}

    site.api.apply("added", spec(picture_url))
    site.api.apply("camera-0", spec(picture_url, paused=True))
    site.api.apply("camera-1", spec(picture_url, anchor="center"))
    site.api.delete("cameras", "camera-2")
    site.wait_for(ALL - {"camera-0", "camera-2"} | {"added"})
    wait(lambda: site.api.status("camera-0").get("state") == "paused")
    wait(lambda: site.api.status("added").get("state") == "running")
    after = {camera["name"]: camera for camera in site.pods["ingest-0"].ask("/status")[1]["cameras"]}
    for name in ALL - {"camera-0", "camera-1", "camera-2"}:
        assert after[name]["since_s"] == status[name]["since_s"]
        assert after[name]["reconnects"] == 0


def test_a_broken_camera_says_why_and_disturbs_no_other(site: Site, picture_url: str) -> None:
    site.api.secret("gate", other="x")
    site.api.apply("no-secret", spec("http://viewer:${password}@127.0.0.1:9/s", secretRef={"name": "nobody"}))
    site.api.apply("no-key", spec("http://viewer:${password}@127.0.0.1:9/s", secretRef={"name": "gate"}))
    site.api.apply("flat", spec(picture_url, zones=[{"name": "a", "polygon": [[0, 0], [0.5, 0.5], [1, 1]]}]))
    site.api.apply("refused", spec("http://127.0.0.1:9/s"))
    site.start("ingest-0")
    site.wait_for(ALL)
    wanted = {
        "no-secret": "spec.secretRef: expected a Secret named nobody, got none; create it",
        "no-key": "spec.url: the key password of Secret gate is not set; set it",
        "flat": "spec.zones[0].polygon: expected a polygon with an area, got points on one line; "
        "move a point",
    }
    for name, message in wanted.items():
        wait(lambda name=name: site.api.status(name).get("state") == "invalid")
        assert site.api.status(name)["message"] == message
        assert site.api.status(name)["observedGeneration"] == 1
    wait(lambda: site.api.status("refused").get("state") == "failed")
    assert site.pods["ingest-0"].ask("/status")[1]["kubernetes"]["invalid"].keys() == wanted.keys()
    site.api.apply("flat", spec(picture_url))
    wait(lambda: site.api.status("flat").get("state") == "running", 30.0)
    assert site.api.status("flat")["message"] == ""


def test_a_password_is_used_renewed_and_shown_nowhere(site: Site, locked_picture: Any) -> None:
    site.api.secret("gate", password="geheim/1\n")
    locked_picture.require("geheim/1")
    url = locked_picture.url.replace("http://", "http://viewer:${password}@") + "/now.jpg"
    site.api.apply("locked", spec(url, secretRef={"name": "gate"}))
    site.start("ingest-0")
    site.wait_for(ALL | {"locked"})

    locked_picture.require("geheim/2")  # changed on the camera, then in the Secret
    wait(lambda: site.api.status("locked").get("state") == "failed")
    site.api.secret("gate", password="geheim/2")
    wait(lambda: site.api.status("locked").get("state") == "running", 60.0, site.logs)

    pod = site.pods["ingest-0"]
    shown = json.dumps(site.api.status("locked")) + str(pod.ask("/status")) + str(pod.ask("/metrics"))
    shown += str(pod.ask("/v1/cameras")) + pod.log.read_text()
    shown += str(query(site.database_url, "SELECT message, payload FROM framegrid.event"))
    for secret in ("geheim/1", "geheim/2", "geheim%2F1", "geheim%2F2"):
        assert secret not in shown


def test_status_is_written_seldom_and_requests_are_counted(site: Site) -> None:
    site.start("ingest-0", "ingest-1")
    site.wait_for(ALL)
    time.sleep(4.0)
    asked, patched, began_s = site.api.requests.copy(), len(site.api.patches), time.monotonic()
    time.sleep(10.0)
    spent_s = time.monotonic() - began_s
    requests = site.api.requests - asked
    # 12 cameras are refreshed every 30 s; two Leases are renewed every LEASE_S / 3.
    assert len(site.api.patches) - patched <= 12 * (spent_s / 30 + 1)
    renewals = sum(n for (_, verb, plural), n in requests.items() if (verb, plural) == ("update", "leases"))
    assert spent_s / (LEASE_S / 3) * 2 * 0.7 < renewals < spent_s / (LEASE_S / 3) * 2 * 1.3
    assert sum(n for (_, verb, _), n in requests.items() if verb in ("list", "get", "create")) == 0
    metrics = site.pods["ingest-0"].ask("/metrics")[1]
    assert 'framegrid_kubernetes_requests_total{outcome="200",resource="leases",verb="update"}' in metrics
    last: dict[tuple[str, str], float] = {}
    for at_s, name, status in site.api.patches:
        key = name, status["owner"]
        assert at_s - last.get(key, -9.0) > 2.5  # between two writes of one pod for one camera
        last[key] = at_s


def test_conflicts_lost_answers_and_slow_watches_do_no_harm(site: Site) -> None:
    site.start("ingest-0", "ingest-1")
    site.wait_for(ALL)
    members = {pod.ask("/status")[1]["kubernetes"]["member"] for pod in site.pods.values()}
    for _ in range(6):
        site.api.lose_answers = 1
        site.api.fail_next = [409, 500]
        site.api.break_watches()
        time.sleep(0.7)
    site.api.forget_history()
    site.api.break_watches()
    site.api.watch_delay_s = 0.2
    site.wait_for(ALL)
    site.api.watch_delay_s = 0.0
    assert {pod.ask("/status")[1]["kubernetes"]["member"] for pod in site.pods.values()} == members
    for pod in site.pods.values():
        pod.end(signal.SIGTERM)
    assert site.doubled() == []


def test_cameras_are_changed_over_http_in_the_resources_themselves(site: Site, picture_url: str) -> None:
    site.start("ingest-0")
    pod = site.pods["ingest-0"]
    status, made = pod.ask("/v1/cameras", "POST", {"name": "posted", **spec(picture_url)})
    assert (status, made["name"]) == (201, "posted")
    assert site.api.objects["cameras", "posted"]["spec"]["fps"] == FPS
    site.wait_for(ALL | {"posted"})
    assert pod.ask("/v1/cameras", "POST", {"name": "posted", **spec(picture_url)})[0] == 409
    status, answer = pod.ask("/v1/cameras/posted", "PUT", {**spec(picture_url), "fsp": 3})
    assert status == 422
    assert answer["problems"][0]["key"] == "fsp"
    assert pod.ask("/v1/cameras/posted", "PUT", {**spec(picture_url), "paused": True})[0] == 200
    wait(lambda: site.api.status("posted").get("state") == "paused")
    assert pod.ask("/v1/cameras/posted")[1]["paused"] is True
    assert len(pod.ask("/v1/cameras")[1]["cameras"]) == 13
    assert pod.ask("/v1/cameras/posted", "DELETE")[0] == 204
    assert pod.ask("/v1/cameras/posted", "DELETE")[0] == 404
    assert pod.ask("/v1/cameras/posted")[0] == 404
    site.wait_for(ALL)


def test_no_cluster_ends_the_process_with_one_sentence(tmp_path: Path, database_url: str) -> None:
    settings = tmp_path / "ingest.yaml"
    settings.write_text("kubernetes: {kubeconfig: nowhere}\nserve_url: http://127.0.0.1:9\nhttp_port: 0\n")
    ended = subprocess.run(
        [sys.executable, "-m", "framegrid_ingest", "--config", str(settings)],
        env={**os.environ, "FRAMEGRID_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert (
        ended.stderr.strip().splitlines()[-1].startswith("kubernetes: expected a service account (in a pod)")
    )
    assert "Traceback" not in ended.stderr
