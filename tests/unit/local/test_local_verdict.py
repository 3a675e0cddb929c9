"""The demo's judgement of its own counts."""

from __future__ import annotations

from framegrid_local.demo_report import problems, summary_of
from framegrid_local.stored import StoredRun
from framegrid_local.verdict import ALLOWED_CROSSINGS, Cell, TimedCrossing, compare

IN = Cell("north", "road", "vehicle", "in")
OUT = Cell("north", "road", "vehicle", "out")
FROM_S, TO_S = 1000.0, 1060.0


def crossings(cell: Cell, *times_s: float) -> list[TimedCrossing]:
    return [TimedCrossing(cell, time_s) for time_s in times_s]


def test_equal_counts_have_no_error() -> None:
    verdict = compare(crossings(IN, 1010, 1020, 1030), {IN: 3, OUT: 0}, FROM_S, TO_S)
    assert (verdict.counted, verdict.truth, verdict.error, verdict.count_error) == (3, 3, 0, 0.0)
    assert verdict.is_right


def test_a_crossing_at_the_edge_may_be_on_either_side() -> None:
    before, after = FROM_S - 0.4, TO_S + 0.4
    for truth in (1, 2, 3):
        assert compare(crossings(IN, before, 1030, after), {IN: truth}, FROM_S, TO_S).error == 0
    assert compare(crossings(IN, FROM_S - 1.5, 1030), {IN: 2}, FROM_S, TO_S).error == 1


def test_missed_and_invented_crossings_do_not_cancel_out() -> None:
    verdict = compare(crossings(OUT, 1010, 1011, 1012), {IN: 3, OUT: 0}, FROM_S, TO_S)
    assert verdict.counted == verdict.truth == 3
    assert verdict.error == 6
    assert verdict.wrong == {IN: (0, 3), OUT: (3, 0)}
    assert not verdict.is_right


def test_a_crossing_of_an_unknown_line_is_wrong() -> None:
    assert compare(crossings(Cell("north", "ghost", "person", "in"), 1010), {}, FROM_S, TO_S).error == 1


def test_a_few_wrong_crossings_are_allowed_in_a_short_window_and_a_tenth_in_a_long_one() -> None:
    assert compare([], {IN: ALLOWED_CROSSINGS}, FROM_S, TO_S).is_right
    assert not compare([], {IN: ALLOWED_CROSSINGS + 1}, FROM_S, TO_S).is_right
    many = crossings(IN, *(1002 + i * 0.5 for i in range(90)))
    assert compare(many, {IN: 100}, FROM_S, TO_S).is_right
    assert not compare(many[:-1], {IN: 100}, FROM_S, TO_S).is_right


def stored(rows: int = 10, expected: int = 5, processed: int = 4, dropped: int = 1) -> StoredRun:
    return StoredRun(rows, expected, processed, dropped, ())


def test_a_good_run_has_no_problems() -> None:
    verdict = compare([], {}, FROM_S, TO_S)
    assert problems(stored(), verdict) == []


def test_each_failure_is_named() -> None:
    verdict = compare([], {IN: 9}, FROM_S, TO_S)
    found = problems(stored(rows=0, expected=6), verdict)
    assert [line.split(":")[0] for line in found] == [
        "no rows arrived in SQL",
        "expected 6 frames, got 4 processed + 1 dropped",
        "the counts are wrong",
    ]


def test_the_last_line_has_the_promised_keys() -> None:
    summary = summary_of(stored(), compare([], {IN: 4}, FROM_S, TO_S), [])
    assert {
        "rows": 10,
        "frames": 4,
        "dropped": 1,
        "count_error": 1.0,
        "p95_ms": None,
    }.items() <= summary.items()
