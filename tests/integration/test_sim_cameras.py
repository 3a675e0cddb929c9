"""The camera server over real sockets: streams, truth, every fault and its end, slow viewers, the command."""

import http.client
import json
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import simplejpeg
from framegrid_sim.clip import Clip, SceneSettings
from framegrid_sim.feed import CameraSpec
from framegrid_sim.server import BackgroundServer, ServeError
from framegrid_sim.site import MAX_UNSENT_BYTES
from framegrid_sim.truth import ClipTruth, CrossingTruth, FrameTruth, ObjectTruth, SeenTruth

pytestmark = pytest.mark.integration

FPS = 20.0
FRAMES = 100
WIDTH, HEIGHT = 320, 180
PERSON = ObjectTruth(1, "person", (0.4, 0.2, 0.5, 0.6), 1.0, 120.0)


def grey_clip() -> Clip:
    """Frame i has the grey level 2 * i; one person crosses `gate` at frame 20.5 of each pass."""
    noise = np.random.default_rng(1).integers(
        0, 24, (HEIGHT, WIDTH, 3), np.uint8
    )  # so that JPEGs have some size
    jpegs = [simplejpeg.encode_jpeg(noise + np.uint8(2 * i), quality=90) for i in range(FRAMES)]
    truth = ClipTruth(
        fps=FPS,
        frames=tuple(FrameTruth(i, (PERSON,) if 10 <= i < 40 else ()) for i in range(FRAMES)),
        lines=(("gate", (0.5, 0.0), (0.5, 1.0)),),
        zones=(),
        crossings=(CrossingTruth(20.5, "gate", "person", "in", 1),),
        seen=(SeenTruth(1, "person", 10, 39),),
        ids_per_pass=1,
    )
    return Clip(SceneSettings(width=WIDTH, height=HEIGHT, fps=FPS, duration_s=FRAMES / FPS), jpegs, truth)


CLIP = grey_clip()


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    cameras = [CameraSpec("north", CLIP), CameraSpec("south", CLIP, 50, auth="bob:pw")]
    with BackgroundServer(cameras) as running:
        yield running


def call(server: BackgroundServer, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """(status, headers, body) of one request."""
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=5)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def port_of(server: BackgroundServer) -> int:
    return int(server.url.rsplit(":", 1)[1])


def break_camera(server: BackgroundServer, kind: str, seconds: float = 30) -> None:
    query = urlencode({"kind": kind, "seconds": seconds})
    status, _, body = call(server, f"/cameras/north/fault?{query}", "POST")
    assert status == 200, body


class Stream:
    """A viewer that reads parts as a camera client does: header, Content-Length, bytes, boundary."""

    def __init__(
        self, server: BackgroundServer, camera: str = "north", receive_bytes: int | None = None
    ) -> None:
        self.sock = socket.socket()
        if receive_bytes is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(3)
        self.sock.connect(("127.0.0.1", port_of(server)))
        self.sock.sendall(f"GET /cameras/{camera}/stream.mjpg HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.file = self.sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = self._headers()

    def _headers(self) -> dict[str, str]:
        headers = {}
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        return headers

    def part(self) -> tuple[dict[str, str], bytes]:
        line = self.file.readline()
        while line == b"\r\n":
            line = self.file.readline()
        assert line == b"--framegrid\r\n", line[:60]
        headers = self._headers()
        return headers, self.file.read(int(headers["Content-Length"]))

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()


def grey_level(jpeg: bytes) -> float:
    return float(simplejpeg.decode_jpeg(jpeg, colorspace="GRAY").mean())


def test_a_stream_shows_each_frame_once_at_its_time(server: BackgroundServer) -> None:
    with Stream(server) as stream:
        assert stream.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=framegrid"
        parts, late_s = [], []
        for _ in range(20):
            parts.append(stream.part())
            late_s.append(time.time() - float(parts[-1][0]["X-Timestamp"]))
    numbers = [int(headers["X-Frame"]) for headers, _ in parts]
    assert numbers == sorted(set(numbers))
    assert [jpeg for _, jpeg in parts] == [CLIP.jpegs[n % FRAMES] for n in numbers]
    assert min(late_s[1:]) > -0.001  # never before its time
    assert sorted(late_s[1:])[9] < 0.05  # the median; the first frame is up to one period old


def test_the_truth_of_a_window_fits_the_stream_that_was_seen(server: BackgroundServer) -> None:
    _, _, body = call(server, "/cameras/north")
    camera = json.loads(body)
    from_s, to_s = camera["epoch_s"], camera["epoch_s"] + 3 * FRAMES / FPS
    _, _, body = call(server, f"/cameras/north/truth?from={from_s}&to={to_s}")
    truth = json.loads(body)
    assert truth["crossed"]["gate"]["person"] == {"in": 3, "out": 0}
    assert [c["time_s"] for c in truth["crossings"]] == [
        pytest.approx(from_s + (20.5 + p * FRAMES) / FPS, abs=1e-5) for p in range(3)
    ]
    assert truth["uniques"]["person"] == 3


def test_many_viewers_of_a_camera_see_the_same_frames(server: BackgroundServer) -> None:
    with Stream(server) as one, Stream(server) as two:
        seen = [{h["X-Frame"]: jpeg for h, jpeg in (s.part() for _ in range(10))} for s in (one, two)]
    both = seen[0].keys() & seen[1].keys()
    assert len(both) >= 7
    assert all(seen[0][k] == seen[1][k] for k in both)


def test_a_picture_says_its_time_and_number(server: BackgroundServer) -> None:
    status, headers, body = call(server, "/cameras/north/frame.jpg")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert body == CLIP.jpegs[int(headers["X-Frame"]) % FRAMES]


def test_a_connection_serves_several_requests(server: BackgroundServer) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=5)) as connection:
        for path in ("/", "/cameras", "/stats", "/healthz"):
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            assert response.read()


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/cameras/west/frame.jpg", "GET", 404),
        ("/cameras/north/film.mp4", "GET", 404),
        ("/cameras/north/truth?from=x", "GET", 400),
        ("/cameras/north/fault?kind=explode", "POST", 400),
        ("/cameras/north/fault?kind=stop", "GET", 405),
    ],
)
def test_a_wrong_request_is_told_what_was_expected(
    server: BackgroundServer, path: str, method: str, status: int
) -> None:
    got, _, body = call(server, path, method)
    assert got == status
    assert json.loads(body)["error"].startswith("expected")


