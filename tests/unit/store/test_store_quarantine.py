"""The quarantine file: what it says, what it never says, and how large it gets."""

import json
from pathlib import Path

import pytest
from framegrid_store.quarantine import FILE, OLDER_FILE, Quarantine, main, read_quarantine
from framegrid_store.rows import CountRow, EventRow

URL = "postgresql://writer:hunter2@db.example/framegrid"
EVENT = EventRow(1.0, "e", "north", "camera.lost", "info", "cannot open rtsp://admin:s3cret@10.0.0.5/1", {})


def test_a_line_has_table_reason_and_row_but_no_credentials(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, URL)
    quarantine.add("event", EVENT, ValueError(f"cannot store over {URL}"))
    (line,) = read_quarantine(tmp_path)
    assert line["table"] == "event"
    assert line["row"]["camera"] == "north"
    assert line["row"]["message"] == "cannot open rtsp://***@10.0.0.5/1"
    text = (tmp_path / FILE).read_text()
    assert "hunter2" not in text
    assert "s3cret" not in text
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_any_row_can_be_written_down(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    odd = CountRow(float("nan"), 1.0, "\0", "person", "", "m", 2**80, -1, 0, 0, 0, 0, object())  # type: ignore[arg-type]
    quarantine.add("frame_count", odd, OverflowError("too large"))
    quarantine.add("unknown", "not a row", TypeError("no row"))
    quarantine.add("event", EVENT._replace(message="x" * 100_000), ValueError("long"))
    lines = list(read_quarantine(tmp_path))
    assert [line["reason"] for line in lines] == ["too large", "no row", "long"]
    assert lines[0]["row"]["time_s"] == "nan"
    assert lines[2]["is_cut"] is True
    assert all(len(text) < 10_000 for text in (tmp_path / FILE).read_text().splitlines())


def test_the_files_stay_bounded_and_the_newest_lines_stay(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, file_bytes=2000)
    for place in range(100):
        quarantine.add("event", EVENT._replace(event_id=str(place)), ValueError("bad"))
    assert all((tmp_path / name).stat().st_size <= 2000 for name in (FILE, OLDER_FILE))
    ids = [int(line["row"]["event_id"]) for line in read_quarantine(tmp_path)]
    assert ids == list(range(ids[0], 100))


def test_a_half_written_line_is_left_out(tmp_path: Path) -> None:
    Quarantine(tmp_path).add("event", EVENT, ValueError("bad"))
    with (tmp_path / FILE).open("a") as file:
        file.write('{"table": "ev')
    assert len(list(read_quarantine(tmp_path))) == 1


def test_the_command_counts_by_reason_and_prints_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for reason in ("bad", "worse", "worse"):
        Quarantine(tmp_path).add("event", EVENT, ValueError(reason))
    assert main([str(tmp_path), "--last", "1"]) == 0
    head, first, second, last = capsys.readouterr().out.splitlines()
    assert head == "3 rows in quarantine"
    assert first.split() == ["2", "event:", "worse"]
    assert second.split() == ["1", "event:", "bad"]
    assert json.loads(last)["reason"] == "worse"
