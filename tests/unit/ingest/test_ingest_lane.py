"""From ticks to rows: the books balance for every camera, whatever happens to its frames."""

import random
from collections import Counter

import numpy as np
import pytest
from framegrid_ingest.analysis import Detections
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.intake import Intake, SourceFrame
from framegrid_ingest.lane import Lane, LiveTotals
from framegrid_ingest.latency import CaptureToStored
from framegrid_ingest.load import Load
from framegrid_ingest.metrics import IngestMetrics
from framegrid_ingest.outcomes import DropReason
from framegrid_ingest.pictures import Jpeg
from framegrid_ingest.sampler import Sampler
from framegrid_ingest.slot import Slot
from framegrid_ingest.urls import CameraUrl
from framegrid_store.rows import CountRow, CoverageRow, CrossingRow, TrackRow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PICTURE = Jpeg(b"\xff\xd8\xff\xd9")
EMPTY = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), ())


def make_lane(clock, sink, *, fps: float = 10.0, interval_s: float = 1.0, **camera: object):  # type: ignore[no-untyped-def]
    config = CameraConfig.model_validate(
        {"name": "cam", "url": CameraUrl("rtsp://h/s"), "fps": fps, "model": "m", **camera}
    )
    sampler = Sampler(fps, clock.unix_s())
    intake = Intake(sampler, Slot[SourceFrame](), clock, lambda: None, lambda facts: None)
    return Lane(
        config,
        intake,
        sampler.time_of,
        interval_s,
        sink=sink,
        metrics=IngestMetrics(),
        latency=CaptureToStored(lambda camera, age_s: None),
        load=Load(clock),
        totals=LiveTotals(),
    )


def persons(*boxes: tuple[float, float, float, float]) -> Detections:
    return Detections(
        np.array(boxes, np.float32), np.full(len(boxes), 0.9, np.float32), ("person",) * len(boxes)
    )


def check_books(lane: Lane, sink) -> list[CoverageRow]:  # type: ignore[no-untyped-def]
    rows = sink.of(CoverageRow)
    for row in rows:
        assert row.expected == row.processed + sum(row[6:]), row
        assert 0.0 <= row.observed_s <= row.interval_s + 1e-9
    assert len({row.time_s for row in rows}) == len(rows), "one coverage row for each interval"
    totals = lane.totals
    assert totals.expected == totals.processed + sum(totals.dropped.values())
    assert totals.expected == sum(row.expected for row in rows)
    samples = Counter()
    for row in sink.of(CountRow):
        samples[row.time_s, row.cls, row.zone] += row.samples
    processed = {row.time_s: row.processed for row in rows if row.processed}
    for (time_s, _, _), n in samples.items():
        assert processed[time_s] == n
    return rows


def test_a_second_of_frames_becomes_one_coverage_and_one_count_row_per_class(clock, sink) -> None:  # type: ignore[no-untyped-def]
    lane = make_lane(clock, sink)
    for _ in range(21):
        lane.intake.offer(PICTURE)
        lane.drain()
        frame = lane.take()
        assert frame is not None
        lane.processed(frame, EMPTY, "m@1")
        clock.advance(0.1)
    rows = check_books(lane_finished(lane, clock), sink)
    assert [(row.expected, row.processed, row.observed_s) for row in rows[:2]] == [
        (10, 10, 1.0),
        (10, 10, 1.0),
    ]
    counted = [row for row in sink.of(CountRow) if row.time_s == rows[0].time_s]
    assert {(row.cls, row.n_sum, row.samples) for row in counted} == {("person", 0, 10), ("vehicle", 0, 10)}


def lane_finished(lane: Lane, clock) -> Lane:  # type: ignore[no-untyped-def]
    lane.drain()
    lane.finish(clock.unix_s())
    return lane


def test_a_replaced_frame_is_an_overload_and_a_silent_camera_has_no_frame(clock, sink) -> None:  # type: ignore[no-untyped-def]
    lane = make_lane(clock, sink)
    for _ in range(5):
        lane.intake.offer(PICTURE)
        clock.advance(0.1)
    clock.advance(1.0)
    lane.intake.sweep()
    lane.drain()
    frame = lane.take()
    assert frame is not None
    lane.processed(frame, EMPTY, "m@1")
    check_books(lane_finished(lane, clock), sink)
    assert lane.totals.dropped[DropReason.OVERLOAD] == 4
    assert lane.totals.dropped[DropReason.NO_FRAME] >= 8


def test_an_interval_is_written_as_soon_as_its_last_tick_is_settled(clock, sink) -> None:  # type: ignore[no-untyped-def]
    lane = make_lane(clock, sink)
    frames = []
    for _ in range(10):
        lane.intake.offer(PICTURE)
        frames.append(lane.take())
        clock.advance(0.1)
    for frame in reversed(frames):
        assert sink.of(CoverageRow) == []
        lane.processed(frame, EMPTY, "m@1")
    assert [row.processed for row in sink.of(CoverageRow)] == [10]


