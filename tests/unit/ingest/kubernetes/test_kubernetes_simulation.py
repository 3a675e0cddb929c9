"""The figures' program itself: small, so that it stays true."""

import json

import pytest
from framegrid_ingest.kubernetes import simulation


def test_says_what_moved_how_long_it_took_and_what_it_asked_of_the_api_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert simulation.main(["--cameras", "300", "--pods", "6"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_name = {line["what"]: line for line in lines[:-1]}
    assert lines[-1]["recorded_twice"] == 0
    assert by_name["one pod added"]["moved_share"] == pytest.approx(1 / 7, abs=0.08)
    assert by_name["one pod killed"]["longest_gap_s"] < 10.0
    assert by_name["one pod told to stop"]["longest_gap_s"] < 5.0
    assert by_name["API server away for 30 s"]["moved_share"] == 0.0
    # Six pods renew every two seconds or a little sooner; 300 cameras are refreshed every 30 s.
    at_rest = by_name["one pod killed"]
    assert at_rest["lease_requests_s_at_rest"] == pytest.approx(6 / 1.9, rel=0.25)
    assert at_rest["status_requests_s_at_rest"] == pytest.approx(10.0, rel=0.4)


def test_bursts_of_status_writes_are_bounded() -> None:
    world, line = simulation.start(2000, 4, seed=3)
    # Four pods write status at most five times a second each, and their Leases.
    assert line["requests_worst_second"] < 4 * 20
    assert world.doubled() == []
