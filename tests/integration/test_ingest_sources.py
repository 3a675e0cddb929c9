"""Real sockets, real files, real decoders: every kind of source, and every way in which one can be broken."""

import asyncio
import base64
import hashlib
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from framegrid_ingest.clock import Clock
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import SourceError, SourceFault
from framegrid_ingest.intake import Intake, SourceFrame, StreamFacts
from framegrid_ingest.outcomes import DropReason
from framegrid_ingest.pictures import Jpeg, to_jpeg
from framegrid_ingest.sampler import Sampler
from framegrid_ingest.slot import Slot, SlotPolicy
from framegrid_ingest.sources.opening import reader_for
from framegrid_ingest.sources.probe import ProbeResult, probe
from framegrid_ingest.urls import CameraUrl

pytestmark = pytest.mark.integration

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def picture(number: int, width: int = 320, height: int = 240) -> bytes:
    pixels = np.full((height, width, 3), (number * 7) % 200, np.uint8)
    pixels[:, : width // 2] = 255
    return bytes(simplejpeg.encode_jpeg(pixels, 90, "BGR", "420"))


class CameraServer:
    """Serves one handler on a port of its own, on a thread of its own."""

    def __init__(
        self, handler: Handler, context: ssl.SSLContext | None = None, *, waits_for_head: bool = True
    ) -> None:
        self._waits_for_head = waits_for_head
        self.requests: list[bytes] = []
        self._handler = handler
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "CameraServer":
        self._thread.start()
        self._started.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    def url(self, path: str = "/video", scheme: str = "http", login: str = "") -> str:
        return f"{scheme}://{login}127.0.0.1:{self.port}{path}"

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.current_task())  # type: ignore[arg-type]
            try:
                head = await (reader.readuntil(b"\r\n\r\n") if self._waits_for_head else reader.read(1000))
                self.requests.append(head)
                await self._handler(head, writer)
                await writer.drain()
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answer(body: bytes, content_type: str = "image/jpeg", status: str = "200 OK", extra: str = "") -> Handler:
    async def handler(head: bytes, writer: asyncio.StreamWriter) -> None:
        lines = (
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        )
        writer.write(lines.encode() + body)

    return handler


def mjpeg(
    fps: float = 20.0,
    stop_after: int = 10_000,
    hang: bool = False,
    size_after: int = 10_000,
    lag_s: float = 0.0,
) -> Handler:
    async def handler(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        for number in range(stop_after):
            data = picture(number) if number < size_after else picture(number, 640, 480)
            part = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n"
            part += f"X-Timestamp: {time.time() - lag_s:.6f}\r\n\r\n"
            writer.write(part.encode() + data + b"\r\n")
            await writer.drain()
            await asyncio.sleep(1 / fps)
        if hang:
            await asyncio.sleep(60)

    return handler


def bare_jpegs(content_type: str) -> Handler:
    async def handler(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.0 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode())
        for number in range(10_000):
            writer.write(picture(number))
            await writer.drain()
            await asyncio.sleep(0.05)

    return handler


def camera(url: str, **keys: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "cam", "url": CameraUrl(url), **keys})


def probed(url: str, timeout_s: float = 6.0, **keys: object) -> ProbeResult:
    return asyncio.run(probe(camera(url, **keys), timeout_s, measure_s=0.8))


class Reading:
    """What a reader shows, collected for some time."""

    def __init__(self, config: CameraConfig, start_s: float | None = None) -> None:
        self.facts: list[StreamFacts] = []
        self.frames: list[SourceFrame] = []
        self.missed: dict[DropReason | None, int] = {}
        self.error: BaseException | None = None
        is_recording = config.source_kind == "file" and config.pace == "fast"
        slot: Slot[SourceFrame] = Slot(SlotPolicy.WAIT, 4) if is_recording else Slot()
        self._sampler = Sampler(config.fps, time.time() if start_s is None else start_s)
        self.intake = Intake(
            self._sampler, slot, Clock(), lambda: None, self.facts.append, is_recording=is_recording
        )
        self._config = config

    def run(self, seconds: float) -> "Reading":
        asyncio.run(self._run(seconds))
        for missed in self.intake.drain():
            self.missed[missed.reason] = self.missed.get(missed.reason, 0) + len(missed.numbers)
        return self

    async def _run(self, seconds: float) -> None:
        task = asyncio.create_task(reader_for(self._config).read(self.intake))
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            frame = self.intake.take()
            if frame is not None:
                self.frames.append(frame)
            elif task.done():
                break
            await asyncio.sleep(0.002)
        if not task.done():
            task.cancel()
        result = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(result[0], asyncio.CancelledError):
            self.error = result[0]


