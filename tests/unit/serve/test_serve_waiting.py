"""Whose turn it is: cameras, priorities, a camera that floods, and engines that are late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest
from framegrid_serve.batcher import Batcher
from framegrid_serve.errors import OverloadError
from framegrid_serve.waiting import WaitingFrames
from framegrid_serve.wire import Buffer, FrameResult, FrameStatus
from hypothesis import given
from hypothesis import strategies as st


class Net:
    def __init__(self, max_batch: int = 1) -> None:
        self.max_batch = max_batch


ONE, OTHER, WIDE = Net(), Net(), Net(4)


@dataclass(eq=False)
class Job:
    camera: str
    number: int = 0
    detector: Net = field(default_factory=lambda: ONE)
    priority: int = 0


def queue(*jobs: Job) -> WaitingFrames[Job]:
    waiting: WaitingFrames[Job] = WaitingFrames()
    for job in jobs:
        waiting.add(job)
    return waiting


def drain(waiting: WaitingFrames[Job], turns: int = 1000) -> list[str]:
    """Who had each turn: the cameras of each batch, joined."""
    found = []
    while waiting and len(found) < turns:
        found.append("+".join(job.camera for job in waiting.take(lambda job: True)))
    return found


def test_a_camera_that_floods_waits_for_itself_alone() -> None:
    flood = [Job("flood", n) for n in range(50)]
    waiting = queue(*flood, Job("gate"), Job("yard"))
    assert drain(waiting, 4) == ["flood", "gate", "yard", "flood"]


def test_a_camera_s_own_frames_stay_in_order() -> None:
    waiting = queue(*[Job("a", n) for n in range(4)])
    assert [waiting.take(lambda job: True)[0].number for _ in range(4)] == [0, 1, 2, 3]


def test_a_batch_is_filled_in_turns_and_holds_one_model() -> None:
    waiting = queue(*[Job("flood", n, WIDE) for n in range(9)], Job("other", 0, OTHER), Job("gate", 0, WIDE))
    assert drain(waiting) == ["flood+gate+flood+flood", "other", "flood+flood+flood+flood", "flood+flood"]


def test_people_go_first_and_cameras_still_have_every_fourth_turn() -> None:
    people = [Job("people", n, priority=100) for n in range(12)]
    cameras = [Job(name, n) for n in range(2) for name in ("gate", "yard")]
    turns = drain(queue(*cameras, *people))
    assert turns[:8] == ["people"] * 3 + ["gate"] + ["people"] * 3 + ["yard"]


def test_what_is_left_over_has_no_turn_while_anything_else_waits() -> None:
    waiting = queue(*[Job("video", n, priority=-1) for n in range(3)], *[Job("gate", n) for n in range(20)])
    assert drain(waiting) == ["gate"] * 20 + ["video"] * 3


def test_who_has_fewer_frames_waiting_may_push_out_the_oldest_of_who_has_most() -> None:
    waiting = queue(*[Job("flood", n) for n in range(5)], Job("gate"))
    assert [(job.camera, job.number) for job in waiting.make_room(["yard", "door"], 0, 2)] == [
        ("flood", 0),
        ("flood", 1),
    ]
    assert len(waiting) == 4
    assert waiting.make_room(["flood"], 0, 1) == [], "not the one that floods"
    assert waiting.make_room(["yard"] * 3, 0, 1) == [], "nor one that would be as bad"


def test_live_frames_take_the_places_of_what_is_left_over() -> None:
    waiting = queue(Job("video", 0, priority=-1), Job("gate"))
    assert [job.camera for job in waiting.make_room(["gate"], 0, 1)] == ["video"]
    assert queue(Job("gate")).make_room(["video"], -1, 1) == []
    assert queue(Job("gate")).make_room(["people"], 100, 1) == [], "people are bounded by themselves"


def test_says_how_many_go_first() -> None:
    waiting = queue(*[Job("flood", n) for n in range(50)], Job("gate"), Job("people", priority=100))
    assert waiting.ahead_of("yard", 0) == 3
    assert waiting.ahead_of("gate", 0) == 1 + 2 + 1
    assert waiting.ahead_of("flood", 0) == 50 + 1 + 1
    assert waiting.ahead_of("people", 100) == 1


JOBS = st.lists(
    st.builds(
        Job,
        st.sampled_from("abcdef"),
        st.integers(0, 9),
        st.sampled_from([ONE, OTHER, WIDE]),
        st.sampled_from([-1, 0, 0, 7]),
    ),
    max_size=60,
)


@given(JOBS, st.data())
def test_every_frame_leaves_exactly_once(jobs: list[Job], data: st.DataObject) -> None:
    waiting = queue()
    gone: list[Job] = []

    def leave(job: Job) -> bool:
        gone.append(job)
        return True

    for job in jobs:
        waiting.add(job)
        if data.draw(st.booleans()):
            batch = waiting.take(leave)
            assert len({id(found.detector) for found in batch}) == 1
            assert len(batch) <= batch[0].detector.max_batch
        if data.draw(st.integers(0, 5)) == 0:
            gone += waiting.make_room([job.camera], job.priority, 1)
        assert len(waiting) + len(gone) == jobs.index(job) + 1
    gone += waiting.clear()
    assert Counter(map(id, gone)) == Counter(map(id, jobs))
    assert len(waiting) == 0


@given(st.lists(st.integers(1, 30), min_size=2, max_size=8))
def test_nobody_waits_longer_than_one_frame_of_each_other(lengths: list[int]) -> None:
    turns = drain(queue(*[Job(str(c), n) for c, length in enumerate(lengths) for n in range(length)]))
    for camera in map(str, range(len(lengths))):
        gaps = "".join("x" if turn == camera else "." for turn in turns).rstrip(".").split("x")[:-1]
        assert max(map(len, gaps)) < len(lengths)


class InstantDetector:
    """Answers at once; the test's clock says how long it took."""

    max_batch = 1

    def __init__(self, clock: Clock, service_s: float) -> None:
        self.clock, self.service_s = clock, service_s

    def detect(self, jpegs: Sequence[Buffer], min_scores: Sequence[float]) -> list[FrameResult]:
        self.clock.now_s += self.service_s * len(jpegs)
        return [FrameResult.without_boxes(FrameStatus.OK)] * len(jpegs)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def batcher(clock: Clock) -> Iterator[Batcher]:
    """Not started: the test takes the worker's steps."""
    yield Batcher(streams=1, capacity_frames=40, clock=clock)


