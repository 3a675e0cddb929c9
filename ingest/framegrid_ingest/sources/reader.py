"""What every source is: something that reads one connection until it ends.

A reader shows every picture to its `Intake`, which keeps the newest wanted one; so whoever asks for the next
frame never waits for a camera. `read` returns when a recording ends and raises SourceError when a camera is
lost; opening again is the caller's business. Libraries that block get a thread of their own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from typing import Protocol

from framegrid_ingest.intake import Intake
from framegrid_ingest.urls import CameraUrl

logger = logging.getLogger(__name__)

# A camera on the other side of a bad link answers within this; a dead one never does.
OPEN_TIMEOUT_S = 8.0
# A reading thread looks at its stop flag after every packet; one that is stuck in a read is left behind.
STOP_TIMEOUT_S = 1.0


class Reader(Protocol):
    """One source. Not reusable while a `read` is under way."""

    async def read(self, intake: Intake) -> None:
        """Read until the recording ends. Raises SourceError. Cancel it to stop."""


class ThreadedReader(ABC):
    """A reader on a thread of its own, for libraries that block."""

    def __init__(self, url: CameraUrl) -> None:
        self.url = url

    @abstractmethod
    def run(self, intake: Intake, stop: threading.Event) -> None:
        """Read until the end or until `stop` is set. Raises SourceError."""

    async def read(self, intake: Intake) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        stop = threading.Event()

        def settle(error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def work() -> None:
            failure: BaseException | None = None
            try:
                self.run(intake, stop)
            except BaseException as error:  # noqa: BLE001  handed to whoever awaits
                failure = error
            try:
                loop.call_soon_threadsafe(settle, failure)
            except RuntimeError:  # the loop was closed: nobody waits any more
                logger.debug("reader ended after its loop", extra={"url": str(self.url)})

        threading.Thread(target=work, name=f"framegrid-{type(self).__name__}", daemon=True).start()
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([done], timeout=STOP_TIMEOUT_S)
            if done.done() and not done.cancelled():
                done.exception()  # looked at, so that it is not reported as forgotten
            raise
