"""Buckets, gaps and figures of the page, and what it says when it has nothing to show. No database."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from framegrid_store.read import Camera, CrossingPoint
from streamlit.testing.v1 import AppTest

UTC = timezone.utc
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
PAGE = Path(__file__).parents[3] / "dashboards" / "streamlit"


def history(
    means: list[float | None], coverage: list[float], crossings: list[CrossingPoint] | None = None
) -> Any:
    from source import History, Series

    step = timedelta(seconds=5)
    whole = [None if mean is None else round(mean) for mean in means]
    return History(
        times=[NOON + place * step for place in range(len(means))],
        step=step,
        series={("person", ""): Series(means, whole, whole), ("vehicle", ""): Series(means, whole, whole)},
        coverage=coverage,
        crossings=crossings or [],
    )


def test_a_grid_has_every_bucket_that_touches_the_range() -> None:
    from periods import SCALES, grid, zone

    found = grid(NOON + timedelta(seconds=3), NOON + timedelta(seconds=12), SCALES["5 s"], zone("UTC"))
    assert [at.second for at in found] == [0, 5, 10]
    assert grid(NOON, NOON, SCALES["hour"], zone("UTC")) == [NOON]


def test_days_are_local_and_hours_real_across_a_clock_change() -> None:
    from periods import SCALES, grid, zone

    paris = zone("Europe/Paris")
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    days = grid(start, start + timedelta(days=2), SCALES["day"], paris)
    assert [at.astimezone(UTC).hour for at in days] == [23, 23, 22]
    hours = grid(start, start + timedelta(days=1), SCALES["hour"], paris)
    assert len(hours) == 24
    assert len({at.astimezone(UTC) for at in hours}) == 24


def test_buckets_of_the_grid_are_those_of_the_store_in_a_half_hour_zone() -> None:
    from periods import SCALES, bucket_start, zone

    at = datetime(2026, 3, 10, 18, 20, tzinfo=UTC)
    assert bucket_start(at, SCALES["hour"], zone("Asia/Kathmandu")) == at.replace(minute=0)
    assert bucket_start(at, SCALES["day"], zone("Asia/Kathmandu")) == at.replace(minute=15)


def test_a_range_too_long_for_its_scale_keeps_its_end() -> None:
    from periods import SCALES, clipped

    choice = SCALES["5 s"]
    assert clipped(NOON - timedelta(days=9), NOON, choice) == (NOON - choice.longest, True)
    assert clipped(NOON - timedelta(minutes=1), NOON, choice) == (NOON - timedelta(minutes=1), False)


def test_unknown_time_zones_fall_back_to_utc_and_ages_are_spoken() -> None:
    from periods import spoken_age, zone

    assert zone("Mars/Olympus").key == "UTC"
    assert [spoken_age(s) for s in (0.4, 90, 600, 7200, 400_000)] == ["0 s", "90 s", "10 min", "2 h", "5 d"]


def test_the_chart_breaks_and_shades_where_nothing_was_seen() -> None:
    from charts import counts_figure, unseen_spans

    step = timedelta(seconds=5)
    found = history([1.0, 0.0, None, None, 2.0], [1, 1, 0, 0, 0.5])
    assert unseen_spans(found) == [(NOON + 2 * step, NOON + 4 * step)]
    figure = counts_figure(found)
    persons = figure.data[0]
    assert persons.name == "Persons"
    assert list(persons.y) == [1.0, 0.0, None, None, 2.0], "zero stays zero, unknown stays unknown"
    assert persons.connectgaps is False
    assert len(figure.layout.shapes) == 1
    assert "Not observed" in [trace.name for trace in figure.data]


def test_a_range_that_was_seen_throughout_has_no_shading() -> None:
    from charts import counts_figure

    figure = counts_figure(history([0.0, 0.0], [1, 1]))
    assert not figure.layout.shapes
    assert [trace.name for trace in figure.data] == ["Persons", "Vehicles", "Seen"]


def test_crossings_go_up_for_in_and_down_for_out_with_a_row_per_line() -> None:
    from charts import crossings_figure

    crossings = [
        CrossingPoint(NOON, "door", "person", 3, 1),
        CrossingPoint(NOON, "junction", "vehicle", 0, 2),
    ]
    figure = crossings_figure(history([1.0], [1], crossings))
    bars = {
        (trace.name, trace.yaxis, trace.hovertemplate[-3:].strip()): list(trace.y) for trace in figure.data
    }
    assert bars["Persons", "y", "in"] == [3]
    assert bars["Persons", "y", "out"] == [-1]
    assert bars["Vehicles", "y2", "out"] == [-2]
    assert "3 in" in figure.layout.annotations[0].text
    assert [trace.name for trace in figure.data if trace.showlegend] == ["Persons", "Vehicles"]
    assert crossings_figure(history([1.0], [1])) is None
    assert list(figure.layout.yaxis.ticktext) == ["3", "2", "1", "0", "1", "2", "3"], (
        "out is no negative number"
    )


def test_ticks_of_crossings_are_round_and_reach_the_highest_bar() -> None:
    from charts import both_ways

    for most, step in ((1, 1), (3, 1), (4, 2), (7, 5), (40, 20), (301, 200)):
        points = [
            CrossingPoint(NOON, "door", "person", most - 1, 0),
            CrossingPoint(NOON, "door", "car", 1, 0),
        ]
        assert both_ways(history([1.0], [1], points))[-1] == 3 * step >= most


def test_persons_come_first_then_vehicles_then_the_rest() -> None:
    from charts import colour, ordered

    assert ordered(["vehicle", "dog", "person", "cat", "person"]) == ["person", "vehicle", "cat", "dog"]
    assert colour("cat", 2) != colour("dog", 3)


def test_the_page_opens_with_a_camera_that_counts_and_not_with_one_never_seen() -> None:
    from source import first_shown

    def camera(name: str, last_seen_at: datetime | None, *, paused: bool = False) -> Camera:
        return Camera(name, "", "UTC", paused, NOON, last_seen_at, None)

    never, old = camera("alley", None), camera("bridge", NOON - timedelta(days=30))
    paused = camera("court", NOON, paused=True)
    first, newest = camera("dock", NOON - timedelta(seconds=4)), camera("east", NOON)
    assert first_shown([never, old, paused, first, newest]) == first
    assert first_shown([never, old, paused]) == old
    assert first_shown([never, paused]) == never


def run_page(monkeypatch: pytest.MonkeyPatch, database_url: str | None) -> AppTest:
    if database_url is None:
        monkeypatch.delenv("FRAMEGRID_DATABASE_URL", raising=False)
    else:
        monkeypatch.setenv("FRAMEGRID_DATABASE_URL", database_url)
    return AppTest.from_file(str(PAGE / "app.py"), default_timeout=60).run()


def test_the_page_says_which_variable_it_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    page = run_page(monkeypatch, None)
    assert not page.exception
    assert "FRAMEGRID_DATABASE_URL" in page.error[0].value


def test_the_page_says_that_the_database_is_away_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = run_page(monkeypatch, "postgresql://alice:secret@127.0.0.1:1/numbers")
    assert not page.exception
    assert "alice@127.0.0.1:1/numbers cannot be reached" in page.error[0].value
    assert "secret" not in page.error[0].value