# --- HTTP cameras -------------------------------------------------------------------------------------------


def test_mjpeg_is_probed() -> None:
    with CameraServer(mjpeg(fps=20)) as server:
        found = probed(server.url())
    assert (found.ok, found.kind, found.width, found.height) == (True, "mjpeg", 320, 240), found
    assert found.fps == pytest.approx(20, rel=0.4)
    assert found.first_frame_s < 2.0


def test_mjpeg_frames_are_passed_through_with_their_own_capture_time() -> None:
    with CameraServer(mjpeg(fps=25, lag_s=0.4)) as server:
        reading = Reading(camera(server.url(), fps=10)).run(2.0)
    assert 14 <= len(reading.frames) <= 21
    lags = [frame.arrived_at_s - frame.captured_at_s for frame in reading.frames]
    assert 0.35 < float(np.median(lags)) < 0.7
    first = reading.frames[0].picture
    assert isinstance(first, Jpeg)
    assert to_jpeg(first, 640).data is first.data


@pytest.mark.parametrize("content_type", ["video/x-motion-jpeg", "application/octet-stream", "image/jpeg"])
def test_jpegs_one_after_the_other_are_a_stream(content_type: str) -> None:
    with CameraServer(bare_jpegs(content_type)) as server:
        reading = Reading(camera(server.url(), fps=10)).run(1.5)
    assert len(reading.frames) >= 8
    assert reading.facts[0].kind == "mjpeg"


def test_a_single_jpeg_is_polled_at_its_ticks_and_only_then() -> None:
    with CameraServer(answer(picture(1))) as server:
        reading = Reading(camera(server.url("/frame.jpg"), fps=5)).run(2.1)
        asked = len(server.requests)
    assert 8 <= len(reading.frames) <= 11
    assert asked <= len(reading.frames) + 3


def test_a_camera_that_changes_its_size_is_told_and_goes_on() -> None:
    with CameraServer(mjpeg(fps=25, size_after=15)) as server:
        reading = Reading(camera(server.url(), fps=20)).run(1.5)
    assert [(facts.width, facts.height) for facts in reading.facts] == [(320, 240), (640, 480)]
    assert reading.error is None


def digest_only(head: bytes, user: str, password: str) -> bool:
    given = dict(re.findall(r'(\w+)="?([^",\r]+)"?', head.decode()))
    if "Digest" not in head.decode():
        return False

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    secret, request = md5(f"{user}:cam:{password}"), md5(f"GET:{given['uri']}")
    wanted = md5(f"{secret}:abc:{given['nc']}:{given['cnonce']}:auth:{request}")
    return given["response"] == wanted


def guarded(check: Callable[[bytes], bool], challenge: str) -> Handler:
    good = mjpeg()

    async def handler(head: bytes, writer: asyncio.StreamWriter) -> None:
        if check(head):
            await good(head, writer)
        else:
            await answer(b"no", "text/plain", "401 Unauthorized", f"WWW-Authenticate: {challenge}\r\n")(
                head, writer
            )

    return handler


def test_basic_and_digest_passwords_are_understood() -> None:
    password = "p@ss:w/rd"
    basic = b"Basic " + base64.b64encode(f"admin:{password}".encode())
    login = "admin:p%40ss%3Aw%2Frd@"
    with CameraServer(guarded(lambda head: basic in head, 'Basic realm="cam"')) as server:
        assert probed(server.url(login=login)).ok
    challenge = 'Digest realm="cam", nonce="abc", qop="auth"'
    with CameraServer(guarded(lambda head: digest_only(head, "admin", password), challenge)) as server:
        assert probed(server.url(login=login)).ok


