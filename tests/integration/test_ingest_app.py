"""The whole of ingest on real sockets: cameras in, a serve that behaves or not, rows in a real database."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import simplejpeg
from framegrid_ingest.client import ServeClient
from framegrid_ingest.clock import Clock
from framegrid_ingest.errors import RefusedError, RetryLaterError
from framegrid_ingest.metrics import IngestMetrics
from framegrid_serve.wire import (
    DetectRequest,
    DetectResponse,
    Frame,
    FrameResult,
    FrameStatus,
    decode_request,
    encode_response,
)
from framegrid_store.migrate import upgrade

pytestmark = pytest.mark.integration


def jpeg(number: int) -> bytes:
    pixels = np.full((240, 320, 3), (number * 11) % 200, np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, 90, "BGR", "420"))


class FakeServe:
    """Speaks the wire format; `mode` says how it behaves from now on."""

    def __init__(self) -> None:
        self.mode = "ok"
        self.statuses: list[int] = []  # answered first, one a request
        self.version = "1"
        self.requests: list[DetectRequest] = []
        self.connections = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.AbstractServer | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "FakeServe":
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._call(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listen(self) -> None:
        self._server = self._call(self._start())

    def refuse(self) -> None:
        """Close the port and every connection."""
        self._call(self._close())

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(5)

    async def _start(self) -> asyncio.AbstractServer:
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=2**23)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _cancel_all(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        body = await reader.readexactly(int(lines.get(b"content-length", 0)))
        if head.startswith(b"GET /v1/models"):
            model = {"name": "m", "version": self.version, "digest": "d" + self.version, "input_size": 640}
            model |= {
                "classes": ["person", "car"],
                "precision": "bf16",
                "licence": "AGPL-3.0",
                "state": "ready",
            }
            self._write(writer, 200, json.dumps({"default": "m", "models": [model]}).encode())
            return
        request = decode_request(body)
        self.requests.append(request)
        if self.mode == "hang":
            await asyncio.sleep(30)
        if self.mode == "reset":
            writer.transport.abort()
            raise ConnectionResetError
        status = self.statuses.pop(0) if self.statuses else 500 if self.mode == "500" else 200
        if status != 200:
            extra = "Retry-After: 1\r\n" if status == 429 else ""
            self._write(writer, status, b'{"error": "no", "retry_after_s": 0.05}', extra)
            return
        boxes = np.array([[0.4, 0.2, 0.5, 0.8]], np.float32)
        result = FrameResult(FrameStatus.OK, boxes, np.array([0.9], np.float32), np.array([0], np.int16))
        answer = DetectResponse("m", self.version, "d" + self.version, (result,) * len(request.frames))
        self._write(writer, 200, encode_response(answer))

    @staticmethod
    def _write(writer: asyncio.StreamWriter, status: int, body: bytes, extra: str = "") -> None:
        writer.write(f"HTTP/1.1 {status} X\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body)


class FakeCamera:
    """An MJPEG camera at 20 fps; `stop` closes its port, `start` opens it again."""

    def __init__(self) -> None:
        self.port = 0
        self.clients = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/video.mjpg"

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n")
            for number in range(100_000):
                data = jpeg(number)
                writer.write(f"--f\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()


@pytest.fixture
def serve() -> Iterator[FakeServe]:
    with FakeServe() as fake:
        yield fake


@pytest.fixture
def cameras() -> Iterator[Callable[[], FakeCamera]]:
    made: list[FakeCamera] = []

    def make() -> FakeCamera:
        made.append(FakeCamera())
        return made[-1]

    yield make
    for camera in made:
        camera.end()


class Ingest:
    """`python -m framegrid_ingest` as a process of its own."""

    def __init__(
        self, folder: Path, serve_url: str, database_url: str, cameras: str, **settings: object
    ) -> None:
        self.folder = folder
        (folder / "cameras.yaml").write_text(cameras)
        lines = {
            "cameras": "cameras.yaml",
            "serve_url": serve_url,
            "http_port": 0,
            "interval_s": 0.25,
        } | settings
        (folder / "ingest.yaml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
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
        self.ready = json.loads(line)

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.ready['http_port']}{path}", timeout=5
            ) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def status(self) -> dict[str, Any]:
        return json.loads(self.get("/status")[1])

    def camera(self, name: str = "cam") -> dict[str, Any]:
        return next((c for c in self.status()["cameras"] if c["name"] == name), {})

    def wait(self, wanted: Callable[[], Any], timeout_s: float = 15.0) -> None:
        until_s = time.monotonic() + timeout_s
        while not wanted():
            assert time.monotonic() < until_s, (self.status(), self.log.read_text()[-3000:])
            time.sleep(0.05)

    def stop(self) -> float:
        began_s = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(15)
        self._log_file.close()
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert code == 0, self.log.read_text()[-3000:]
        return time.monotonic() - began_s


@contextmanager
def running(*args: Any, **settings: object) -> Iterator[Ingest]:
    ingest = Ingest(*args, **settings)
    try:
        yield ingest
    finally:
        ingest.stop()


def one(url: str, name: str = "cam", **keys: object) -> str:
    extra = "".join(f", {key}: {json.dumps(value)}" for key, value in keys.items())
    return f"  - {{name: {name}, url: '{url}', model: m{extra}}}\n"


def query(database_url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(sql).fetchall()  # type: ignore[arg-type]


COVERAGE = """
SELECT sum(expected), sum(processed), sum(
    dropped_no_frame + dropped_overload + dropped_stale + dropped_refused + dropped_corrupt), count(*)