def test_pictures_of_a_secured_camera_want_its_password(server: BackgroundServer) -> None:
    right, wrong = (f"Basic {b64encode(text).decode()}" for text in (b"bob:pw", b"bob:no"))
    status, headers, _ = call(server, "/cameras/south/frame.jpg")
    assert status == 401
    assert headers["WWW-Authenticate"].startswith('Basic realm="south"')
    assert call(server, "/cameras/south/stream.mjpg", Authorization=wrong)[0] == 401
    assert call(server, "/cameras/south/frame.jpg", Authorization=right)[0] == 200
    assert call(server, "/cameras/south/truth")[0] == 200  # the control routes have no password


@pytest.mark.parametrize(
    ("kind", "status"),
    [("stop", 503), ("unauthorized", 401), ("notvideo", 200), ("empty", 200), ("reset", None)],
)
def test_a_fault_ends_open_streams_and_answers_new_requests(
    server: BackgroundServer, kind: str, status: int | None
) -> None:
    with Stream(server) as stream:
        stream.part()
        break_camera(server, kind)
        if status is None:
            with pytest.raises(ConnectionResetError):
                while stream.file.read(65_536):
                    pass
        else:
            while stream.file.read(65_536):
                pass
    if status is None:
        with pytest.raises(ConnectionResetError):
            call(server, "/cameras/north/stream.mjpg")
    else:
        got, headers, body = call(server, "/cameras/north/stream.mjpg")
        assert got == status
        assert (kind == "empty") == (body == b"")
        assert (kind == "notvideo") == headers["Content-Type"].startswith("text/html")
        assert (kind == "stop") == ("Retry-After" in headers)
    assert call(server, "/healthz")[0] == 200  # the other cameras go on


def test_a_fault_is_over_after_its_seconds(server: BackgroundServer) -> None:
    break_camera(server, "stop", seconds=0.4)
    assert call(server, "/cameras/north/frame.jpg")[0] == 503
    deadline_s = time.monotonic() + 5
    while call(server, "/cameras/north/frame.jpg")[0] != 200:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    [fault] = json.loads(call(server, "/cameras/north/truth")[2])["faults"]
    assert fault["kind"] == "stop"
    assert fault["until_s"] - fault["from_s"] == pytest.approx(0.4, abs=0.002)


def test_the_kind_none_ends_a_fault_at_once(server: BackgroundServer) -> None:
    break_camera(server, "stop")
    break_camera(server, "none")
    assert call(server, "/cameras/north/frame.jpg")[0] == 200


def parts_after(server: BackgroundServer, stream: Stream, kind: str, count: int) -> list[bytes]:
    """Break the camera under an open stream and read `count` parts of what then comes."""
    stream.part()
    break_camera(server, kind)
    began_s = time.time()
    while True:
        headers, jpeg = stream.part()
        if float(headers["X-Timestamp"]) > began_s:
            break
    return [jpeg, *(stream.part()[1] for _ in range(count - 1))]


