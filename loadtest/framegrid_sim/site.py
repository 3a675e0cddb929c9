"""The cameras of a server, who watches them, and the sending of frames. Event loop only."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from framegrid_sim.faults import Fault, FaultKind
from framegrid_sim.feed import FIRST_PART, CameraSpec, Feed
from framegrid_sim.wheel import FrameWheel, slots_for

# A viewer with more than this unsent gets no further frame until it has caught up: it sees fewer frames,
# never old ones, and costs at most this much and one frame here, and the send buffer in the kernel.
MAX_UNSENT_BYTES = 65_536
SEND_BUFFER_BYTES = 262_144
_LINGER_ZERO = struct.pack("ii", 1, 0)  # close() sends a reset and drops what is unsent


class SiteError(ValueError):
    """Cameras that cannot be served together."""


@dataclass(eq=False, slots=True)
class Viewer:
    """An open stream."""

    transport: asyncio.WriteTransport
    last_frame: int = -1


@dataclass(slots=True)
class Totals:
    frames_served: int = 0
    frames_skipped: int = 0  # not sent because the viewer had not taken the ones before
    bytes_served: int = 0


@dataclass(eq=False, slots=True)
class Channel:
    """A feed, its viewers, and its place on a wheel."""

    feed: Feed
    wheel: FrameWheel
    slot: int
    viewers: list[Viewer] = field(default_factory=list)


class Site:
    """Serves feeds to viewers; a fault takes effect here."""

    def __init__(self, cameras: Sequence[CameraSpec], clock: Callable[[], float] = time.time) -> None:
        """Raises SiteError for no camera, or for a name used twice."""
        names = [camera.name for camera in cameras]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if not cameras or doubles:
            raise SiteError(f"expected one or more cameras of different names, got {doubles or 'none'}")
        self.clock = clock
        self.start_s = clock()
        self.totals = Totals()
        self.fault_listeners: list[Callable[[Feed, Fault | None], None]] = []
        self.rtsp_port: int | None = None  # where the same cameras are served by RTSP
        self.http_port = 0
        self.channels: dict[str, Channel] = {}
        self._wheels: list[FrameWheel] = []
        # A whole second before the start: no frame has a number below 0, and numbers stay small and readable.
        epoch_s = float(int(self.start_s)) - 1
        for fps in sorted({camera.clip.fps for camera in cameras}):
            self._add_wheel([camera for camera in cameras if camera.clip.fps == fps], epoch_s)

    @property
    def viewer_count(self) -> int:
        return sum(len(channel.viewers) for channel in self.channels.values())

    @property
    def late_ticks(self) -> int:
        return sum(wheel.late_ticks for wheel in self._wheels)

    def watch(self, channel: Channel, viewer: Viewer) -> None:
        """Begin a stream: the current frame at once, then each frame at its time."""
        sock = viewer.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        viewer.transport.write(FIRST_PART)
        channel.viewers.append(viewer)
        now_s = self.clock()
        self._send(channel, [viewer], channel.feed.frame_at(now_s), channel.feed.faults.active(now_s))
        channel.wheel.poke()

    def leave(self, channel: Channel, viewer: Viewer) -> None:
        if viewer in channel.viewers:
            channel.viewers.remove(viewer)

    def set_fault(self, channel: Channel, fault: Fault | None) -> None:
        """Begin a fault, or with None end the active one."""
        if fault is None:
            channel.feed.faults.clear(self.clock())
        else:
            channel.feed.faults.begin(fault)
            if fault.kind.closes_streams:
                for viewer in tuple(channel.viewers):
                    end_connection(viewer.transport, reset=fault.kind is FaultKind.RESET)
        for listener in self.fault_listeners:
            listener(channel.feed, fault)

    def stop(self) -> None:
        """Stop the clocks and end every stream."""
        for wheel in self._wheels:
            wheel.stop()
        for channel in self.channels.values():
            for viewer in tuple(channel.viewers):
                end_connection(viewer.transport, reset=False)

    def _add_wheel(self, cameras: list[CameraSpec], epoch_s: float) -> None:
        fps = cameras[0].clip.fps
        slots: list[list[Channel]] = [[] for _ in range(slots_for(fps, len(cameras)))]

        def show(slot: int, frame: int) -> None:
            now_s = self.clock()
            for channel in slots[slot]:
                if channel.viewers:
                    shown = frame + channel.feed.spec.phase_frames
                    self._send(channel, channel.viewers, shown, channel.feed.faults.active(now_s))

        def is_watched(slot: int) -> bool:
            return any(channel.viewers for channel in slots[slot])

        wheel = FrameWheel(fps, len(slots), epoch_s, show=show, is_watched=is_watched, clock=self.clock)
        self._wheels.append(wheel)
        for i, camera in enumerate(cameras):
            slot = i % len(slots)
            channel = Channel(Feed(camera, wheel.slot_epoch_s(slot)), wheel, slot)
            slots[slot].append(channel)
            self.channels[camera.name] = channel

    def _send(self, channel: Channel, viewers: list[Viewer], frame: int, fault: Fault | None) -> None:
        """The hot path: build the part once, write it to everybody who has room."""
        part = channel.feed.part(frame, fault)
        if part is None:
            return
        for viewer in viewers:
            if frame <= viewer.last_frame:
                continue
            viewer.last_frame = frame
            if viewer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                self.totals.frames_skipped += 1
                continue
            viewer.transport.write(part)
            self.totals.frames_served += 1
            self.totals.bytes_served += len(part)


def end_connection(transport: asyncio.WriteTransport, *, reset: bool) -> None:
    """Close without waiting for what is unsent; with `reset`, by TCP RST."""
    sock = transport.get_extra_info("socket")
    if reset and sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