def step(batcher: Batcher) -> None:
    taken = batcher._take(0)
    assert taken is not None
    batcher._drop(taken[1])
    if taken[0]:
        batcher._run(0, taken[0])


def ask(
    batcher: Batcher, net: InstantDetector, camera: str, frames: int = 1, timeout_s: float = 1.0
) -> Future[list[FrameResult]]:
    names = [camera] * frames
    return batcher.submit(net, [b"jpeg"] * frames, min_score=0, timeout_s=timeout_s, cameras=names)


def test_a_frame_that_cannot_be_done_in_time_is_not_begun(batcher: Batcher, clock: Clock) -> None:
    net = InstantDetector(clock, 0.1)
    for _ in range(3):
        ask(batcher, net, "a")
        step(batcher)
    late, in_time = ask(batcher, net, "a"), ask(batcher, net, "a", timeout_s=2)
    clock.now_s += 0.95
    busy_s = batcher.stats().busy_s
    step(batcher)
    assert late.result(1)[0].status is FrameStatus.STALE
    assert in_time.result(1)[0].status is FrameStatus.OK
    assert batcher.stats().busy_s == pytest.approx(busy_s + 0.1), "the engine ran once"


def test_whose_turn_would_come_too_late_is_told_at_once(batcher: Batcher, clock: Clock) -> None:
    net = InstantDetector(clock, 0.1)
    for _ in range(100):
        ask(batcher, net, "flood")
        step(batcher)
    for _ in range(12):
        ask(batcher, net, "flood", timeout_s=60)
    with pytest.raises(OverloadError, match="expected an engine within 1 s, got 12 frames") as refused:
        ask(batcher, net, "flood")
    assert 0.1 < refused.value.retry_after_s < 0.3
    ask(batcher, net, "gate")  # its turn is next but one, whatever the other has sent
    assert batcher.stats().refused_frames == 1


def test_a_flood_does_not_keep_others_out_of_a_full_queue(batcher: Batcher, clock: Clock) -> None:
    net = InstantDetector(clock, 0.001)
    flood = [ask(batcher, net, "flood", 40, timeout_s=60)]
    gate = ask(batcher, net, "gate")
    with pytest.raises(OverloadError, match="expected at most 40 waiting frames, got 40 and 1 more"):
        ask(batcher, net, "flood")
    for _ in range(40):
        step(batcher)
    assert gate.result(1)[0].status is FrameStatus.OK
    statuses = Counter(result.status for result in flood[0].result(1))
    assert statuses == {FrameStatus.STALE: 1, FrameStatus.OK: 39}
    assert batcher.stats().frames[FrameStatus.STALE] == 1, "the drop is counted"


def test_every_camera_has_its_share_while_one_floods(batcher: Batcher, clock: Clock) -> None:
    """One sends without end, nine send 5 frames/s each; the engine takes 100 frames/s."""
    net = InstantDetector(clock, 0.01)
    done: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    cameras = [f"cam{n}" for n in range(9)]

    def send(camera: str, frames: int) -> None:
        asked[camera] += frames
        try:
            ask(batcher, net, camera, frames).add_done_callback(
                lambda done_: done.update({camera: sum(r.status is FrameStatus.OK for r in done_.result())})
            )
        except OverloadError:
            refused[camera] += frames

    for tick in range(1000):
        send("flood", 8)
        if tick % 20 == 0:
            for camera in cameras:
                send(camera, 1)
        step(batcher)
    assert all(asked[camera] - done[camera] <= 1 for camera in cameras), (asked, done, refused)
    assert sum(refused[camera] for camera in cameras) == 0
    assert refused["flood"] > 0
    assert done["flood"] > 400, "what the others leave is its own"
