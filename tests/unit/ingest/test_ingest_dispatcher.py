"""Frames go out in fair batches, and each gets exactly one outcome, whatever serve does."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from framegrid_ingest.catalog import Catalog, parse_models
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.dispatcher import Dispatcher
from framegrid_ingest.errors import ClientError, RefusedError, RetryLaterError
from framegrid_ingest.intake import Intake, SourceFrame
from framegrid_ingest.lane import Lane, LiveTotals
from framegrid_ingest.latency import CaptureToStored
from framegrid_ingest.load import KEPT_S, Load
from framegrid_ingest.metrics import IngestMetrics
from framegrid_ingest.outcomes import DropReason
from framegrid_ingest.pictures import Jpeg
from framegrid_ingest.sampler import Sampler
from framegrid_ingest.slot import Slot, SlotPolicy
from framegrid_ingest.urls import CameraUrl
from framegrid_serve.wire import DetectRequest, DetectResponse, FrameResult, FrameStatus
from framegrid_store.rows import CountRow

MODELS = json.dumps(
    {
        "models": [
            {"name": "m", "version": "1", "digest": "d", "classes": ["person", "car"], "input_size": 640}
        ]
    }
).encode()


def one_person() -> FrameResult:
    boxes = np.array([[0.1, 0.1, 0.2, 0.5]], np.float32)
    return FrameResult(FrameStatus.OK, boxes, np.array([0.9], np.float32), np.array([0], np.int16))


class FakeServe:
    """Answers by a script; holds answers back until `go` is set."""

    def __init__(self) -> None:
        self.requests: list[DetectRequest] = []
        self.go = asyncio.Event()
        self.go.set()
        self.fail: Exception | None = None
        self.result = one_person
        self.version = "1"

    async def detect(self, make_request, deadline_s: float, counted) -> DetectResponse:  # type: ignore[no-untyped-def]
        request = make_request(1000)
        self.requests.append(request)
        await self.go.wait()
        if self.fail is not None:
            if isinstance(self.fail, RetryLaterError) and self.fail.is_load_counted:
                counted()
            raise self.fail
        return DetectResponse("m", self.version, "d", tuple(self.result() for _ in request.frames))


class Rig:
    """A dispatcher with a fake serve and lanes made at will."""

    def __init__(self, clock, sink, models: bytes = MODELS, **bounds: int) -> None:  # type: ignore[no-untyped-def]
        self.clock, self.sink, self.models = clock, sink, models
        self.serve = FakeServe()
        self.load = Load(clock)
        self.metrics = IngestMetrics()
        self.catalog = Catalog(self._fetch, lambda facts: None)
        self.dispatcher = Dispatcher(
            self.serve,  # type: ignore[arg-type]
            self.catalog,
            ThreadPoolExecutor(1),
            max_requests=bounds.get("max_requests", 2),
            max_frames=bounds.get("max_frames", 8),
            deadline_s=1.0,
            load=self.load,
            metrics=self.metrics,
            clock=clock,
        )

    async def _fetch(self) -> bytes:
        if not self.models:
            raise RetryLaterError("serve is away")
        return self.models

    def lane(self, name: str = "cam", **camera: object) -> Lane:
        config = CameraConfig.model_validate(
            {"name": name, "url": CameraUrl("x.mp4"), "model": "m", **camera}
        )
        is_fast = config.pace == "fast"
        sampler = Sampler(config.fps, self.clock.unix_s())
        slot: Slot[SourceFrame] = Slot(SlotPolicy.WAIT, 16) if is_fast else Slot()
        intake = Intake(sampler, slot, self.clock, lambda: None, lambda f: None, is_recording=is_fast)
        return Lane(
            config,
            intake,
            sampler.time_of,
            1.0,
            sink=self.sink,
            metrics=self.metrics,
            latency=CaptureToStored(lambda camera, age_s: None),
            load=self.load,
            totals=LiveTotals(),
        )

    def show(self, lane: Lane, jpeg: bytes) -> None:
        lane.intake.offer(Jpeg(jpeg))
        lane.drain()
        self.dispatcher.ready(lane)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


def run(test) -> None:  # type: ignore[no-untyped-def]
    asyncio.run(asyncio.wait_for(test, 10))


def test_waiting_cameras_share_the_free_requests(clock, sink, small_jpeg) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink, max_requests=2, max_frames=8)
        await rig.catalog.refresh()
        rig.serve.go.clear()
        lanes = [rig.lane(f"cam-{n}") for n in range(12)]
        for lane in lanes:
            rig.show(lane, small_jpeg)
        await rig.settle()
        assert [len(request.frames) for request in rig.serve.requests] == [1, 1]
        rig.serve.go.set()
        await rig.settle()
        sizes = [len(request.frames) for request in rig.serve.requests]
        assert sum(sizes) == 12
        assert max(sizes) >= 5, "what piled up while serve was busy goes out together"
        assert [frame.camera for request in rig.serve.requests for frame in request.frames] == [
            f"cam-{n}" for n in range(12)
        ]
        assert all(lane.totals.processed == 1 for lane in lanes)

    run(scenario())


def test_the_newest_frame_is_sent_and_the_replaced_one_is_told_to_serve(clock, sink, small_jpeg) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink, max_requests=1)
        await rig.catalog.refresh()
        rig.serve.go.clear()
        lane = rig.lane()
        for _ in range(4):
            rig.show(lane, small_jpeg)
            await rig.settle()
            clock.advance(0.1)
        rig.serve.go.set()
        await rig.settle()
        first, last = rig.serve.requests
        assert last.frames[0].seq - first.frames[0].seq == 3
        lane.drain()
        assert (lane.totals.processed, lane.totals.dropped[DropReason.OVERLOAD]) == (2, 2)
        rig.show(lane, small_jpeg)
        await rig.settle()
        told = [(request.offered_frames, request.dropped_frames) for request in rig.serve.requests]
        assert (sum(o for o, _ in told), sum(d for _, d in told)) == (4, 2)

    run(scenario())


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (RetryLaterError("connection refused"), DropReason.REFUSED),
        (RefusedError("404"), DropReason.REFUSED),
        (asyncio.TimeoutError(), DropReason.STALE),
    ],
    ids=["down", "refused", "late"],
)
def test_a_failed_request_drops_its_frames_with_the_reason(clock, sink, small_jpeg, failure, reason) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink)
        await rig.catalog.refresh()
        rig.serve.fail = failure
        lane = rig.lane()
        rig.show(lane, small_jpeg)
        await rig.settle()
        assert lane.totals.dropped[reason] == 1
        taken = rig.load.take("m")
        assert (taken.offered, taken.dropped) == (1, 1)

    run(scenario())


def test_load_is_told_until_serve_has_counted_it_and_then_never_again(clock, sink, small_jpeg) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink)
        await rig.catalog.refresh()
        lane = rig.lane()
        told = []
        lost, full = RetryLaterError("reset"), RetryLaterError("429", is_busy=True, is_load_counted=True)
        for failure in (lost, None, full, None, None):
            rig.serve.fail = failure
            rig.dispatcher._probe_at_s = None
            rig.show(lane, small_jpeg)
            await rig.settle()
            clock.advance(0.1)
            request = rig.serve.requests[-1]
            told.append((request.offered_frames, request.dropped_frames))
        # Nothing yet; then the lost one's frame; the 429 counted the second's; its own frame; the fourth's.
        assert told == [(0, 0), (1, 1), (1, 0), (1, 1), (1, 0)]

    run(scenario())


def test_load_of_one_model_is_not_told_with_another_s_frames(clock) -> None:  # type: ignore[no-untyped-def]
    load = Load(clock)
    load.add("small")
    load.add("large", is_dropped=True)
    small, large = load.take("small"), load.take("large")
    assert [(t.offered, t.dropped) for t in (small, large)] == [(1, 0), (1, 1)]


def test_old_load_is_forgotten_because_it_says_nothing_about_now(clock) -> None:  # type: ignore[no-untyped-def]
    load = Load(clock)
    for _ in range(600):  # serve is away for a minute
        load.add("m", is_dropped=True)
        clock.advance(0.1)
    taken = load.take("m")
    assert 10 * KEPT_S - 5 <= taken.offered <= 10 * KEPT_S + 5
    load.add("m")
    load.give_back("m", taken)
    assert load.take("m").offered == taken.offered + 1
    load.give_back("m", taken)
    clock.advance(2 * KEPT_S)
    assert load.take("m").offered == 0


def test_while_serve_is_down_frames_are_refused_at_once_and_it_is_asked_now_and_then(
    clock, sink, small_jpeg
) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink)
        await rig.catalog.refresh()
        rig.serve.fail = RetryLaterError("connection refused")
        lane = rig.lane()
        for _ in range(50):
            rig.show(lane, small_jpeg)
            await rig.settle()
            clock.advance(0.1)
        assert rig.dispatcher.is_serve_down
        assert lane.totals.dropped[DropReason.REFUSED] == 50
        assert 3 <= len(rig.serve.requests) <= 20
        rig.serve.fail = None
        clock.advance(3.0)
        rig.show(lane, small_jpeg)
        await rig.settle()
        assert not rig.dispatcher.is_serve_down
        assert lane.totals.processed == 1

    run(scenario())


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (FrameStatus.STALE, DropReason.STALE),
        (FrameStatus.CORRUPT, DropReason.CORRUPT),
        (FrameStatus.FAILED, DropReason.REFUSED),
    ],
)
def test_a_frame_that_serve_could_not_use_is_dropped_alone(clock, sink, small_jpeg, status, reason) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink)
        await rig.catalog.refresh()
        rig.serve.result = lambda: FrameResult.without_boxes(status)
        lane = rig.lane()
        rig.show(lane, small_jpeg)
        await rig.settle()
        assert lane.totals.dropped[reason] == 1

    run(scenario())


def test_a_broken_picture_is_corrupt_and_the_others_go_on(clock, sink, small_jpeg) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink, max_requests=1)
        await rig.catalog.refresh()
        good, bad = rig.lane("good"), rig.lane("bad")
        bad.intake.offer(Jpeg(b"\xff\xd8 broken"))
        good.intake.offer(Jpeg(small_jpeg))
        rig.dispatcher._ready.update({id(bad): bad, id(good): good})
        rig.dispatcher.pump()
        await rig.settle()
        assert bad.totals.dropped[DropReason.CORRUPT] == 1
        assert good.totals.processed == 1

    run(scenario())


def test_frames_of_an_unknown_model_are_refused_and_told(clock, sink, small_jpeg) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink)
        await rig.catalog.refresh()
        lane = rig.lane(model="yolo99")
        rig.show(lane, small_jpeg)
        await rig.settle()
        assert lane.totals.dropped[DropReason.REFUSED] == 1
        assert "expected serve to have the model 'yolo99', got m;" in rig.dispatcher.last_error

    run(scenario())


def test_a_recording_waits_for_its_model_and_loses_nothing(clock, sink, small_jpeg) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink, models=b"")
        lane = rig.lane(pace="fast")
        start_s = clock.unix_s()
        for n in range(10):
            lane.intake.offer(Jpeg(small_jpeg), start_s + n / 10)
        rig.dispatcher.ready(lane)
        await rig.settle()
        assert rig.serve.requests == []
        assert "expected serve to name its models" in rig.dispatcher.last_error
        rig.models = MODELS
        await rig.catalog.refresh()
        rig.dispatcher.pump()
        await rig.settle()
        assert lane.totals.processed == 10
        assert sum(lane.totals.dropped.values()) == 0

    run(scenario())


def test_rows_name_the_model_version_that_answered(clock, sink, small_jpeg) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink)
        await rig.catalog.refresh()
        lane = rig.lane()
        rig.show(lane, small_jpeg)
        await rig.settle()
        rig.models = MODELS.replace(b'"version": "1"', b'"version": "2"')
        rig.serve.version = "2"
        clock.advance(0.1)
        rig.show(lane, small_jpeg)
        await rig.settle()
        await rig.catalog.refresh()
        await rig.settle()
        lane.finish(clock.unix_s())
        assert {row.model for row in sink.of(CountRow)} == {"m@1", "m@2"}

    run(scenario())


def test_draining_settles_every_frame_that_is_left(clock, sink, small_jpeg) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        rig = Rig(clock, sink, max_requests=1)
        await rig.catalog.refresh()
        rig.serve.go.clear()
        lanes = [rig.lane(f"cam-{n}") for n in range(3)]
        for lane in lanes:
            rig.show(lane, small_jpeg)
        await rig.settle()
        await rig.dispatcher.drain(timeout_s=0.0)
        assert [lane.totals.dropped[DropReason.STALE] for lane in lanes] == [1, 1, 1]
        assert rig.dispatcher.in_flight == 0

    run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"models": [{"name": "m", "classes": ["a"]}]}',
        b"<html>",
        MODELS.replace(b"640", b"99999"),
    ],
)
def test_an_answer_that_names_no_models_is_told(body: bytes) -> None:
    with pytest.raises(ClientError, match="expected"):
        parse_models(body)
