"""The live table: figures from ingest's status, in place on a terminal, lines elsewhere."""

from __future__ import annotations

import io
from typing import Any

from framegrid_local.console import Console
from framegrid_local.figures import camera_figures, lines_of_table, worst_p95_ms
from framegrid_local.supervisor import Event, EventKind


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def entry(name: str = "north", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": name,
        "state": "running",
        "message": "",
        "fps_processed": 9.96,
        "p95_ms": 312.4,
        "processed": 100,
        "dropped": {"stale": 2, "no_frame": 1},
        "counts": {"person": 4, "vehicle": 2},
        "lines": {"road": {"in": 3, "out": 1}, "pavement": {"in": 2, "out": 0}},
    }
    return {**values, **changes}


TRUTH = {
    "crossed": {"road": {"person": {"in": 1, "out": 1}, "vehicle": {"in": 2, "out": 0}}},
    "present": {"person": 5, "vehicle": 2},
}


def test_figures_sum_lines_and_drops() -> None:
    figures = camera_figures({"cameras": [entry()]})["north"]
    assert (figures.crossed_in, figures.crossed_out, figures.dropped) == (5, 1, 3)


def test_no_answer_from_ingest_gives_no_figures() -> None:
    assert camera_figures(None) == {}


def test_crossings_are_counted_from_an_earlier_look_on_and_stand_beside_the_truth() -> None:
    before = camera_figures({"cameras": [entry(lines={"road": {"in": 1, "out": 1}})]})["north"]
    figures = camera_figures({"cameras": [entry()]})["north"].since(before).with_truth(TRUTH)
    assert (figures.crossed_in, figures.true_in) == (4, 3)
    assert (figures.crossed_out, figures.true_out) == (0, 1)
    assert (figures.persons, figures.true_persons) == (4, 5)


def test_the_table_has_a_line_per_camera_with_aligned_columns() -> None:
    figures = camera_figures({"cameras": [entry(), entry("south-entrance", p95_ms=None)]})
    header, lines = lines_of_table(figures.values())
    assert header.split() == [
        "camera",
        "state",
        "fps",
        "p95",
        "ms",
        "persons",
        "vehicles",
        "in",
        "out",
        "dropped",
    ]
    assert lines[0].split() == ["north", "running", "10.0", "312", "4", "2", "5", "1", "3"]
    assert lines[1].split()[3] == "-"
    assert {len(line) for line in (header, *lines)} == {len(header)}


def test_the_worst_camera_gives_the_latency() -> None:
    figures = camera_figures({"cameras": [entry(), entry("b", p95_ms=500.0), entry("c", p95_ms=None)]})
    assert worst_p95_ms(list(figures.values())) == 500.0
    assert worst_p95_ms([]) is None


def test_without_a_terminal_each_table_is_lines_and_the_header_comes_once() -> None:
    out = io.StringIO()
    console = Console(out)
    console.table("head", ["a 1"])
    console.table("head", ["a 2"])
    console.say("note")
    assert out.getvalue() == "head\na 1\na 2\nnote\n"


def test_on_a_terminal_the_table_replaces_itself_and_stays_below_messages() -> None:
    out = Terminal()
    console = Console(out)
    console.table("head", ["a 1"])
    console.table("head", ["a 2"])
    console.say("note")
    console.end_table()
    console.say("end")
    assert out.getvalue() == "head\na 1\n\x1b[2F\x1b[Jhead\na 2\n\x1b[2F\x1b[Jnote\nhead\na 2\nend\n"


def test_events_name_the_service_and_what_happened() -> None:
    out = io.StringIO()
    Console(out).event(Event("serve", EventKind.CRASHED, "ended with status 9"))
    assert "serve     crashed: ended with status 9" in out.getvalue()