def test_a_wrong_password_is_told_without_showing_it() -> None:
    with CameraServer(guarded(lambda head: False, 'Basic realm="cam"')) as server:
        found = probed(server.url(login="admin:hunter2@"))
        assert (found.ok, found.fault) == (False, "unauthorized")
        assert "check user and password" in found.message
        assert "hunter2" not in repr(found)
        assert "put user:${PASSWORD}@ before the host" in probed(server.url()).message


def test_a_redirect_is_followed_and_a_circle_is_told() -> None:
    with (
        CameraServer(mjpeg()) as target,
        CameraServer(answer(b"", status="302 Found", extra=f"Location: {target.url()}\r\n")) as server,
    ):
        assert probed(server.url()).ok
    with CameraServer(answer(b"", status="302 Found", extra="Location: /again\r\n")) as server:
        assert "redirects" in probed(server.url()).message


def huge(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + (16384).to_bytes(2, "big") * 2 + jpeg[at + 9 :]


@pytest.mark.parametrize(
    ("handler", "fault", "words"),
    [
        (answer(b"<html>hello", "text/html"), "not_video", "text/html that starts with '<html>hello'"),
        (answer(b"", "image/jpeg"), "empty", "got an empty answer; check the path"),
        (answer(b"", "application/octet-stream"), "empty", "got an empty answer; check the path"),
        (answer(b"not found", status="404 Not Found"), "not_found", "got 404 not found; check the path"),
        (answer(b"", status="503 Busy"), "server_error", "got error 503 from the camera"),
        (answer(picture(1)[:-900]), "truncated", "without its end: truncated"),
        (answer(huge(picture(1))), "too_large", "got 16384 x 16384"),
        (mjpeg(stop_after=0), "empty", "got an empty answer"),
    ],
    ids=["html", "empty-jpeg", "empty", "404", "503", "truncated", "16k", "no-parts"],
)
def test_what_is_no_camera_is_told_exactly(handler: Handler, fault: str, words: str) -> None:
    with CameraServer(handler) as server:
        found = probed(server.url())
    assert not found.ok
    assert found.fault == fault, found
    assert words in found.message
    assert f"http://127.0.0.1:{server.port}/video: " in found.message


def test_a_stream_of_garbage_is_no_video() -> None:
    async def garbage(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n")
        for _ in range(200):
            writer.write(b"--f\r\nContent-Length: 9\r\n\r\n\x00garbage!\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    with CameraServer(garbage) as server:
        found = probed(server.url())
    assert found.fault == "not_video"


def test_a_stream_that_falls_silent_is_stalled() -> None:
    with CameraServer(mjpeg(fps=50, stop_after=5, hang=True)) as server:
        reading = Reading(camera(server.url(), fps=10, stall_s=0.5)).run(5.0)
    assert getattr(reading.error, "fault", None) == "stalled", reading.error
    assert "expected a new picture every 0.5 s, got none" in str(reading.error)


def test_a_stream_that_ends_is_told() -> None:
    with CameraServer(mjpeg(fps=50, stop_after=5)) as server:
        reading = Reading(camera(server.url(), fps=10)).run(5.0)
    assert getattr(reading.error, "fault", None) == "reset", reading.error


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://127.0.0.1:1/video", "refused"),
        ("rtsp://127.0.0.1:1/stream", "refused"),
        ("http://127.0.0.1:1/live.m3u8", "refused"),
        ("http://no-such-host.invalid/video", "unreachable"),
        ("rtsp://no-such-host.invalid/stream", "unreachable"),
        ("/no/such/file.mp4", "not_found"),
        ("webcam:99", "device"),
    ],
)
def test_what_is_not_there_is_told(url: str, fault: str) -> None:
    assert probed(url).fault == fault


def self_signed(folder: Path) -> ssl.SSLContext:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=cam -keyout key.pem -out cert.pem"
    try:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl program to sign a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_a_certificate_that_nobody_signed_is_told_and_can_be_allowed(tmp_path: Path) -> None:
    with CameraServer(mjpeg(), self_signed(tmp_path)) as server:
        found = probed(server.url(scheme="https"))
        assert found.fault == "tls"
        assert "set tls_verify: false" in found.message
        assert probed(server.url(scheme="https"), tls_verify=False).ok
    with CameraServer(answer(b"", status="400 Bad Request"), waits_for_head=False) as server:
        found = probed(server.url(scheme="https"))
    assert found.fault == "tls"
    assert "use http:// or rtsp:// without the s" in found.message


# --- RTSP without a server: what a camera may answer --------------------------------------------------------


def rtsp(status: str, extra: str = "") -> Handler:
    async def handler(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(f"RTSP/1.0 {status}\r\nCSeq: 1\r\n{extra}\r\n".encode())

    return handler


@pytest.mark.parametrize(
    ("handler", "fault"),
    [
        (rtsp("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"\r\n'), "unauthorized"),
        (rtsp("404 Not Found"), "not_found"),
        (rtsp("503 Service Unavailable"), "server_error"),
        (answer(b"<html>", "text/html"), "not_video"),
    ],
    ids=["401", "404", "503", "http-instead"],
)
def test_rtsp_faults_are_told_exactly(handler: Handler, fault: str) -> None:
    with CameraServer(handler) as server:
        found = probed(server.url("/stream", "rtsp", "admin:hunter2@"), timeout_s=15)
    assert found.fault == fault, found
    assert "hunter2" not in repr(found)


# --- files --------------------------------------------------------------------------------------------------


def write_video(
    path: Path,
    seconds: float = 4.0,
    fps: int = 25,
    gop: int = 25,
    size: tuple[int, int] = (320, 240),
    **options: str,
) -> Path:
    with av.open(str(path), "w", options=options) as output:
        stream = output.add_stream("libx264", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "g": str(gop), "keyint_min": str(gop), "sc_threshold": "0"}
        stream.codec_context.thread_count = 1
        for number in range(int(seconds * fps)):
            pixels = np.full((size[1], size[0], 3), 40 + number % 150, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "bgr24")
            frame.pts = number
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4")


def test_a_file_is_probed(video: Path) -> None:
    found = probed(str(video))
    assert (found.ok, found.kind, found.codec, found.width, found.stated_fps) == (
        True,
        "file",
        "h264",
        320,
        25.0,
    )


@pytest.mark.parametrize("fps", [25.0, 10.0, 2.0])
def test_a_file_read_fast_gives_every_tick_its_frame_and_drops_nothing(video: Path, fps: float) -> None:
    config = camera(str(video), fps=fps, pace="fast", loop=False, start_s=1000.0)
    reading = Reading(config, start_s=1000.0).run(20)
    assert reading.error is None
    assert len(reading.frames) == pytest.approx(4 * fps, abs=1)
    assert reading.missed == {}
    times = [frame.captured_at_s for frame in reading.frames]
    assert times == sorted(times)
    assert times[0] == pytest.approx(1000.0, abs=0.5)
    assert times[-1] == pytest.approx(1004.0, abs=1.0 / fps + 0.05)


def test_a_looped_file_goes_on_in_time_without_a_seam(video: Path) -> None:
    config = camera(str(video), fps=5, pace="fast", start_s=1000.0)
    reading = Reading(config, start_s=1000.0).run(1.5)
    times = [frame.captured_at_s for frame in reading.frames]
    assert times[-1] > 1010.0
    assert max(np.diff(times)) < 0.25
    assert reading.missed == {}


def test_a_file_at_its_own_pace_takes_its_time(video: Path) -> None:
    reading = Reading(camera(str(video), fps=10)).run(2.0)
    assert 15 <= len(reading.frames) <= 22


def test_a_slowly_sampled_file_decodes_keyframes_only(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = camera(str(video), fps=0.5, pace="fast", loop=False, start_s=1000.0)
    reading = Reading(config, start_s=1000.0).run(20)
    assert [round(frame.captured_at_s) for frame in reading.frames] in ([1000, 1002], [1000, 1002, 1004])
    frames = [frame.picture.frame for frame in reading.frames]  # type: ignore[union-attr]
    assert all(frame.key_frame for frame in frames)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 s, a keyframe every 2 s, the index in front."""
    folder = tmp_path_factory.mktemp("long_video")
    return write_video(folder / "long.mp4", seconds=40, fps=5, gop=10, movflags="faststart")


@pytest.mark.parametrize("start_s", [1000.0, 1001.0, 1002.0, 1003.0, 1004.0])
def test_a_file_whose_last_keyframes_nobody_wants_has_not_been_cut(long_video: Path, start_s: float) -> None:
    once = camera(str(long_video), fps=0.2, pace="fast", loop=False, start_s=start_s)
    reading = Reading(once, start_s=start_s).run(20)
    assert reading.error is None
    assert 7 <= len(reading.frames) <= 9
    looped = camera(str(long_video), fps=0.2, pace="fast", start_s=start_s)
    times = [frame.captured_at_s - start_s for frame in Reading(looped, start_s=start_s).run(1.0).frames]
    assert times[-1] > 80.0
    keyframe_every_s = 2.0
    assert [round(at % keyframe_every_s, 6) % keyframe_every_s for at in times] == [0.0] * len(times)


@pytest.mark.parametrize("fps", [5.0, 0.2])
def test_a_file_that_has_been_cut_is_told(tmp_path: Path, long_video: Path, fps: float) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(long_video.read_bytes()[: long_video.stat().st_size * 6 // 10])
    reading = Reading(camera(str(cut), fps=fps, pace="fast", loop=False, start_s=0.0), start_s=0.0).run(20)
    assert isinstance(reading.error, SourceError)
    assert reading.error.fault is SourceFault.TRUNCATED
    assert "expected 40.0 s of video" in str(reading.error)


def test_broken_files_are_told_exactly(tmp_path: Path, video: Path) -> None:
    empty, text, cut = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "cut.mkv"
    empty.write_bytes(b"")
    text.write_text("not a video at all " * 100)
    whole = write_video(tmp_path / "whole.mkv")
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    assert probed(str(empty)).fault == "empty"
    assert probed(str(text)).fault == "not_video"
    reading = Reading(camera(str(cut), fps=25, pace="fast", loop=False, start_s=0.0), start_s=0.0).run(10)
    assert len(reading.frames) < 90


def test_a_video_without_a_picture_track_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            output.mux(packet)
    found = probed(str(path))
    assert found.fault == "not_video"
    assert "without a video track" in found.message


# --- HLS ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hls_folder(tmp_path: Path) -> Iterator[Path]:
    write_video(tmp_path / "live.m3u8", seconds=6, hls_time="1", hls_list_size="0", f="hls")
    yield tmp_path


def files(folder: Path) -> Handler:
    async def handler(head: bytes, writer: asyncio.StreamWriter) -> None:
        path = folder / head.split(b" ")[1].decode().lstrip("/")
        if path.is_file():
            kind = "application/vnd.apple.mpegurl" if path.suffix == ".m3u8" else "video/mp2t"
            await answer(path.read_bytes(), kind, extra="Connection: close\r\n")(head, writer)
        else:
            await answer(b"", status="404 Not Found")(head, writer)

    return handler


def test_hls_is_read_at_its_own_pace(hls_folder: Path) -> None:
    with CameraServer(files(hls_folder)) as server:
        reading = Reading(camera(server.url("/live.m3u8"), fps=10)).run(3.0)
        missing = probed(server.url("/other.m3u8"))
    assert reading.facts[0].kind == "hls"
    assert 18 <= len(reading.frames) <= 32
    steps = np.diff([frame.captured_at_s for frame in reading.frames])
    assert float(np.median(steps)) == pytest.approx(0.1, abs=0.045)
    assert missing.fault == "not_found"


def test_hls_behind_an_address_that_does_not_say_so_is_recognised(hls_folder: Path) -> None:
    (hls_folder / "stream").write_bytes((hls_folder / "live.m3u8").read_bytes())

    async def handler(head: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"GET /stream "):
            body = (hls_folder / "live.m3u8").read_bytes()
            await answer(body, "application/x-mpegURL", extra="Connection: close\r\n")(head, writer)
        else:
            await files(hls_folder)(head, writer)

    with CameraServer(handler) as server:
        found = probed(server.url("/stream"))
    assert (found.ok, found.kind) == (True, "hls"), found
