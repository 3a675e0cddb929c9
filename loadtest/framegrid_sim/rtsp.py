"""RTSP for the served cameras: GStreamer's RTSP server as a child process beside the HTTP server.

The child shows at each moment the frame that HTTP shows, so the truth over HTTP holds for both. It is fed
through its standard input and ends with it, so that it never outlives its parent.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import shutil
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

from framegrid_sim.clip import Clip
from framegrid_sim.faults import Fault
from framegrid_sim.feed import Feed
from framegrid_sim.h264 import encode_units

SYSTEM_PYTHON = Path("/usr/bin/python3")  # python3-gi is built for this one
CHILD = Path(__file__).with_name("rtsp_child.py")
DEBIAN_PACKAGES = (
    "python3-gi",
    "gir1.2-gst-rtsp-server-1.0",
    "gstreamer1.0-plugins-base",  # appsrc
    "gstreamer1.0-plugins-good",  # rtph264pay
    "gstreamer1.0-plugins-bad",  # h264parse
)
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0


class RtspError(RuntimeError):
    """RTSP cannot be served here; the message says what to install or change."""


class RtspServer:
    """Serves feeds at rtsp://host:port/<camera>. `start` blocks for the encoding, about 2 ms a frame."""

    def __init__(self, feeds: list[Feed], host: str, port: int, gop: int | None = None) -> None:
        """`gop`: frames from one keyframe to the next; None for one a second. Raises RtspError.

        The credentials of the first camera that has some are those of all: in RTSP they are the server's.
        """
        self.host = host
        self.port = port
        self._feeds = feeds
        self._gop = gop
        self._child: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Encode the clips and start the child. Raises RtspError without GStreamer or a free port."""
        if not SYSTEM_PYTHON.exists():
            raise RtspError(_install_hint(f"no {SYSTEM_PYTHON}"))
        self._folder = tempfile.TemporaryDirectory(prefix="framegrid-rtsp-")
        self._child = subprocess.Popen(
            [str(SYSTEM_PYTHON), "-I", str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self._write(self._config(Path(self._folder.name)))
            answer = self._read_answer()
        except BaseException:
            self.stop()
            raise
        if "error" in answer:
            code = self._child.wait(STOP_TIMEOUT_S)
            self.stop()
            raise RtspError(
                _install_hint(answer["error"])
                if code == 3
                else f"expected a free RTSP address, got {answer['error']}; choose another --rtsp-port"
            )
        self.port = int(answer["port"])

    def set_fault(self, feed: Feed, fault: Fault | None) -> None:
        """Pass a fault on. Those of JPEGs (black, resize, truncated, huge) act on HTTP alone."""
        command = {"camera": feed.name, "kind": "none", "until_s": 0.0}
        if fault is not None:
            command |= {"kind": fault.kind.value, "until_s": fault.until_s}
        self._write(command)

    def stop(self) -> None:
        """End the child; it ends by itself when its standard input does."""
        if self._child is not None:
            assert self._child.stdin is not None and self._child.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
            try:
                self._child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child.stdout.close()
            self._child = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _config(self, folder: Path) -> dict[str, Any]:
        auth = next((feed.spec.auth for feed in self._feeds if feed.spec.auth), None)
        user, _, password = (auth or "").partition(":")
        encoded: dict[int, dict[str, Any]] = {}
        cameras = []
        for feed in self._feeds:
            if id(feed.clip) not in encoded:
                path = folder / f"clip-{len(encoded)}.h264"
                encoded[id(feed.clip)] = _encode(feed.clip, path, self._gop)
            cameras.append({"name": feed.name, "epoch_s": feed.epoch_s, **encoded[id(feed.clip)]})
        return {
            "host": self.host,
            "port": self.port,
            "user": user if auth else None,
            "password": password if auth else None,
            "cameras": cameras,
        }

    def _write(self, value: dict[str, Any]) -> None:
        if self._child is None or self._child.stdin is None:
            return
        try:
            self._child.stdin.write(json.dumps(value) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            return  # the child has ended; whoever waits for its answer gets to know why

    def _read_answer(self) -> dict[str, Any]:
        assert self._child is not None and self._child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            line = self._child.stdout.readline() if selector.select(START_TIMEOUT_S) else ""
        if not line:
            raise RtspError(_install_hint(f"no answer from {CHILD.name} within {START_TIMEOUT_S:.0f} s"))
        answer: dict[str, Any] = json.loads(line)
        return answer


def rtsp_problem() -> str | None:
    """None when this machine can serve RTSP, else what is missing and what to install."""
    if not SYSTEM_PYTHON.exists():
        return _install_hint(f"no {SYSTEM_PYTHON}")
    check = subprocess.run(
        [str(SYSTEM_PYTHON), "-I", str(CHILD), "--check"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    if check.returncode == 0:
        return None
    line = check.stdout.strip().splitlines()[-1:] or ['{"error": "the check failed"}']
    return _install_hint(str(json.loads(line[0])["error"]))


def _encode(clip: Clip, path: Path, gop: int | None) -> dict[str, Any]:
    units = encode_units(clip, gop or max(1, round(clip.fps)))
    path.write_bytes(b"".join(units.units))
    rate = Fraction(clip.fps).limit_denominator(1001)
    return {
        "file": str(path),
        "sizes": [len(unit) for unit in units.units],
        "keyframes": units.keyframes,
        "fps": clip.fps,
        "rate": [rate.numerator, rate.denominator],
        "width": clip.settings.width,
        "height": clip.settings.height,
    }


def _install_hint(problem: str) -> str:
    how = f"apt-get install {' '.join(DEBIAN_PACKAGES)}" if shutil.which("apt-get") else "install GStreamer"
    return f"expected GStreamer's RTSP server for the system's Python, got: {problem}; {how} (Debian's names)"
