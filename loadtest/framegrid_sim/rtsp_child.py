"""RTSP cameras by GStreamer's RTSP server. A program of its own: standard library and gi, system's Python.

GStreamer's Python bindings belong to the system's interpreter, so `framegrid_sim.rtsp` runs this file by it.
Standard input: one JSON line {"host", "port", "user", "password", "cameras": [{"name", "file", "sizes",
"keyframes", "fps", "rate", "epoch_s", "width", "height"}]}, then commands {"camera", "kind", "until_s"}; its
end is the end of the server. Standard output: {"ready": true, "port": N}, or {"error": "…"}.

Frames are pushed at their time by the wall clock, the same frames that HTTP shows at that time. A new viewer
waits for the next keyframe, at most one GOP.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

ROUNDING_FRAMES = 1e-4
SLOW_FACTOR = 10
REFUSING = ("stop", "reset", "unauthorized", "notvideo", "empty")
CAPS = (
    "video/x-h264,stream-format=byte-stream,alignment=au,width={width},height={height},framerate={num}/{den}"
)
PIPELINE = (
    '( appsrc name=source is-live=true format=time block=false max-bytes=4000000 caps="{caps}" '
    "! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 mtu=1400 )"
)


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer
except (ImportError, ValueError) as problem:
    say({"error": str(problem)})
    sys.exit(3)


class Camera:
    """An H.264 loop, its clock and its fault."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.path = "/" + config["name"]
        self.fps: float = config["fps"]
        self.epoch_s: float = config["epoch_s"]
        self.keyframes: list[bool] = config["keyframes"]
        with Path(config["file"]).open("rb") as file:
            self.units = [file.read(size) for size in config["sizes"]]
        num, den = config["rate"]
        caps = CAPS.format(width=config["width"], height=config["height"], num=num, den=den)
        self.launch = PIPELINE.format(caps=caps)
        self.fault, self.fault_from_s, self.fault_until_s = "", 0.0, 0.0

    def active_fault(self) -> str:
        """The kind of the active fault, "" for none."""
        return self.fault if time.time() < self.fault_until_s else ""

    def frame_now(self) -> int:
        return math.floor((time.time() - self.epoch_s) * self.fps + ROUNDING_FRAMES)

    def keyframe_before(self, frame: int) -> int:
        """The frame itself or the last one before it that is a keyframe; frame 0 of the loop always is."""
        at = frame % len(self.units)
        while not self.keyframes[at]:
            at -= 1
        return at

    def unit(self, frame: int, fault: str) -> tuple[bytes | None, bool]:
        """(bytes to push or None, whether they are the frame itself)."""
        at = frame % len(self.units)
        if fault in REFUSING or fault == "stall":
            return None, False
        if fault == "slow":
            return (self.units[self.keyframe_before(frame)] if frame % SLOW_FACTOR == 0 else None), False
        if fault == "freeze":
            frozen = math.floor((self.fault_from_s - self.epoch_s) * self.fps)
            return self.units[self.keyframe_before(frozen)], False
        if fault == "garbage":
            noise = os.urandom(len(self.units[at])).replace(b"\x00\x00", b"\x01\x01")
            return b"\x00\x00\x00\x01\x41" + noise, False  # a slice of a picture, by its header
        return self.units[at], True

    def begin(self, kind: str, until_s: float) -> None:
        self.fault, self.fault_from_s, self.fault_until_s = kind, time.time(), until_s


class Pusher:
    """Pushes a camera's frames into one media (shared by its viewers) until the media is gone."""

    def __init__(self, camera: Camera, media: Any) -> None:
        self.camera = camera
        self.media = media
        self.source = media.get_element().get_by_name("source")
        self.last = camera.frame_now() - 1
        self.intact = False  # nothing before a keyframe, and nothing after a fault until the next one
        self.first_pts = -1
        self.first_frame = 0
        self.timer = GLib.timeout_add(1, self.push)
        media.connect("unprepared", self.stop)

    def stop(self, *_: Any) -> None:
        if self.timer:
            GLib.source_remove(self.timer)
            self.timer = 0

    def playing(self) -> bool:
        """Whether the pipeline has told its time: from another thread, first the clock, then the base time.

        A frame stamped between the two is of a time hours ahead, and the viewer gets no frame at all.
        """
        return self.source.get_clock() is not None and self.source.get_base_time() not in (
            0,
            Gst.CLOCK_TIME_NONE,
        )

    def push(self) -> bool:
        """Push what is due, then wait for the next frame's time. False ends this timer."""
        camera = self.camera
        if self.first_pts < 0 and not self.playing():
            self.timer = GLib.timeout_add(1, self.push)
            return False
        newest = camera.frame_now()
        # A late process sends at once what it missed: H.264 cannot leave frames out. After a second, anew.
        if newest - self.last > max(camera.fps, 2):
            self.last, self.intact = newest - 1, False
        for frame in range(self.last + 1, newest + 1):
            self.last = frame
            fault = camera.active_fault()
            data, decodable = camera.unit(frame, fault)
            if fault:
                self.intact = False
            elif camera.keyframes[frame % len(camera.units)]:
                self.intact = True
            if data is not None and (self.intact or not decodable) and not self.emit(data, frame):
                self.timer = 0
                return False
        wait_s = camera.epoch_s + (newest + 1) / camera.fps - time.time()
        self.timer = GLib.timeout_add(max(1, math.ceil(wait_s * 1000)), self.push)
        return False

    def emit(self, data: bytes, frame: int) -> bool:
        if self.first_pts < 0:
            self.first_pts = max(0, self.source.get_clock().get_time() - self.source.get_base_time())
            self.first_frame = frame
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = self.first_pts + int((frame - self.first_frame) * Gst.SECOND / self.camera.fps)
        buffer.dts = buffer.pts
        buffer.duration = int(Gst.SECOND / self.camera.fps)
        return bool(self.source.emit("push-buffer", buffer) == Gst.FlowReturn.OK)


