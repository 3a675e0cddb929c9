"""Counts in files: every bucket of the range, the true numbers, and unknown is empty."""

import csv
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from databases.day import HOURS, START, ZONES, simulated
from databases.editions import Database
from framegrid_local.cli import app
from framegrid_store import export as exporting
from framegrid_store.bi import VIEWS
from framegrid_store.errors import StoreError
from framegrid_store.export import ExportRequest, export
from typer.testing import CliRunner

pytestmark = pytest.mark.integration

END = START + timedelta(hours=HOURS)


def lines(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_short_form_has_every_minute_and_tells_nobody_from_not_seen(
    day: Database, tmp_path: Path
) -> None:
    written = export(day.bi_url, ExportRequest(START, END), tmp_path)
    assert {path.name: rows for path, rows in written.items()} == {
        f"{camera}.csv": HOURS * 60 for camera in ZONES
    }
    truth = simulated().minutes
    kinds = {"empty": 0, "nobody": 0, "counted": 0}
    for camera, zone in ZONES.items():
        head, *rows = lines(tmp_path / f"{camera}.csv")
        assert head == ["date", "people_count"]
        for place, (at, count) in enumerate(rows):
            expected_at = START + timedelta(minutes=place)
            assert at == expected_at.astimezone(zone).isoformat()
            bucket = truth.get((expected_at, camera, "person", ""))
            mean = bucket.mean if bucket else None
            assert count == ("" if mean is None else str(mean))
            kinds["empty" if mean is None else "counted" if mean else "nobody"] += 1
    assert kinds["empty"] == 180, "two hours down, one hour away"
    assert kinds["nobody"] >= 240, "four hours of an empty lobby"
    assert list(tmp_path.glob("*.part")) == []


def test_dates_are_each_cameras_own_midnights_and_a_day_may_have_25_hours(
    day: Database, tmp_path: Path
) -> None:
    request = ExportRequest(date(2026, 10, 25), date(2026, 10, 26), scale="hour")
    written = export(day.bi_url, request, tmp_path)
    assert {path.stem: rows for path, rows in written.items()} == {
        "north-gate": 25, "south-gate": 25, "lobby": 24, "terrasse-é": 24,
    }  # fmt: skip
    north = [at for at, _ in lines(tmp_path / "north-gate.csv")[1:]]
    assert north[:4] == [
        "2026-10-25T00:00:00+02:00",
        "2026-10-25T01:00:00+02:00",
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
    ]
    # Hours are UTC's: on a half-hour clock they begin at a quarter past the half.
    assert lines(tmp_path / "lobby.csv")[1][0] == "2026-10-25T00:45:00+05:45"


def test_days_and_other_values_are_exact(day: Database, tmp_path: Path) -> None:
    for value in ("max", "uniques"):
        request = ExportRequest(
            date(2026, 10, 24), date(2026, 10, 27), scale="day", cameras=("north-gate",), value=value
        )
        export(day.bi_url, request, tmp_path)
        found = lines(tmp_path / "north-gate.csv")[1:]
        assert [at[:10] for at, _ in found] == ["2026-10-24", "2026-10-25", "2026-10-26"]
        assert [count == "" for _, count in found] == [True, False, True]
        if value == "max":
            bucket = simulated().days[START, "north-gate", "person", ""]
            assert found[1][1] == str(max(bucket.values))


def test_the_full_form_is_the_view_and_parquet_is_the_same(
    day: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROW_GROUP_ROWS", 1000)
    request = ExportRequest(START, END, form="full", cls=None, zone=None)
    export(day.bi_url, request, tmp_path)
    written = export(day.bi_url, ExportRequest(START, END, form="parquet", cls=None, zone=None), tmp_path)
    (path,) = written
    with day.connect() as connection:
        expected = connection.execute(
            "SELECT * FROM bi.counts_minute ORDER BY camera, time, class, zone"
        ).fetchall()
    assert written[path] == len(expected)
    file = pq.ParquetFile(path)
    assert max(file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)) <= 1000
    table = file.read()
    assert [tuple(row.values()) for row in table.to_pylist()] == expected
    comments = {field.name: (field.metadata or {}).get(b"comment", b"").decode() for field in table.schema}
    assert comments == next(view.columns for view in VIEWS if view.name == "counts_minute")
    full = [row for camera in sorted(ZONES) for row in lines(tmp_path / f"{camera}.csv")[1:]]
    assert len(full) == len(expected)
    for row, values in zip(full, expected, strict=True):
        assert row == [
            "" if value is None else value.isoformat() if isinstance(value, datetime) else str(value)
            for value in values
        ]


def test_the_command_writes_and_says_what_it_wrote(day: Database, tmp_path: Path) -> None:
    command = ["export", str(tmp_path), "--from", "2026-10-25T08:00:00Z", "--to", "2026-10-25T09:00:00Z"]
    done = CliRunner().invoke(app, [*command, "--camera", "lobby", "--database-url", day.bi_url])
    assert done.exit_code == 0, done.output
    assert done.output == f"{tmp_path / 'lobby.csv'}  60 rows\n"
    wrong = CliRunner().invoke(app, [*command, "--camera", "attic", "--database-url", day.bi_url])
    assert wrong.exit_code != 0


def test_what_cannot_be_exported_is_said(day: Database, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"expected cameras among lobby, .*; got attic"):
        export(day.bi_url, ExportRequest(START, END, cameras=("attic",)), tmp_path)
    with pytest.raises(StoreError, match="ends after it starts"):
        export(day.bi_url, ExportRequest(END, START), tmp_path)
    for wrong in ({"scale": "week"}, {"form": "xlsx"}, {"value": "median"}, {"zone": None}):
        with pytest.raises(StoreError, match="expected"):
            ExportRequest(START, END, **wrong)
    with pytest.raises(StoreError, match="a time with its zone"):
        ExportRequest(datetime(2026, 1, 1), END)
    assert timezone.utc == START.tzinfo
