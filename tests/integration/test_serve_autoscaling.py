"""Replicas of a real Ray Serve follow what cameras offer: up in one step, down later, and say why.

The engine only waits, so that four replicas fit on any machine.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import simplejpeg
from framegrid_load.synthetic import FRAMEGRID_ENGINE, MODEL, write_bundle
from framegrid_local import serve_status
from framegrid_serve.wire import CONTENT_TYPE, DetectRequest, Frame, encode_request
from people.served import Served

pytestmark = pytest.mark.integration

SERVICE_MS = 50.0  # a replica takes 20 frames/s
MOST = 4
WAIT_S = 120.0


class Cameras:
    """Offer `fps` frames a second and, as ingest does, send the newest whenever a request is free."""

    def __init__(self, url: str, requests: int = 6) -> None:
        self.fps = 0.0
        self.statuses: dict[int, int] = {}
        self._url = url
        self._lock = threading.Lock()
        self._waiting = self._lost = self._settled = 0
        self._due_s = time.monotonic()
        self._stop = threading.Event()
        grey = np.full((360, 640, 3), 114, np.uint8)
        self._jpeg = simplejpeg.encode_jpeg(grey, colorspace="BGR")
        self._threads = [threading.Thread(target=self._send) for _ in range(requests)]

    def __enter__(self) -> Cameras:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _send(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10.0, headers={"Content-Type": CONTENT_TYPE}) as client:
            while not self._stop.wait(0.005):
                with self._lock:
                    if not self._take():
                        continue
                    offered, dropped = self._settled + self._lost, self._lost
                    self._settled = self._lost = 0
                frame = Frame("gate", 0, self._jpeg)
                body = encode_request(
                    DetectRequest((frame,), timeout_ms=1000, offered_frames=offered, dropped_frames=dropped)
                )
                status = client.post("/v1/detect", content=body).status_code
                with self._lock:
                    self.statuses[status] = self.statuses.get(status, 0) + 1
                    self._settled += status == 200
                    self._lost += status != 200

    def _take(self) -> bool:
        """One frame that is due now; older ones are lost."""
        now_s = time.monotonic()
        due = int((now_s - self._due_s) * self.fps)
        if due < 1:
            return False
        self._due_s += due / self.fps
        self._lost += due - 1
        return True

    def offer(self, fps: float) -> None:
        with self._lock:
            self.fps, self._due_s = fps, time.monotonic()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("autoscaling")
    write_bundle(folder / "synthetic", SERVICE_MS)
    served = Served(
        folder,
        [{"name": MODEL, "path": "synthetic"}],
        engine=FRAMEGRID_ENGINE.__module__,
        replicas=1,
        max_replicas=MOST,
        autoscaling={"downscale_delay_s": 6},
    )
    try:
        served.ready_line()
        yield served
    finally:
        served.stop()


def environ_of_replicas() -> list[dict[str, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and b"ServeReplica" in (entry / "cmdline").read_bytes():
                pairs = (entry / "environ").read_bytes().decode().split("\0")
                found.append(dict(pair.split("=", 1) for pair in pairs if "=" in pair))
    return found


def status(served: Served) -> dict[str, Any]:
    found = serve_status.fetch(f"http://127.0.0.1:{served.port}")
    return found[0] if found else {"running": 0, "target": 0, "changes": [], "offered_fps": None}


def wait_for(served: Served, reached: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + WAIT_S
    while not reached(report := status(served)):
        assert time.monotonic() < deadline_s, f"expected {what} within {WAIT_S:.0f} s, got {report}"
        time.sleep(0.5)
    return report


def test_replicas_follow_the_offered_frames_and_say_why(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    with Cameras(f"http://127.0.0.1:{served.port}") as cameras:
        cameras.offer(8)
        mine = [e for e in environ_of_replicas() if e.get("FRAMEGRID_TEST_MARK") == served.mark]
        assert len(mine) == 1
        assert mine[0]["OMP_NUM_THREADS"] == mine[0]["OPENBLAS_NUM_THREADS"] == "1"
        quiet = wait_for(served, lambda r: (r["offered_fps"] or 0) > 6, "figures")
        assert (quiet["running"], quiet["target"], quiet["changes"]) == (1, 1, [])
        assert quiet["service_s"] >= SERVICE_MS / 1e3

        # 70 frames/s are 3.5 full replicas; six requests at a time show no queue, ingest's drops do.
        cameras.offer(70)
        grown = wait_for(served, lambda r: r["running"] == MOST, f"{MOST} replicas")
        (change,) = grown["changes"]
        assert (change["before"], change["after"]) == (1, MOST), "one step"
        assert "the load needs more than the most replicas allowed" in change["reason"]
        assert " frames/s x " in change["reason"]
        assert grown["limit"] == "max_replicas"
        assert grown["needed"] > MOST

        assert serve_status.run_status(f"http://127.0.0.1:{served.port}", served.folder, as_json=False) == 0
        shown = capsys.readouterr().out
        assert f"{MOST} run, {MOST} ordered; 1 to {MOST} allowed" in shown
        assert "max_replicas keeps it from more" in shown

        cameras.offer(4)
        back = wait_for(served, lambda r: r["running"] == 1, "one replica again")
        steps = [(c["before"], c["after"]) for c in back["changes"][1:]]
        assert steps[0] == (MOST, MOST // 2), "half of them at most"
        assert steps[-1][1] == 1
        assert all(before > after for before, after in steps)
    assert set(cameras.statuses) <= {200, 429}, "no request failed, whatever came and went"
