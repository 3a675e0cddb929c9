"""One camera from claimed tick to rows: outcomes in, in any order; counts out, in the order of capture.

A lane belongs to the event loop. Whatever happens to a tick ends in `processed`, `dropped` or `drain`, each
exactly once (the ledger sees to it); analysis and rows follow when all earlier ticks are settled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from framegrid_store.rows import CoverageRow, CrossingRow, DetectionRow, Row, TrackRow

from framegrid_ingest.analysis import CameraAnalysis, ClosedTrack, Detections, FrameAnalysis
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.intake import Intake, SourceFrame
from framegrid_ingest.intervals import Interval, Intervals
from framegrid_ingest.latency import CaptureToStored
from framegrid_ingest.load import Load
from framegrid_ingest.metrics import IngestMetrics
from framegrid_ingest.outcomes import DropReason, Ledger, Settled

logger = logging.getLogger(__name__)

# A frame reached ingest in these cases, so serve was (to be) offered it.
_OFFERED = frozenset({DropReason.OVERLOAD, DropReason.STALE, DropReason.REFUSED})


class Sink(Protocol):
    """Takes rows; never blocks."""

    def put(self, rows: Sequence[Row]) -> None:
        """Hand rows over."""


@dataclass(frozen=True, slots=True)
class CountedFrame:
    """A frame with what serve found in it."""

    captured_at_s: float
    latency_from_s: float
    detections: Detections
    model: str


@dataclass(slots=True)
class LiveTotals:
    """What status shows. Survives a change of the camera's configuration."""

    expected: int = 0
    processed: int = 0
    dropped: dict[DropReason, int] = field(default_factory=lambda: dict.fromkeys(DropReason, 0))
    uniques: dict[str, int] = field(default_factory=dict)
    crossings: dict[str, dict[str, dict[str, int]]] = field(
        default_factory=dict
    )  # line -> class -> direction
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # zone -> class -> now
    model: str = ""
    last_captured_at_s: float | None = None


