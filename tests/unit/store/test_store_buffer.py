"""The writer's queue: what goes first when it is full, and when a batch is handed out."""

import threading

from framegrid_store.buffer import RowBuffer
from framegrid_store.rows import CoverageRow, CrossingRow, DetectionRow, EventRow


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def coverage(place: int) -> CoverageRow:
    return CoverageRow(float(place), 1.0, "north", 1.0, 10, 10, 0, 0, 0, 0, 0)


def detection(place: int) -> DetectionRow:
    return DetectionRow(float(place), "north", place, "person", "m@1", "", 0.5, 0.1, 0.1, 0.2, 0.2)


def test_hands_out_rows_in_order_and_never_more_than_asked() -> None:
    buffer = RowBuffer(10)
    assert buffer.put([coverage(i) for i in range(3)]) == 0
    assert buffer.put([coverage(3)]) == 0
    assert [row.time_s for row in buffer.next_batch(2, 60) or []] == [0, 1]
    buffer.done(2)
    assert [row.time_s for row in buffer.next_batch(2, 60) or []] == [2, 3]


def test_refuses_new_rows_when_full_and_counts_them() -> None:
    buffer = RowBuffer(3)
    assert buffer.put([coverage(i) for i in range(5)]) == 2
    assert buffer.put([coverage(9)]) == 1
    assert buffer.dropped == {("coverage", "queue_full"): 3}
    assert len(buffer) == 3


def test_waiting_detections_make_room_for_other_rows() -> None:
    buffer = RowBuffer(4)
    buffer.put([detection(i) for i in range(4)])
    assert buffer.put([coverage(i) for i in range(3)]) == 0
    assert buffer.dropped == {("detection", "queue_full"): 3}
    batch = buffer.next_batch(4, 0) or []
    assert [type(row) for row in batch] == [CoverageRow] * 3 + [DetectionRow]
    assert batch[-1].time_s == 3, "the oldest detections go first"


def test_detections_never_push_out_other_rows() -> None:
    buffer = RowBuffer(3)
    buffer.put([coverage(i) for i in range(2)])
    assert buffer.put([detection(0), detection(1)]) == 1
    assert buffer.dropped == {("detection", "queue_full"): 1}


def test_counts_are_refused_before_crossings_and_events_only_at_twice_the_bound() -> None:
    buffer = RowBuffer(3)
    crossing = CrossingRow(0.0, "north", "door", "person", "", "in", "m@1")
    event = EventRow(0.0, "", "north", "camera.lost", "info", "", {})
    assert buffer.put([coverage(0), coverage(1), crossing, coverage(2)]) == 1
    assert buffer.put([coverage(3), crossing, event]) == 2
    assert buffer.put([event] * 5) == 3
    assert buffer.dropped == {
        ("coverage", "queue_full"): 2,
        ("line_crossing", "queue_full"): 1,
        ("event", "queue_full"): 3,
    }
    assert len(buffer) == 6


def test_rows_in_flight_count_towards_the_bound() -> None:
    buffer = RowBuffer(2)
    buffer.put([coverage(0), coverage(1)])
    buffer.next_batch(2, 0)
    assert buffer.put([coverage(2)]) == 1
    buffer.done(2)
    assert buffer.put([coverage(3)]) == 0


def test_lag_is_the_age_of_the_oldest_row_not_stored() -> None:
    clock = ManualClock()
    buffer = RowBuffer(10, clock)
    assert buffer.lag_s() == 0
    buffer.put([coverage(0)])
    clock.now_s += 5
    buffer.put([coverage(1)])
    assert buffer.lag_s() == 5
    buffer.next_batch(1, 0)
    clock.now_s += 1
    assert buffer.lag_s() == 6, "in flight is not stored"
    buffer.done(1)
    assert buffer.lag_s() == 1


def test_a_batch_waits_for_rows_and_a_nudge_ends_the_wait() -> None:
    buffer = RowBuffer(10)
    timer = threading.Timer(0.05, buffer.nudge)
    timer.start()
    assert buffer.next_batch(5, 60) == []
    timer.join()


def test_an_idle_buffer_lets_go_in_time_but_not_of_rows_that_are_ready() -> None:
    buffer = RowBuffer(10)
    assert buffer.next_batch(5, 60, idle_s=0.01) == []
    buffer.put([coverage(0)])
    assert buffer.next_batch(5, 60, idle_s=0) == []
    assert buffer.next_batch(1, 60, idle_s=0) == [coverage(0)]


def test_close_hands_out_the_rest_then_says_it_is_over() -> None:
    buffer = RowBuffer(10)
    buffer.put([coverage(i) for i in range(3)])
    buffer.close()
    assert buffer.put([coverage(9)]) == 1
    assert len(buffer.next_batch(2, 60) or []) == 2
    assert len(buffer.next_batch(2, 60) or []) == 1
    assert buffer.next_batch(2, 60) is None
    assert buffer.dropped == {("coverage", "closed"): 1}
