"""One camera, from its configuration to its lane: opened, read, lost, opened again, told about.

States: connecting, running, stalled, failed, paused, ended (a recording that was read to its end). A change
that somebody should know of becomes an event: lost once, not at each failed attempt; back once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from framegrid_store.rows import EventRow

from framegrid_ingest.backoff import Backoff
from framegrid_ingest.clock import Clock
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.dispatcher import Dispatcher
from framegrid_ingest.errors import SourceError, SourceFault
from framegrid_ingest.intake import Intake, SourceFrame, StreamFacts
from framegrid_ingest.lane import Lane, LiveTotals, Sink
from framegrid_ingest.latency import CaptureToStored
from framegrid_ingest.load import Load
from framegrid_ingest.metrics import IngestMetrics
from framegrid_ingest.openings import Openings
from framegrid_ingest.outcomes import DropReason
from framegrid_ingest.sampler import Sampler, phase_of
from framegrid_ingest.slot import Slot, SlotPolicy
from framegrid_ingest.sources.opening import reader_for
from framegrid_ingest.sources.reader import Reader

logger = logging.getLogger(__name__)

# Recordings at full speed: enough decoded frames for the requests in flight; at 1080p 3 MB each.
RECORDING_SLOT_FRAMES = 12
# Cameras lock accounts after a few wrong passwords: ask seldom.
UNAUTHORIZED_WAIT_S = 30.0
LOG_EVERY = 20
_RATE_WINDOW_S = 5.0
_EVENT_NAMESPACE = uuid.UUID("6f1a3c52-6d0e-4c0f-9a53-3c1f0d0f6b11")


class CameraState(str, Enum):
    CONNECTING = "connecting"
    RUNNING = "running"
    STALLED = "stalled"
    FAILED = "failed"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all cameras of a process share."""

    clock: Clock
    dispatcher: Dispatcher
    sink: Sink
    metrics: IngestMetrics
    latency: CaptureToStored
    load: Load
    interval_s: float
    open_reader: Callable[[CameraConfig], Reader] = reader_for
    # No later tick is recorded (unix seconds); moves on while this process may, see kubernetes/membership.py.
    recorded_until_s: Callable[[], float] = lambda: math.inf
    openings: Openings = field(default_factory=Openings)


