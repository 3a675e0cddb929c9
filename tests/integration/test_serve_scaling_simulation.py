"""The policies on simulated cameras: what the documentation says is what the simulation gives."""

from __future__ import annotations

import pytest
from framegrid_local.bench.scaling import __main__ as scaling
from framegrid_local.bench.scaling.loads import Scenario
from framegrid_local.bench.scaling.report import Outcomes
from framegrid_local.bench.scaling.simulation import Simulation

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return scaling.simulate()


def test_the_documentation_holds_what_the_simulation_gives(outcomes: Outcomes) -> None:
    for path, text in scaling.files(outcomes):
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: make autoscaling-docs"


def test_a_step_is_one_change_and_over_in_seconds(outcomes: Outcomes) -> None:
    for name in ("step", "step12"):
        found = outcomes[name, "frames"]
        before = next(replicas for second, _, replicas, _ in found.series if second == 119)
        after = next(replicas for second, _, replicas, _ in found.series if second == 135)
        assert found.recovered_s is not None and found.recovered_s <= 15
        assert all(replicas in (before, after) for second, _, replicas, _ in found.series if second < 500)


def test_fewer_changes_and_no_more_drops_than_ray_s_policies(outcomes: Outcomes) -> None:
    names = {name for name, _ in outcomes}
    for other in ("ray_tuned", "ray_default"):
        ours = sum(outcomes[name, "frames"].changes for name in names)
        assert ours < sum(outcomes[name, "ray_tuned"].changes for name in names)
        for name in names:
            ours_share = outcomes[name, "frames"].dropped / outcomes[name, "frames"].offered
            share = outcomes[name, other].dropped / outcomes[name, other].offered
            assert ours_share < share + 0.005, (name, other)


def test_every_frame_has_one_outcome() -> None:
    scenario = Scenario("short", "short", 60, ((0, 6), (10, 40), (30, 2)))
    simulation = Simulation(scenario, "frames")
    found = simulation.run()
    assert found.in_time + found.dropped <= sum(simulation._offered.values())
    assert found.dropped > 0