class Server:
    def __init__(self, config: dict[str, Any]) -> None:
        self.cameras = {one["name"]: Camera(one) for one in config["cameras"]}
        self.secured = config.get("user") is not None
        self.viewers: dict[Any, str] = {}  # client -> path it plays
        self.mounted: set[str] = set()  # paths; a refusing camera's is not there
        self.rtsp = GstRtspServer.RTSPServer()
        self.rtsp.set_address(config["host"])
        self.rtsp.set_service(str(config["port"]))
        self.rtsp.connect("client-connected", self.on_client)
        if self.secured:
            self.secure(config["user"], config["password"])
        for camera in self.cameras.values():
            self.mount(camera)

    def secure(self, user: str, password: str) -> None:
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth = GstRtspServer.RTSPAuth()
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        self.rtsp.set_auth(auth)

    def mount(self, camera: Camera) -> None:
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(camera.launch)
        factory.set_shared(True)
        factory.connect("media-configure", lambda _, media: Pusher(camera, media))
        if self.secured:
            permissions = GstRtspServer.RTSPPermissions()
            permissions.add_role("viewer")
            permissions.add_permission_for_role("viewer", "media.factory.access", True)
            permissions.add_permission_for_role("viewer", "media.factory.construct", True)
            factory.set_permissions(permissions)
        self.rtsp.get_mount_points().add_factory(camera.path, factory)
        self.mounted.add(camera.path)

    def on_client(self, _: Any, client: Any) -> None:
        client.connect("play-request", self.on_play)
        client.connect("closed", lambda c: self.viewers.pop(c, None))

    def on_play(self, client: Any, context: Any) -> None:
        self.viewers[client] = "/" + context.uri.abspath.strip("/").split("/")[0]

    def command(self, command: dict[str, Any]) -> None:
        camera = self.cameras.get(command["camera"])
        if camera is None:
            return
        camera.begin(command["kind"], command["until_s"])
        if camera.active_fault() in REFUSING:
            self.mounted.discard(camera.path)
            self.rtsp.get_mount_points().remove_factory(camera.path)
            for client in [c for c, path in self.viewers.items() if path == camera.path]:
                client.close()
        self.restore(camera)

    def restore(self, camera: Camera) -> bool:
        """Serve the camera, now or when its fault is over. False: the timer that called is done."""
        if camera.active_fault() in REFUSING:
            left_ms = max(1, math.ceil((camera.fault_until_s - time.time()) * 1000))
            GLib.timeout_add(left_ms, self.restore, camera)
        elif camera.path not in self.mounted:
            self.mount(camera)
        return False


def main() -> int:
    Gst.init(None)
    missing = [n for n in ("appsrc", "h264parse", "rtph264pay") if Gst.ElementFactory.find(n) is None]
    if missing:
        say({"error": "no GStreamer element " + ", ".join(missing)})
        return 3
    if "--check" in sys.argv:
        return 0
    config = json.loads(sys.stdin.readline())
    server = Server(config)
    if not server.rtsp.attach(None):
        say({"error": "address in use: {host}:{port}".format(**config)})
        return 4
    loop = GLib.MainLoop()

    def on_input(channel: Any, condition: Any) -> bool:
        line = sys.stdin.readline()
        if not line:
            loop.quit()
            return False
        server.command(json.loads(line))
        return True

    GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition(1 | 16), on_input)
    say({"ready": True, "port": server.rtsp.get_bound_port()})
    loop.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
