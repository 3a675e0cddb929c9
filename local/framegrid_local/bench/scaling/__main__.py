"""`python -m framegrid_local.bench.scaling`: the table and the drawing in serve/AUTOSCALING.md, made anew."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from framegrid_local.bench.scaling.loads import SCENARIOS
from framegrid_local.bench.scaling.policies import POLICIES
from framegrid_local.bench.scaling.report import Outcomes, drawing, page, table
from framegrid_local.bench.scaling.simulation import Simulation

SERVE = Path(__file__).parents[4] / "serve"
PAGE, DRAWING = SERVE / "AUTOSCALING.md", SERVE / "autoscaling.svg"


def simulate() -> Outcomes:
    """Every scenario under every policy; about a minute on one core."""
    return {
        (scenario.name, policy): Simulation(scenario, policy).run()
        for scenario in SCENARIOS
        for policy in POLICIES
    }


def files(outcomes: Outcomes) -> Iterator[tuple[Path, str]]:
    """What is to stand in each file."""
    yield PAGE, page(PAGE.read_text(encoding="utf-8"), table(SCENARIOS, outcomes))
    yield DRAWING, drawing(SCENARIOS, outcomes)


def main() -> int:
    """Write them."""
    for path, text in files(simulate()):
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