FROM framegrid.coverage"""


def test_frames_become_rows_and_every_one_is_accounted_for(
    tmp_path: Path, serve: FakeServe, cameras: Callable[[], FakeCamera], database_url: str
) -> None:
    upgrade(database_url)
    text = "cameras:\n" + one(cameras().url, "cam-1", fps=10) + one(cameras().url, "cam-2", fps=10)
    ingest = Ingest(tmp_path, serve.url, database_url, text)
    try:
        ingest.wait(lambda: ingest.camera("cam-2").get("processed", 0) >= 40)
        status = ingest.camera("cam-1")
        code, metrics = ingest.get("/metrics")
        assert code == 200
        assert b'framegrid_frames_processed_total{camera="cam-1"}' in metrics
        assert b"framegrid_capture_to_stored_seconds_bucket" in metrics
        assert ingest.get("/healthz")[0] == 200
        assert ingest.get("/nothing")[0] == 404
    finally:
        seconds = ingest.stop()
    assert seconds < 5.0
    assert status["state"] == "running"
    assert status["counts"] == {"person": 1, "vehicle": 0}
    assert status["uniques"]["person"] == 1
    assert status["model"] == "m@1"
    assert 9 <= status["fps_processed"] <= 11
    assert status["p95_ms"] is not None
    assert status["p95_ms"] < 1500
    assert status["expected"] == status["processed"] + sum(status["dropped"].values())
    expected, processed, dropped, _ = query(database_url, COVERAGE)[0]
    assert expected == processed + dropped
    assert processed >= 70
    assert dropped <= 0.2 * expected
    samples = query(database_url, "SELECT sum(samples) FROM framegrid.frame_count")[0][0]
    assert samples == 2 * processed  # two counted classes
    assert sum(len(request.frames) for request in serve.requests) >= processed
    assert serve.connections <= 10


def test_serve_goes_away_and_comes_back_by_itself(
    tmp_path: Path, serve: FakeServe, cameras: Callable[[], FakeCamera], database_url: str
) -> None:
    upgrade(database_url)
    with running(
        tmp_path, serve.url, database_url, "cameras:\n" + one(cameras().url), deadline_s=0.5
    ) as ingest:
        ingest.wait(lambda: ingest.camera().get("processed", 0) >= 10)
        serve.refuse()
        ingest.wait(lambda: ingest.camera()["dropped"]["refused"] >= 10)
        status = ingest.status()
        assert not status["serve"]["up"]
        assert "connection refused; check serve_url and that serve runs" in status["serve"]["message"]
        assert ingest.camera()["state"] == "running"
        serve.listen()
        before = ingest.camera()["processed"]
        ingest.wait(lambda: ingest.camera()["processed"] >= before + 10)
        serve.mode = "hang"
        ingest.wait(lambda: ingest.camera()["dropped"]["stale"] >= 3)
        serve.mode = "ok"
        before = ingest.camera()["processed"]
        ingest.wait(lambda: ingest.camera()["processed"] >= before + 10)
    expected, processed, dropped, _ = query(database_url, COVERAGE)[0]
    assert expected == processed + dropped


def test_a_lost_camera_is_told_counted_and_opened_again(
    tmp_path: Path, serve: FakeServe, cameras: Callable[[], FakeCamera], database_url: str
) -> None:
    upgrade(database_url)
    lost, other = cameras(), cameras()
    text = "cameras:\n" + one(lost.url, "lost") + one(other.url, "other")
    with running(tmp_path, serve.url, database_url, text) as ingest:
        ingest.wait(lambda: ingest.camera("lost").get("processed", 0) >= 5)
        lost.stop()
        ingest.wait(lambda: ingest.camera("lost")["state"] == "failed")
        ingest.wait(lambda: ingest.camera("lost")["fault"] == "refused")
        assert "connection refused; check the port" in ingest.camera("lost")["message"]
        ingest.wait(lambda: ingest.camera("lost")["dropped"]["no_frame"] >= 10)
        before = ingest.camera("other")["processed"]
        ingest.wait(lambda: ingest.camera("other")["processed"] > before + 5)
        lost.start()
        before = ingest.camera("lost")["processed"]
        ingest.wait(lambda: ingest.camera("lost")["processed"] >= before + 5)
    kinds = [kind for (kind,) in query(database_url, "SELECT kind FROM framegrid.event ORDER BY time")]
    assert kinds.count("camera.lost") <= 3
    assert "camera.back" in kinds


def test_an_edit_touches_only_the_cameras_that_changed_and_a_broken_one_none(
    tmp_path: Path, serve: FakeServe, cameras: Callable[[], FakeCamera], database_url: str
) -> None:
    upgrade(database_url)
    kept, changed, added = cameras(), cameras(), cameras()
    path = tmp_path / "cameras.yaml"
    text = "cameras:\n" + one(kept.url, "kept") + one(changed.url, "changed")
    with running(tmp_path, serve.url, database_url, text) as ingest:
        ingest.wait(lambda: ingest.camera("changed").get("processed", 0) >= 5)
        path.write_text("cameras:\n" + one(kept.url, "kept") + "  - {name: changed, ulr: x}\n")
        ingest.wait(lambda: ingest.status()["config_error"])
        error = ingest.status()["config_error"]
        assert "cameras.yaml:3:21: cameras[1].ulr: unknown key, did you mean 'url'?" in error, error
        assert b"framegrid_config_ok 0.0" in ingest.get("/metrics")[1]
        before = ingest.camera("changed")["processed"]
        ingest.wait(lambda: ingest.camera("changed")["processed"] > before)
        new = (
            "cameras:\n"
            + one(added.url, "added")
            + one(kept.url, "kept")
            + one(changed.url, "changed", fps=5)
        )
        (tmp_path / "new.yaml").write_text(new)
        (tmp_path / "new.yaml").replace(path)  # as editors and Kubernetes do
        ingest.wait(lambda: ingest.camera("added").get("processed", 0) >= 5)
        assert ingest.status()["config_error"] == ""
        assert [c["name"] for c in ingest.status()["cameras"]] == ["added", "kept", "changed"]
        assert ingest.camera("changed")["fps"] == 5
        path.write_text(
            "cameras:\n" + one(kept.url, "kept") + one(changed.url, "changed", fps=5, paused=True)
        )
        ingest.wait(lambda: ingest.camera("changed")["state"] == "paused")
        expected = ingest.camera("changed")["expected"]
        time.sleep(0.6)
        assert ingest.camera("changed")["expected"] == expected, "a paused camera expects nothing"
        assert ingest.camera("added") == {}
    assert kept.clients == 1, "an edit elsewhere never reconnects a camera"
    assert changed.clients == 2


def test_a_file_read_fast_is_counted_whole_even_if_serve_comes_late(
    tmp_path: Path, serve: FakeServe, database_url: str
) -> None:
    import av

    upgrade(database_url)
    video = tmp_path / "clip.mp4"
    with av.open(str(video), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(200):
            frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), number, np.uint8), "bgr24")
            frame.pts = number
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    serve.refuse()
    text = "cameras:\n" + one("clip.mp4", fps=25, pace="fast", loop=False, start_s=1_700_000_000.0)
    with running(tmp_path, serve.url, database_url, text) as ingest:
        time.sleep(1.0)
        serve.statuses = [500, 503]
        serve.listen()
        ingest.wait(lambda: ingest.camera().get("state") == "ended" and ingest.camera()["processed"] == 200)
        ingest.wait(lambda: query(database_url, COVERAGE)[0][:3] == (200, 200, 0))
        # The track is closed after the last full interval, so it may be in a batch of its own.
        ingest.wait(lambda: query(database_url, "SELECT count(*) FROM framegrid.track") == [(1,)])
        status = ingest.camera()
    assert status["expected"] == 200
    assert sum(status["dropped"].values()) == 0
    assert query(database_url, COVERAGE)[0][:3] == (200, 200, 0)


def test_a_taken_port_and_wrong_settings_end_with_a_sentence(tmp_path: Path, serve: FakeServe) -> None:
    database_url = "postgresql://framegrid:hunter2@127.0.0.1:1/none"
    (tmp_path / "cameras.yaml").write_text("")

    def end(settings: str) -> tuple[int, str]:
        (tmp_path / "ingest.yaml").write_text(f"cameras: cameras.yaml\nserve_url: {serve.url}\n{settings}")
        done = subprocess.run(
            [sys.executable, "-m", "framegrid_ingest", "--config", str(tmp_path / "ingest.yaml")],
            env={**os.environ, "FRAMEGRID_DATABASE_URL": database_url},
            capture_output=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stderr.decode()

    code, text = end(f"http_port: {serve.port}\n")
    assert (code, f"expected a free port, got 127.0.0.1:{serve.port} in use" in text) == (1, True), text
    code, text = end("intervall_s: 1\n")
    assert (code, "unknown key, did you mean 'interval_s'?" in text) == (2, True), text


def test_ingest_runs_while_the_database_is_away(
    tmp_path: Path, serve: FakeServe, cameras: Callable[[], FakeCamera]
) -> None:
    database_url = "postgresql://framegrid:hunter2@127.0.0.1:1/none"
    with running(tmp_path, serve.url, database_url, "cameras:\n" + one(cameras().url)) as ingest:
        ingest.wait(lambda: ingest.camera().get("processed", 0) >= 10)
        ingest.wait(lambda: ingest.status()["store"]["rows_waiting"] > 0)
        store = ingest.status()["store"]
        assert not store["up"]
        assert store["message"]
    for text in (json.dumps(store), ingest.log.read_text()):
        assert "hunter2" not in text


def test_what_one_process_could_not_store_the_next_one_does(
    tmp_path: Path, serve: FakeServe, cameras: Callable[[], FakeCamera], database_url: str
) -> None:
    upgrade(database_url)
    text, away = "cameras:\n" + one(cameras().url), "postgresql://framegrid:hunter2@127.0.0.1:1/none"
    spool = {"store_spool_dir": str(tmp_path / "spool")}
    for name in ("away", "back"):
        (tmp_path / name).mkdir()
    with running(tmp_path / "away", serve.url, away, text, **spool) as ingest:
        ingest.wait(lambda: ingest.status()["store"]["spool"]["rows"] > 0)
        store = ingest.status()["store"]
        assert (store["up"], store["problem"], store["rows_lost"]) == (False, "", {})
        assert b"framegrid_store_spool_rows" in ingest.get("/metrics")[1]
        assert b"framegrid_store_healthy 1.0" in ingest.get("/metrics")[1]
        counted = ingest.camera()["expected"]
    with running(tmp_path / "back", serve.url, database_url, "cameras: []\n", **spool) as ingest:
        ingest.wait(lambda: ingest.status()["store"]["rows_stored"] > 0)
        ingest.wait(lambda: ingest.status()["store"]["spool"]["files"] == 0)
    ((expected, processed, dropped, _),) = query(database_url, COVERAGE)
    assert expected == processed + dropped
    assert expected >= counted > 0


# --- the client alone ---------------------------------------------------------------------------------------


def ask(serve: FakeServe, timeout_s: float = 2.0, times: int = 1) -> Any:
    async def scenario() -> Any:
        client = ServeClient(serve.url, IngestMetrics(), Clock())
        try:
            for _ in range(times):
                answer = await client.detect(
                    lambda left_ms: DetectRequest((Frame("cam", 1, jpeg(1)),), "m", left_ms),
                    time.monotonic() + timeout_s,
                )
        finally:
            client.close()
        return answer

    return asyncio.run(scenario())


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_is_retryable_is_retried_within_the_deadline(serve: FakeServe, status: int) -> None:
    serve.statuses = [status, status]
    assert ask(serve).version == "1"
    assert len(serve.requests) == 3
    assert serve.requests[0].timeout_ms > serve.requests[2].timeout_ms


@pytest.mark.parametrize("status", [400, 404, 413])
def test_what_serve_will_not_take_is_not_asked_again(serve: FakeServe, status: int) -> None:
    serve.statuses = [status]
    with pytest.raises(RefusedError, match=f"serve answered {status}: no"):
        ask(serve)
    assert len(serve.requests) == 1


def test_failures_end_with_the_deadline(serve: FakeServe) -> None:
    serve.mode = "500"
    began_s = time.monotonic()
    with pytest.raises(RetryLaterError, match="serve answered 500"):
        ask(serve, timeout_s=0.6)
    assert time.monotonic() - began_s < 0.9


def test_a_silent_serve_is_given_up_at_the_deadline(serve: FakeServe) -> None:
    serve.mode = "hang"
    with pytest.raises(asyncio.TimeoutError):
        ask(serve, timeout_s=0.4)


def test_a_reset_connection_is_retried(serve: FakeServe) -> None:
    serve.mode = "reset"
    threading.Timer(0.3, lambda: setattr(serve, "mode", "ok")).start()
    assert ask(serve).version == "1"


def test_connections_are_used_again(serve: FakeServe) -> None:
    ask(serve, times=20)
    assert serve.connections == 1