class Camera:
    """Call `run` as a task; cancel it to stop reading, then `finish`."""

    def __init__(
        self,
        config: CameraConfig,
        shared: Surroundings,
        totals: LiveTotals | None = None,
        not_before_s: float = -math.inf,
    ) -> None:
        """`not_before_s`: unix seconds before which there is no tick; others may have recorded until then."""
        self.config = config
        self.totals = totals or LiveTotals()
        self.state = CameraState.CONNECTING
        self.message = ""
        self.fault = ""
        self.since_s = shared.clock.unix_s()
        self.facts: StreamFacts | None = None
        self.reconnects = 0
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff()
        self._was_lost = False
        self._opened_once: Callable[[], None] = lambda: None
        self._opened_monotonic_s: float | None = None
        self._wake_pending = False
        self._rates: deque[tuple[float, int, int]] = deque()
        is_recording = config.source_kind == "file" and config.pace == "fast"
        started_s = shared.clock.unix_s()
        if not is_recording:
            started_s = max(started_s, not_before_s)
        elif config.start_s is not None:
            started_s = config.start_s
        if is_recording and config.start_s is None:
            # One origin for the reader's capture times and for the ticks.
            self._read_config = config.model_copy(update={"start_s": started_s})
        else:
            self._read_config = config
        phase = 0.0 if is_recording else phase_of(config.name)
        self._sampler = Sampler(config.fps, started_s, phase, shared.recorded_until_s)
        slot: Slot[SourceFrame] = (
            Slot(SlotPolicy.WAIT, RECORDING_SLOT_FRAMES) if is_recording else Slot(SlotPolicy.DROP_OLDEST)
        )
        self.intake = Intake(
            self._sampler, slot, shared.clock, self._wake, self._opened, is_recording=is_recording
        )
        self.lane = Lane(
            config,
            self.intake,
            self._sampler.time_of,
            shared.interval_s,
            sink=shared.sink,
            metrics=shared.metrics,
            latency=shared.latency,
            load=shared.load,
            totals=self.totals,
        )

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def recorded_until_s(self) -> float:
        """Unix seconds of the last tick that is claimed or missed."""
        return self._sampler.time_of(self.intake.next_tick.number - 1)

    async def run(self) -> None:
        """Read, and open again whenever the stream is lost, until cancelled or the recording ends."""
        if self.config.paused:
            self._change(CameraState.PAUSED, "paused by its configuration")
            return
        self._change(CameraState.CONNECTING, "")
        self._opened_once = await self._shared.openings.enter()
        while True:
            self._opened_monotonic_s = None
            try:
                await self._shared.open_reader(self._read_config).read(self.intake)
            except SourceError as error:
                if self.lane.is_recording and self.intake.frames_in:
                    self._lost(error)  # reading it again would count everything twice
                    break
                await self._wait(error)
                continue
            except Exception as error:  # noqa: BLE001  a mistake of ours: told, and tried again
                trace = self.config.url.hide(traceback.format_exc())
                logger.error("reading failed unexpectedly\n%s", trace, extra={"camera": self.name})
                message = f"reading failed unexpectedly ({type(error).__name__}); see the log"
                await self._wait(SourceError(SourceFault.OTHER, f"{self.config.url}: {message}"))
                continue
            self._change(CameraState.ENDED, "read to its end")
            break
        await self.finish(math.inf)

    def sweep(self) -> None:
        """A few times a second: give up ticks that no frame will reach, and note rates."""
        if self.state in (CameraState.PAUSED, CameraState.ENDED):
            return
        self.intake.sweep()
        self.lane.drain()
        self._note_rate()

    async def finish(self, timeout_s: float) -> None:
        """After `run` has ended: let what was read be counted, then close tracks and the open interval."""
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            self.lane.drain()
            if self.lane.is_settled:
                break
            if self.intake.waiting:
                self._shared.dispatcher.ready(self.lane)
            await asyncio.sleep(0.02)
        self.close()

    def close(self) -> None:
        """Settle what is left as stale and write the last rows."""
        self.intake.close(DropReason.STALE)
        self.lane.drain()
        self.lane.finish(self._shared.clock.unix_s())

    def frame_rates(self) -> tuple[float, float]:
        """Pictures delivered and frames processed per second, over the last few seconds."""
        if len(self._rates) < 2:
            return 0.0, 0.0
        (first_s, first_in, first_done), (last_s, last_in, last_done) = self._rates[0], self._rates[-1]
        span_s = max(1e-3, last_s - first_s)
        return (last_in - first_in) / span_s, (last_done - first_done) / span_s

    def event(self, kind: str, severity: str, message: str, **payload: Any) -> None:
        """Write an event of this camera."""
        now_s = self._shared.clock.unix_s()
        event_id = str(uuid.uuid5(_EVENT_NAMESPACE, f"{self.name}|{kind}|{now_s:.3f}"))
        self._shared.sink.put([EventRow(now_s, event_id, self.name, kind, severity, message, payload)])

    def _wake(self) -> None:
        """From any thread: something waits."""
        if self._wake_pending:
            return
        self._wake_pending = True
        try:
            self._loop.call_soon_threadsafe(self._woken)
        except RuntimeError:  # the loop is closed: nobody is left to wake
            self._wake_pending = False

    def _woken(self) -> None:
        self._wake_pending = False
        self.lane.drain()
        if self.intake.waiting:
            self._shared.dispatcher.ready(self.lane)

    def _opened(self, facts: StreamFacts) -> None:
        """From any thread: the stream delivers pictures like these."""
        self._loop.call_soon_threadsafe(self._note_opened, facts)

    def _note_opened(self, facts: StreamFacts) -> None:
        self._opened_once()
        before = self.facts
        self.facts = facts
        self._opened_monotonic_s = self._shared.clock.monotonic_s()
        if self.state is CameraState.RUNNING and before is not None:
            if (before.width, before.height) != (facts.width, facts.height):
                message = f"{facts.width} x {facts.height}, before {before.width} x {before.height}"
                logger.info("camera changed its size", extra={"camera": self.name, "size": message})
                self.event("camera.resized", "info", message, width=facts.width, height=facts.height)
            return
        self._change(CameraState.RUNNING, "")
        if self._was_lost:
            self.event("camera.back", "info", f"back: {facts}", source=facts.kind)
        else:
            self.event("camera.running", "info", str(facts), source=facts.kind)
        self._was_lost = False
        logger.info("camera runs: %s", facts, extra={"camera": self.name})

    async def _wait(self, error: SourceError) -> None:
        self._opened_once()
        self._lost(error)
        if self._opened_monotonic_s is not None:
            self._backoff.healthy(self._shared.clock.monotonic_s() - self._opened_monotonic_s)
        self.intake.reopen()
        self.reconnects += 1
        least_s = UNAUTHORIZED_WAIT_S if error.fault is SourceFault.UNAUTHORIZED else 0.0
        await asyncio.sleep(self._backoff.failed(at_least_s=least_s))

    def _lost(self, error: SourceError) -> None:
        self._shared.metrics.reconnects.labels(self.name, error.fault.value).inc()
        is_news = not self._was_lost or self.fault != error.fault.value
        state = CameraState.STALLED if error.fault is SourceFault.STALLED else CameraState.FAILED
        self._change(state, str(error), error.fault.value)
        if is_news:
            self.event("camera.lost", "warning", str(error), fault=error.fault.value)
        if is_news or self._backoff.failures % LOG_EVERY == 0:
            logger.warning(
                "camera lost: %s", error, extra={"camera": self.name, "attempts": self._backoff.failures + 1}
            )
        self._was_lost = True

    def _change(self, state: CameraState, message: str, fault: str = "") -> None:
        if state is not self.state:
            self.since_s = self._shared.clock.unix_s()
            if state is CameraState.PAUSED:
                self.event("camera.paused", "info", message)
            elif state is CameraState.ENDED:
                self.event("camera.ended", "info", message)
        self.state, self.message, self.fault = state, message, fault
        self._shared.metrics.camera_state(self.name, state.value)

    def _note_rate(self) -> None:
        now_s = self._shared.clock.monotonic_s()
        if self._rates and now_s - self._rates[-1][0] < 0.5:
            return
        self._rates.append((now_s, self.intake.frames_in, self.totals.processed))
        while now_s - self._rates[0][0] > _RATE_WINDOW_S:
            self._rates.popleft()
        self._shared.metrics.frames_in.labels(self.name).set(round(self.frame_rates()[0], 3))