def test_answers_that_come_in_any_order_are_tracked_in_the_order_of_capture(clock, sink) -> None:  # type: ignore[no-untyped-def]
    line = {"name": "door", "start": (0.5, 1.0), "end": (0.5, 0.0)}
    lane = make_lane(clock, sink, lines=[line], store_detections=True)
    waiting = []
    rng = random.Random(3)
    for n in range(60):
        lane.intake.offer(PICTURE)
        x = 0.2 + n * 0.01
        waiting.append((lane.take(), persons((x - 0.05, 0.4, x + 0.05, 0.8))))
        clock.advance(0.1)
        if len(waiting) == 4:
            rng.shuffle(waiting)
            for frame, detections in waiting:
                lane.processed(frame, detections, "m@1")
            waiting = []
    check_books(lane_finished(lane, clock), sink)
    assert [(row.line, row.direction) for row in sink.of(CrossingRow)] == [("door", "in")]
    (track,) = sink.of(TrackRow)
    assert track.frames == 60
    assert lane.totals.uniques["person"] == 1
    assert lane.totals.crossings == {"door": {"person": {"in": 1, "out": 0}}}
    assert sum(row.uniques for row in sink.of(CountRow)) == 1


def test_a_clock_set_back_goes_on_from_there_when_all_is_settled(clock, sink) -> None:  # type: ignore[no-untyped-def]
    lane = make_lane(clock, sink)
    lane.intake.offer(PICTURE)
    frame = lane.take()
    clock.now_s -= 3600.0
    lane.intake.sweep()
    assert lane.intake.is_held
    assert lane.intake.offer(PICTURE) is False
    lane.drain()
    assert lane.intake.is_held, "a frame is still under way"
    lane.processed(frame, EMPTY, "m@1")
    lane.drain()
    assert not lane.intake.is_held
    clock.advance(0.1)
    assert lane.intake.offer(PICTURE)
    lane.processed(lane.take(), EMPTY, "m@1")
    check_books(lane_finished(lane, clock), sink)
    assert lane.totals.processed == 2


def test_a_clock_set_forward_expects_nothing_of_the_time_that_never_was(clock, sink) -> None:  # type: ignore[no-untyped-def]
    lane = make_lane(clock, sink)
    lane.intake.offer(PICTURE)
    lane.processed(lane.take(), EMPTY, "m@1")
    clock.now_s += 7200.0
    lane.intake.sweep()
    lane.drain()
    clock.advance(0.1)
    lane.intake.offer(PICTURE)
    lane.processed(lane.take(), EMPTY, "m@1")
    check_books(lane_finished(lane, clock), sink)
    assert lane.totals.expected <= 4


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["offer", "corrupt", "take", "answer", "drop", "sweep", "drain"]),
        st.floats(0.0, 0.35),
    ),
    max_size=150,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    STEPS,
    st.sampled_from([1.0, 4.0, 10.0, 25.0]),
    st.sampled_from([0.25, 1.0]),
    st.randoms(use_true_random=False),
)
def test_the_books_balance_whatever_happens(  # noqa: PLR0917  fixtures and examples
    make_clock, make_sink, steps, fps: float, interval_s: float, rng: random.Random
) -> None:  # type: ignore[no-untyped-def]
    clock, sink = make_clock(), make_sink()
    lane = make_lane(clock, sink, fps=fps, interval_s=interval_s)
    first = lane.intake.next_tick.number
    taken: list[SourceFrame] = []
    for what, step_s in steps:
        clock.advance(step_s)
        if what == "offer":
            lane.intake.offer(PICTURE)
        elif what == "corrupt":
            lane.intake.corrupt()
        elif what == "sweep":
            lane.intake.sweep()
        elif what == "drain":
            lane.drain()
        elif what == "take":
            frame = lane.take()
            taken += [frame] if frame else []
        elif taken:
            frame = taken.pop(rng.randrange(len(taken)))
            if what == "answer":
                lane.processed(frame, EMPTY, rng.choice(["m@1", "m@2"]))
            else:
                lane.dropped(frame, rng.choice([DropReason.STALE, DropReason.REFUSED]))
    for frame in taken:
        lane.dropped(frame, DropReason.STALE)
    lane.intake.close(DropReason.STALE)
    lane_finished(lane, clock)
    assert lane.is_settled
    check_books(lane, sink)
    assert lane.totals.expected == lane.intake.next_tick.number - first


def test_capture_to_stored_is_measured_for_each_frame(clock) -> None:  # type: ignore[no-untyped-def]
    seen: list[float] = []
    latency = CaptureToStored(lambda camera, age_s: seen.append(age_s))
    row = CoverageRow(100.0, 1.0, "cam", 1.0, 2, 2, 0, 0, 0, 0, 0)
    latency.expect(row, [100.1, 100.9])
    latency.stored([row, row], 101.1)
    assert seen == pytest.approx([1.0, 0.2])
    assert latency.percentiles_s("cam", 101.2) == pytest.approx((0.2, 1.0))
    assert latency.percentiles_s("cam", 200.0) is None
    assert latency.percentiles_s("other", 101.2) is None