def test_a_frozen_camera_repeats_one_picture(server: BackgroundServer) -> None:
    with Stream(server) as stream:
        assert len(set(parts_after(server, stream, "freeze", 5))) == 1


def test_a_black_camera_sends_black(server: BackgroundServer) -> None:
    with Stream(server) as stream:
        assert all(grey_level(jpeg) < 1 for jpeg in parts_after(server, stream, "black", 3))


def test_a_camera_changes_its_size_in_the_middle_of_a_stream_and_back(server: BackgroundServer) -> None:
    with Stream(server) as stream:
        for jpeg in parts_after(server, stream, "resize", 3):
            assert simplejpeg.decode_jpeg_header(jpeg)[:2] == (HEIGHT // 2, WIDTH // 2)
        assert simplejpeg.decode_jpeg_header(after_clear(server, stream))[:2] == (HEIGHT, WIDTH)


def after_clear(server: BackgroundServer, stream: Stream) -> bytes:
    break_camera(server, "none")
    began_s = time.time()
    while True:
        headers, jpeg = stream.part()
        if float(headers["X-Timestamp"]) > began_s:
            return jpeg


@pytest.mark.parametrize("kind", ["truncated", "huge"])
def test_a_broken_picture_leaves_the_stream_in_step(server: BackgroundServer, kind: str) -> None:
    with Stream(server) as stream:
        for jpeg in parts_after(server, stream, kind, 3):
            if kind == "huge":
                assert simplejpeg.decode_jpeg_header(jpeg)[:2] == (16_384, 16_384)
            else:
                with pytest.raises(ValueError, match="JPEG"):
                    simplejpeg.decode_jpeg(jpeg)
        assert after_clear(server, stream) in CLIP.jpegs


def test_garbage_breaks_the_multipart_and_whole_parts_follow_it(server: BackgroundServer) -> None:
    with Stream(server) as stream:
        stream.part()
        break_camera(server, "garbage", seconds=0.4)
        data, deadline_s = b"", time.monotonic() + 10
        while data.count(b"X-Frame: ") < 12:
            assert time.monotonic() < deadline_s
            data += stream.file.read1(65_536)
    chunks = data.split(b"--framegrid\r\n")[1:-1]  # the last one may be cut by the read
    [noise] = [chunk for chunk in chunks if not chunk.startswith(b"Content-Type")]
    assert len(noise) > 4 * len(CLIP.jpegs[0])  # some pictures' worth of it between two boundaries
    assert len(chunks) >= 10


def test_a_slow_camera_sends_a_tenth_and_a_stalled_one_nothing(server: BackgroundServer) -> None:
    with Stream(server) as stream:
        parts_after(server, stream, "slow", 1)
        one, two = (float(stream.part()[0]["X-Timestamp"]) for _ in range(2))
        assert two - one == pytest.approx(10 / FPS, abs=1e-4)
        break_camera(server, "stall")
        stream.sock.settimeout(0.8)
        with pytest.raises(TimeoutError):
            while True:  # what was on its way, then nothing
                stream.part()


def test_a_slow_viewer_loses_frames_and_costs_a_bounded_buffer(server: BackgroundServer) -> None:
    big = Clip(CLIP.settings, [jpeg + bytes(400_000) for jpeg in CLIP.jpegs], CLIP.truth)
    with (
        BackgroundServer([CameraSpec("big", big)]) as heavy,
        Stream(heavy, "big", receive_bytes=4096) as idle,
    ):
        deadline_s = time.monotonic() + 10
        while not (stats := json.loads(call(heavy, "/stats")[2]))["frames_skipped"]:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        time.sleep(0.5)
        [viewer] = heavy.site.channels["big"].viewers
        assert viewer.transport.get_write_buffer_size() <= MAX_UNSENT_BYTES + 2 * len(big.jpegs[0])
        later = json.loads(call(heavy, "/stats")[2])
        assert later["frames_served"] == stats["frames_served"]
        first, _ = idle.part()  # it still reads whole parts once it reads
        second, _ = idle.part()
        assert int(second["X-Frame"]) > int(first["X-Frame"])


def test_a_taken_port_is_said_with_what_to_do(server: BackgroundServer) -> None:
    port = port_of(server)
    with (
        pytest.raises(ServeError, match=rf"got 127\.0\.0\.1:{port} .*--port"),
        BackgroundServer([CameraSpec("north", CLIP)], port=port),
    ):
        pass
