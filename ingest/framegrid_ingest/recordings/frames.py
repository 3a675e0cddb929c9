"""The sampled frames of one source, one after another, without servers: ingest's readers as an iterator."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from framegrid_ingest.clock import Clock
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.intake import Intake, SourceFrame, StreamFacts
from framegrid_ingest.outcomes import DropReason
from framegrid_ingest.pictures import BgrPicture, Jpeg, Picture, Pixels, VideoPicture
from framegrid_ingest.sampler import Sampler
from framegrid_ingest.slot import Slot, SlotPolicy
from framegrid_ingest.sources.opening import reader_for

# Decoded frames that may wait while the detector works; at 1080p one is 3 MB.
WAITING_FRAMES = 8
SWEEP_S = 0.25


class SampledFrames:
    """Iterate over it to read. A recording gives every sampled frame; a live source the newest one.

    After the iteration `missed` is the number of ticks without a frame, by reason.
    """

    def __init__(self, camera: CameraConfig, *, is_recording: bool) -> None:
        self.camera = camera
        self.facts: StreamFacts | None = None
        self.missed: dict[DropReason, int] = {}
        self._is_recording = is_recording
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._stop = threading.Event()
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[SourceFrame]:
        """Raises SourceError when the source cannot be opened or is lost."""
        clock = Clock()
        start_s = (self.camera.start_s or 0.0) if self._is_recording else clock.unix_s()
        policy, capacity = (
            (SlotPolicy.WAIT, WAITING_FRAMES) if self._is_recording else (SlotPolicy.DROP_OLDEST, 1)
        )
        intake = Intake(
            Sampler(self.camera.fps, start_s),
            Slot(policy, capacity),
            clock,
            self._wake.set,
            self._opened,
            is_recording=self._is_recording,
        )
        thread = threading.Thread(target=self._read, args=(intake,), name="reader", daemon=True)
        thread.start()
        try:
            while True:
                frame = None if self._stop.is_set() else intake.take()
                if frame is not None:
                    yield frame
                elif self._stop.is_set() or (self._ended.is_set() and not intake.waiting):
                    break
                else:
                    self._wake.wait(SWEEP_S)
                    self._wake.clear()
                    intake.sweep()
        finally:
            self._stop.set()
            intake.close(DropReason.OVERLOAD)
            thread.join(timeout=5.0)
            for missed in intake.drain():
                if missed.reason is not None:
                    self.missed[missed.reason] = self.missed.get(missed.reason, 0) + len(missed.numbers)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Ends the iteration, from another thread too."""
        self._stop.set()
        self._wake.set()

    def _opened(self, facts: StreamFacts) -> None:
        self.facts = facts

    def _read(self, intake: Intake) -> None:
        try:
            asyncio.run(self._read_until_stopped(intake))
        except Exception as error:  # noqa: BLE001  raised again in the iterating thread
            self._error = error
        finally:
            self._ended.set()
            self._wake.set()

    async def _read_until_stopped(self, intake: Intake) -> None:
        reading = asyncio.ensure_future(reader_for(self.camera).read(intake))
        while not reading.done() and not self._stop.is_set():
            await asyncio.wait([reading], timeout=SWEEP_S)
        if not reading.done():
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            return
        await reading


def to_bgr(picture: Picture) -> Pixels:
    """The full picture as BGR uint8 (H, W, 3), for drawing."""
    if isinstance(picture, BgrPicture):
        return picture.pixels
    if isinstance(picture, VideoPicture):
        pixels: Pixels = picture.frame.to_ndarray(format="bgr24")
        return pixels
    assert isinstance(picture, Jpeg)
    import simplejpeg

    decoded: Pixels = simplejpeg.decode_jpeg(picture.data, "BGR")
    return decoded
