"""A camera of this machine, by OpenCV."""

from __future__ import annotations

import threading

import cv2

from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import SourceError, SourceFault
from framegrid_ingest.intake import Intake, StreamFacts
from framegrid_ingest.pictures import BgrPicture
from framegrid_ingest.sources.reader import ThreadedReader

MAX_FAILED_READS = 30


class WebcamReader(ThreadedReader):
    """`webcam:0` is the first device."""

    def __init__(self, camera: CameraConfig) -> None:
        super().__init__(camera.url)
        self._device = int(camera.url.reveal().partition(":")[2].lstrip("/"))

    def run(self, intake: Intake, stop: threading.Event) -> None:
        # Its own words about devices that are not there go to stderr; ours go where they belong.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = cv2.VideoCapture(self._device)
        try:
            if not capture.isOpened():
                raise SourceError(
                    SourceFault.DEVICE,
                    f"{self.url}: expected a camera at device {self._device}, got none that opens; "
                    f"check that it is plugged in and that no other program uses it",
                )
            rate = float(capture.get(cv2.CAP_PROP_FPS) or 0.0)
            failed = 0
            while not stop.is_set():
                is_good, pixels = capture.read()
                if not is_good:
                    failed += 1
                    intake.corrupt()
                    if failed >= MAX_FAILED_READS:
                        raise SourceError(
                            SourceFault.DEVICE,
                            f"{self.url}: expected pictures, got {failed} failed reads; plug it in again",
                        )
                    continue
                failed = 0
                height, width = pixels.shape[:2]
                intake.opened(StreamFacts("webcam", "raw", width, height, round(rate, 3)))
                intake.offer(BgrPicture(pixels))
        finally:
            capture.release()
