"""The page over a real database: it fills itself, and gaps stay gaps."""

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from framegrid_store.migrate import upgrade
from framegrid_store.rows import CameraRow, CountRow, CoverageRow, CrossingRow, Row
from framegrid_store.writer import StoreWriter
from streamlit.testing.v1 import AppTest

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "dashboards" / "streamlit"
TRACK_ID = "0b5f9d0a-7f0d-4f6e-9f53-0c8a6a2d9a11"
SECONDS = 300


@pytest.fixture(autouse=True)
def page_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PAGE))


def store(url: str, rows: list[Row], *cameras: CameraRow) -> None:
    writer = StoreWriter(url, batch_wait_s=0.01)
    writer.announce(cameras)
    writer.start()
    writer.put(rows)
    assert writer.close(timeout_s=30) == 0


def five_minutes(camera: str, end_s: int, down: range) -> list[Row]:
    """Two persons and one vehicle all the time, but for the seconds in `down`; one in, at the start."""
    rows: list[Row] = [
        CrossingRow(end_s - SECONDS + 0.5, camera, "door", "person", TRACK_ID, "in", "street-sim@1")
    ]
    for second in range(SECONDS):
        at_s = float(end_s - SECONDS + second)
        seen = second not in down
        rows.append(CoverageRow(at_s, 1.0, camera, float(seen), 10, 10 * seen, 10 * (not seen), 0, 0, 0, 0))
        if seen:
            rows += [
                CountRow(at_s, 1.0, camera, cls, "", "street-sim@1", 10, 10 * n, 10 * n * n, n, n, 0, 0.9)
                for cls, n in (("person", 2), ("vehicle", 1))
            ]
    return rows


def test_the_page_fills_itself_and_shows_the_figures(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMEGRID_DATABASE_URL", database_url)
    page = AppTest.from_file(str(PAGE / "app.py"), default_timeout=60).run()
    assert "has no Framegrid tables yet" in page.error[0].value
    upgrade(database_url)
    assert page.run().subheader[0].value == "No camera yet"

    rows = five_minutes("north", int(time.time()), range(100, 150))
    store(database_url, rows, CameraRow("north", "depot"), CameraRow("south"))
    page.run()
    assert not page.exception
    assert page.selectbox(key="camera").options == ["north", "south"]
    figures = {metric.label: metric.value for metric in page.metric}
    assert (figures["Persons now"], figures["Vehicles now"]) == ("2", "1")
    assert figures["In today"] in ("0", "1"), "0 in the first five minutes of a day"
    assert figures["Seen today"].endswith("%")

    for scale in ("minute", "hour", "day", "5 s"):
        page.segmented_control(key="scale").set_value(scale).run()
        assert not page.exception and not page.error, scale
    page.toggle(key="live").set_value(False).run()
    assert not page.exception and not page.error
    assert len(page.slider) == 1

    page.selectbox(key="camera").set_value("south").run()
    assert not page.exception
    assert {metric.value for metric in page.metric if metric.label.endswith("now")} == {"–"}


def test_history_keeps_gaps_and_does_not_call_the_newest_seconds_one(database_url: str) -> None:
    from framegrid_store import read
    from periods import SCALES
    from source import headline, history, reader

    upgrade(database_url)
    end_s = int(time.time()) // 5 * 5
    store(database_url, five_minutes("north", end_s, range(100, 150)))
    end = datetime.fromtimestamp(end_s, timezone.utc)
    with reader(database_url) as connection:
        (camera,) = read.cameras(connection)
        late = end + timedelta(seconds=8)  # two buckets later: their rows are on the way
        found = history(connection, camera, SCALES["5 s"], end - timedelta(seconds=SECONDS), late)
        assert len(found.times) == SECONDS // 5
        means = found.series["person", ""].mean
        assert means == [2.0] * 20 + [None] * 10 + [2.0] * 30
        assert found.coverage == [1.0] * 20 + [0.0] * 10 + [1.0] * 30
        lost = history(connection, camera, SCALES["5 s"], end, end + timedelta(seconds=60))
        assert lost.series == {} and set(lost.coverage) == {0.0}
        figures = headline(connection, camera, clock=lambda: end + timedelta(seconds=3))
    assert figures.age_s == 3
    assert figures.counts == {"person": 2.0, "vehicle": 1.0}
