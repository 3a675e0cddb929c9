"""What pods talk to besides the API server: a serve and a camera, each a handler on a port of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import simplejpeg
from framegrid_serve.wire import DetectResponse, FrameResult, FrameStatus, decode_request, encode_response


class QuietHandler(BaseHTTPRequestHandler):
    """Clients that are killed are nothing to talk about."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()


class WireServe(QuietHandler):
    """Speaks the wire format: one person in each picture."""

    def do_GET(self) -> None:
        model = {"name": "m", "version": "1", "digest": "d", "input_size": 160, "classes": ["person", "car"]}
        model |= {"precision": "fp32", "licence": "Apache-2.0", "state": "ready"}
        self._send(json.dumps({"default": "m", "models": [model]}).encode())

    def do_POST(self) -> None:
        request = decode_request(self.rfile.read(int(self.headers["Content-Length"])))
        boxes = np.array([[0.4, 0.2, 0.5, 0.8]], np.float32)
        result = FrameResult(FrameStatus.OK, boxes, np.array([0.9], np.float32), np.array([0], np.int16))
        self._send(encode_response(DetectResponse("m", "1", "d", (result,) * len(request.frames))))

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class PictureCamera(QuietHandler):
    """A camera that is asked for each picture; with a password where the test sets one."""

    picture = bytes(simplejpeg.encode_jpeg(np.full((120, 160, 3), 90, np.uint8), 90, "BGR", "420"))
    password = ""

    def do_GET(self) -> None:
        wanted = base64.b64encode(f"viewer:{self.password}".encode()).decode()
        is_right = not self.password or self.headers.get("Authorization") == f"Basic {wanted}"
        body = self.picture if is_right else b""
        self.send_response(200 if is_right else 401)
        if not is_right:
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Served:
    """One handler class on a free port of this machine."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._handler = type("Own", (handler,), {})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def require(self, password: str) -> None:
        """From now on."""
        self._handler.password = password  # type: ignore[attr-defined]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
