"""expected = processed + sum(dropped), in the ledger and in every interval."""

import pytest
from framegrid_ingest.intervals import Intervals, interval_for
from framegrid_ingest.outcomes import DropReason, Ledger
from framegrid_store.rows import CountRow, CoverageRow
from hypothesis import given
from hypothesis import strategies as st


def test_outcomes_come_out_in_the_order_of_ticks() -> None:
    ledger: Ledger[str] = Ledger(10)
    assert ledger.processed_frame(11, "b") == []
    assert [s.number for s in ledger.drop(10, DropReason.STALE)] == [10, 11]
    assert (ledger.expected, ledger.processed, ledger.dropped[DropReason.STALE]) == (2, 1, 1)


def test_a_second_outcome_for_a_tick_is_a_mistake() -> None:
    ledger: Ledger[str] = Ledger(0)
    ledger.drop(0, DropReason.STALE)
    with pytest.raises(ValueError, match="expected one outcome for each tick, got a second one for 0"):
        ledger.processed_frame(0, "x")


def test_skipped_ticks_were_never_expected() -> None:
    ledger: Ledger[str] = Ledger(0)
    ledger.skip(range(1, 5))
    ledger.processed_frame(5, "later")
    settled = ledger.processed_frame(0, "first")
    assert [s.number for s in settled] == [0, 5]
    assert ledger.expected == 2


def test_after_a_rewind_earlier_numbers_are_expected_again() -> None:
    ledger: Ledger[str] = Ledger(100)
    ledger.processed_frame(100, "x")
    ledger.rewind(50)
    assert [s.number for s in ledger.processed_frame(50, "y")] == [50]
    ledger.processed_frame(52, "z")
    with pytest.raises(ValueError, match="expected no outcome to wait"):
        ledger.rewind(1)


@given(st.permutations(range(12)), st.lists(st.sampled_from([None, *DropReason]), min_size=12, max_size=12))
def test_the_books_balance_in_any_order(order: list[int], outcomes: list[DropReason | None]) -> None:
    ledger: Ledger[int] = Ledger(0)
    settled = []
    for number in order:
        reason = outcomes[number]
        settled += ledger.processed_frame(number, number) if reason is None else ledger.drop(number, reason)
        assert ledger.expected == ledger.processed + sum(ledger.dropped.values())
    assert [s.number for s in settled] == list(range(12))
    assert ledger.waiting == 0


@pytest.mark.parametrize(
    ("fps", "interval_s", "expected_s"),
    [
        (10, 1.0, 1.0),
        (10, 0.25, 0.25),
        (1, 1.0, 1.0),
        (0.2, 1.0, 5.0),
        (1 / 7, 1.0, 10.0),
        (0.01, 1.0, 120.0),
    ],
)
def test_slow_cameras_get_the_next_interval_that_nests(
    fps: float, interval_s: float, expected_s: float
) -> None:
    assert interval_for(fps, interval_s) == expected_s


def test_an_interval_becomes_exact_additive_rows() -> None:
    intervals = Intervals("cam", 10.0, 1.0)
    assert intervals.advance(100.0) is None
    open_one = intervals.at(100.0)
    for n in (0, 2, 1):
        counts = {("", "person"): n, ("door", "person"): min(n, 1)}
        scores = {("", "person"): 0.5 * n, ("door", "person"): 0.25 * min(n, 1)}
        open_one.count("m@1", counts, {"person": n}, scores, captured_s=100.0)
    open_one.drop(DropReason.STALE)
    assert intervals.advance(100.9) is None
    closed = intervals.advance(101.0)
    assert closed is not None
    coverage, *counted = intervals.rows(closed)
    assert coverage == CoverageRow(100.0, 1.0, "cam", pytest.approx(0.375), 4, 3, 0, 0, 1, 0, 0)
    assert counted[0] == CountRow(100.0, 1.0, "cam", "person", "", "m@1", 3, 3, 5, 0, 2, 3, 0.5)
    assert counted[1] == CountRow(100.0, 1.0, "cam", "person", "door", "m@1", 3, 2, 2, 0, 1, 0, 0.25)


def test_a_change_of_model_inside_an_interval_makes_a_row_for_each() -> None:
    intervals = Intervals("cam", 10.0, 1.0)
    open_one = intervals.at(5.0)
    for model in ("m@1", "m@2"):
        open_one.count(model, {("", "person"): 1}, {}, {}, captured_s=5.0)
    closed = intervals.close()
    assert closed is not None
    assert [(row.model, row.samples) for row in intervals.rows(closed) if isinstance(row, CountRow)] == [
        ("m@1", 1),
        ("m@2", 1),
    ]


def test_a_whole_interval_without_drops_is_observed_whole() -> None:
    intervals = Intervals("cam", 10.0, 0.25)
    observed_s = 0.0
    for k in range(100):
        closed = intervals.advance(k / 10)
        if closed is not None:
            observed_s += intervals.rows(closed)[0].observed_s  # type: ignore[union-attr]
        intervals.at(k / 10).count("m@1", {}, {}, {}, captured_s=0.0)
    last = intervals.close()
    assert last is not None
    assert observed_s + intervals.rows(last)[0].observed_s == pytest.approx(10.0)  # type: ignore[union-attr]