class Lane:
    """One camera's accounting and analysis."""

    def __init__(
        self,
        camera: CameraConfig,
        intake: Intake,
        time_of: Callable[[int], float],
        interval_s: float,
        *,
        sink: Sink,
        metrics: IngestMetrics,
        latency: CaptureToStored,
        load: Load,
        totals: LiveTotals,
        analysis: CameraAnalysis | None = None,
    ) -> None:
        self.camera = camera
        self.intake = intake
        self.is_recording = camera.source_kind == "file" and camera.pace == "fast"
        self.analysis = analysis or CameraAnalysis(camera)
        self.totals = totals
        self._time_of = time_of
        self._intervals = Intervals(camera.name, camera.fps, interval_s)
        self._ledger: Ledger[CountedFrame] = Ledger(intake.next_tick.number)
        self._sink = sink
        self._metrics = metrics
        self._latency = latency
        self._load = load
        self._is_finished = False

    @property
    def name(self) -> str:
        return self.camera.name

    @property
    def is_settled(self) -> bool:
        """Every claimed or missed tick has its outcome. Call `drain` before asking."""
        return self._ledger.next_number >= self.intake.next_tick.number

    def drain(self) -> None:
        """Settle what the intake knows to be missed."""
        for missed in self.intake.drain():
            if missed.reason is None:
                self._apply(self._ledger.skip(missed.numbers))
                continue
            for number in missed.numbers:
                self._apply(self._ledger.drop(number, missed.reason))
        if self.intake.is_held and self.is_settled:
            self._close_interval()
            self._ledger.rewind(self.intake.release())

    def take(self) -> SourceFrame | None:
        """The frame that waits, if any."""
        return self.intake.take()

    def processed(self, frame: SourceFrame, detections: Detections, model: str) -> None:
        """Serve has answered for `frame`."""
        latency_from_s = frame.arrived_at_s if self.is_recording else frame.captured_at_s
        counted = CountedFrame(frame.captured_at_s, latency_from_s, detections, model)
        self._apply(self._ledger.processed_frame(frame.tick.number, counted))

    def dropped(self, frame: SourceFrame, reason: DropReason) -> None:
        """`frame` will not be counted."""
        self._apply(self._ledger.drop(frame.tick.number, reason))

    def finish(self, now_s: float) -> None:
        """No more frames will come: close tracks and the open interval.

        Outcomes that come later all the same (of requests under way) are written when all are there.
        """
        self._is_finished = True
        ended_s = self.totals.last_captured_at_s if self.is_recording else now_s
        self._sink.put(self._track_rows(self.analysis.close(now_s if ended_s is None else ended_s)))
        self._close_interval()

    def _apply(self, settled: list[Settled[CountedFrame]]) -> None:
        for one in settled:
            tick_s = self._time_of(one.number)
            self._advance(tick_s)
            interval = self._intervals.at(tick_s)
            self._metrics.camera_settled(self.name, one.reason)
            self.totals.expected += 1
            if one.result is not None:
                self._count(one.number, one.result, interval)
            elif one.reason is not None:
                self._miss(tick_s, one.reason, interval)
        if settled:
            self._advance(self._time_of(self._ledger.next_number))
            if self._is_finished and self.is_settled:
                self._close_interval()

    def _advance(self, next_tick_s: float) -> None:
        closed = self._intervals.advance(next_tick_s)
        if closed is not None:
            self._write(closed)

    def _miss(self, tick_s: float, reason: DropReason, interval: Interval) -> None:
        interval.drop(reason)
        self.analysis.missed(tick_s)
        self.totals.dropped[reason] += 1
        if reason in _OFFERED:
            self._load.add(self.camera.model, is_dropped=True)

    def _count(self, number: int, frame: CountedFrame, interval: Interval) -> None:
        self._load.add(self.camera.model)
        found = self.analysis.process(frame.captured_at_s, frame.detections)
        interval.count(frame.model, found.counts, found.new_uniques, found.score_sums, frame.latency_from_s)
        self._tell(frame, found)
        rows: list[Row] = [
            CrossingRow(c.captured_at_s, self.name, c.line, c.cls, c.track_id, c.direction, frame.model)
            for c in found.crossings
        ]
        rows += self._track_rows(found.closed)
        if self.camera.store_detections:
            rows += [
                DetectionRow(
                    frame.captured_at_s,
                    self.name,
                    number,
                    t.cls,
                    frame.model,
                    t.track_id,
                    t.score,
                    *t.box_xyxy,
                )
                for t in found.tracks
            ]
        if rows:
            self._sink.put(rows)

    def _tell(self, frame: CountedFrame, found: FrameAnalysis) -> None:
        totals = self.totals
        totals.processed += 1
        totals.model = frame.model
        totals.last_captured_at_s = frame.captured_at_s
        counts: dict[str, dict[str, int]] = {}
        for (zone, cls), n in found.counts.items():
            counts.setdefault(zone, {})[cls] = n
        totals.counts = counts
        for cls, n in found.new_uniques.items():
            totals.uniques[cls] = totals.uniques.get(cls, 0) + n
        for crossing in found.crossings:
            by_class = totals.crossings.setdefault(crossing.line, {})
            by_direction = by_class.setdefault(crossing.cls, {"in": 0, "out": 0})
            by_direction[crossing.direction] += 1

    def _track_rows(self, closed: Sequence[ClosedTrack]) -> list[Row]:
        return [
            TrackRow(
                t.track_id,
                self.name,
                t.cls,
                self.totals.model,
                t.started_at_s,
                t.ended_at_s,
                t.frames,
                t.score_max,
                t.first_box,
                t.last_box,
            )
            for t in closed
        ]

    def _close_interval(self) -> None:
        closed = self._intervals.close()
        if closed is not None:
            self._write(closed)

    def _write(self, interval: Interval) -> None:
        rows = self._intervals.rows(interval)
        coverage = rows[0]
        if isinstance(coverage, CoverageRow):
            self._latency.expect(coverage, interval.captured_s)
        self._sink.put(rows)
