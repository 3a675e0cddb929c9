"""The views say what the rows say, to the last digit, whatever comes when and whoever is writing."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from databases.editions import Database
from databases.straight import VIEWS, differences, expected, found
from framegrid_store.bench_rollup import measure
from framegrid_store.copier import Copier
from framegrid_store.maintain import maintain_once
from framegrid_store.rows import CameraRow, CountRow, CoverageRow, Row
from framegrid_store.settings import StoreSettings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.integration

UTC = timezone.utc
SETTINGS = StoreSettings()
LATER = datetime(2100, 1, 1, tzinfo=UTC)
ZONES = {
    "paris": "Europe/Paris",
    "kathmandu": "Asia/Kathmandu",  # 5:45
    "lord-howe": "Australia/Lord_Howe",  # half an hour of daylight saving
    "st-johns": "America/St_Johns",  # -3:30 and daylight saving
    "santiago": "America/Santiago",  # clocks change at midnight: a day begins at 1
    "chatham": "Pacific/Chatham",  # 12:45 and daylight saving
}
# Around each: clocks change in one of the zones, or a plain day.
DAYS = [
    datetime(2026, 3, 28, 22, tzinfo=UTC),
    datetime(2026, 10, 24, 22, tzinfo=UTC),
    datetime(2026, 4, 4, 10, tzinfo=UTC),
    datetime(2026, 9, 6, 2, tzinfo=UTC),
    datetime(2026, 6, 30, 12, tzinfo=UTC),
]

offsets = st.one_of(
    st.integers(0, 1000),  # quarters of a second: most within minutes of each other,
    st.integers(3 * 14_400 - 500, 3 * 14_400 + 500),  # some around an hour's end,
    st.integers(-100_000, 400_000),  # some hours or a day away
)


@st.composite
def histories(draw: st.DrawFn) -> list[Any]:
    """Batches of rows, rounds of roll-up and changed zones, of so few cameras and days that they meet."""
    cameras = draw(st.lists(st.sampled_from(sorted(ZONES)), min_size=1, max_size=3, unique=True))
    days = draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=2, unique=True))
    moments = st.builds(
        lambda day, quarters: (day + timedelta(milliseconds=250 * quarters)).timestamp(),
        st.sampled_from(days),
        offsets,
    )
    rows = st.one_of(count_rows(moments, cameras), coverage_rows(moments, cameras))
    changes = st.tuples(st.sampled_from(cameras), st.sampled_from(sorted(ZONES.values())))
    step = st.one_of(st.lists(rows, min_size=1, max_size=15), st.just("roll up"), changes)
    return draw(st.lists(step, min_size=2, max_size=8))


def count_rows(moments: st.SearchStrategy[float], cameras: list[str]) -> st.SearchStrategy[CountRow]:
    def build(
        at_s: float, key: tuple[str, str, str, str], n: list[int], uniques: int, score: int
    ) -> CountRow:
        squares = sum(x * x for x in n)
        least, greatest = min(n, default=0), max(n, default=0)
        return CountRow(at_s, 0.25, *key, len(n), sum(n), squares, least, greatest, uniques, score / 1000)

    key = st.tuples(
        st.sampled_from(cameras),
        st.sampled_from(["person", "vehicle"]),
        st.sampled_from(["", "door"]),
        st.sampled_from(["m@1", "m@2"]),
    )
    frames = st.lists(st.integers(0, 9), max_size=6)
    return st.builds(build, moments, key, frames, st.integers(0, 3), st.integers(0, 1000))


def coverage_rows(moments: st.SearchStrategy[float], cameras: list[str]) -> st.SearchStrategy[CoverageRow]:
    def build(
        at_s: float, camera: str, seen_ms: int, processed: int, dropped: tuple[int, ...]
    ) -> CoverageRow:
        expected = processed + sum(dropped)  # 0 while paused
        return CoverageRow(at_s, 1.0, camera, seen_ms / 1000, expected, processed, *dropped)

    dropped = st.tuples(*[st.integers(0, 2)] * 5)
    return st.builds(
        build, moments, st.sampled_from(cameras), st.integers(0, 1000), st.integers(0, 10), dropped
    )


class Store:
    """Rows go in, and are remembered; the views come out."""

    def __init__(self, database: Database) -> None:
        self.connection = database.connect(autocommit=True)
        self.copier = Copier(database.url)
        self.rows: list[Row] = []
        self.zones = dict(ZONES)

    def store(self, rows: Sequence[Row]) -> None:
        assert self.copier.store(uuid.uuid4(), rows)
        self.rows += rows

    def announce(self, camera: str, zone: str) -> None:
        self.copier.announce([CameraRow(camera, timezone=zone)])
        self.zones[camera] = zone

    def roll_up(self, now: datetime = LATER) -> Any:
        done = maintain_once(self.connection, SETTINGS, now, only_roll_up=True)
        assert not done.errors and not done.busy
        return done

    def check(self, views: Sequence[str] = tuple(VIEWS)) -> None:
        for view in views:
            problems = differences(found(self.connection, view), expected(self.rows, self.zones, view))
            assert not problems, (view, problems[:5])

    def empty(self) -> None:
        tables = self.connection.execute(
            "SELECT string_agg(format('framegrid.%I', relname), ', ') FROM pg_class"
            " WHERE relnamespace = 'framegrid'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
            " AND relname NOT IN ('alembic_version', 'intake_limits', 'table_state')"
        ).fetchone()
        assert tables
        self.connection.execute(f"TRUNCATE {tables[0]}")  # type: ignore[arg-type]
        self.connection.execute("INSERT INTO framegrid.zone (zone_id, name) VALUES (0, '')")

    def close(self) -> None:
        self.copier.close()
        self.connection.close()


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=histories())
def test_views_say_what_the_rows_say(database: Database, steps: list[Any]) -> None:
    store = Store(database)
    try:
        store.empty()
        for camera, zone in ZONES.items():
            store.announce(camera, zone)
        for step in steps:
            if step == "roll up":
                store.roll_up()
            elif isinstance(step, tuple):
                store.announce(*step)
                store.roll_up()  # days are cut anew with the next round
            else:
                store.store(step)
        store.check()
        store.roll_up()
        store.check()
        assert store.connection.execute("SELECT count(*) FROM framegrid.rollup_pending").fetchone() == (0,)
    finally:
        store.close()


def test_rows_are_rolled_up_when_their_minute_is_over(database: Database) -> None:
    store = Store(database)
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    try:
        for minute in range(3):
            at_s = (noon + timedelta(minutes=minute)).timestamp()
            store.store([CountRow(at_s, 1, "paris", "person", "", "m@1", 1, 2, 4, 2, 2, 0, 0.5)])
        assert store.roll_up(noon + timedelta(minutes=1, seconds=14)).rolled_up.rows == 0
        assert store.roll_up(noon + timedelta(minutes=1, seconds=16)).rolled_up.rows == 1
        assert store.roll_up(noon + timedelta(hours=1)).rolled_up.rows == 2
        assert store.connection.execute("SELECT count(*) FROM framegrid.frame_count_hour").fetchone() == (1,)
        store.zones["paris"] = "UTC"
        store.check()
    finally:
        store.close()


def test_measuring_gives_every_figure_and_leaves_no_database_behind(database: Database) -> None:
    names = "SELECT datname FROM pg_database WHERE datname LIKE 'framegrid_bench_%'"
    with database.connect(autocommit=True) as connection:
        before = connection.execute(names).fetchall()
        found = measure(database.url, cameras=4, days=2)
        assert connection.execute(names).fetchall() == before
    assert found["edition"] == database.edition
    for key in (
        "rollup_hour_ms",
        "rollup_half_the_rows_ms",
        "bi_minute_query_ms",
        "bi_all_cameras_day_by_hour_ms",
    ):
        assert found[key] > 0
    assert set(found["bytes_per_count_row"]) == {
        "frame_count",
        "frame_count_minute",
        "coverage",
        "coverage_minute",
    }
