"""`framegrid load`: options of the load test."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from framegrid_local.state import DEFAULT_STATE_DIR


class ShapeName(str, Enum):
    """As in framegrid_load.shapes, which must not be imported for `--help`."""

    STEADY = "steady"
    STEP = "step"
    BURST = "burst"


def load(
    *,
    target: Annotated[
        str,
        typer.Option("--target", help="Address of a running Framegrid of yours; without it one is started."),
    ] = "",
    shape: Annotated[list[ShapeName], typer.Option("--shape", help="Repeatable; without it all.")] = [],  # noqa: B006
    cameras: Annotated[
        int, typer.Option("--cameras", min=0, help="0: 0.7 of the capacity, which is searched for first.")
    ] = 0,
    fps: Annotated[float, typer.Option("--fps", min=0.1, max=60, help="Of each camera.")] = 10,
    people: Annotated[int, typer.Option("--people", min=0, max=1000, help="Users on POST /predict.")] = 2,
    cores: Annotated[
        int, typer.Option("--cores", min=0, help="Cores of the target's detectors, for the figure per core.")
    ] = 0,
    model: Annotated[str, typer.Option("--model", help="Model of the Serve that is started.")] = "street-sim",
    replicas: Annotated[
        int, typer.Option("--replicas", min=0, max=256, help="Of it; 0: one per core, less one.")
    ] = 0,
    synthetic_ms: Annotated[
        float,
        typer.Option("--synthetic-ms", min=0, max=60_000, help="An engine that only waits, for so long."),
    ] = 0,
    unit_s: Annotated[
        float, typer.Option("--unit-s", min=1, max=600, help="Unit of time of the shapes.")
    ] = 10,
    trial_s: Annotated[float, typer.Option("--trial-s", min=1, help="One trial of the capacity search.")] = 8,
    confirm_s: Annotated[float, typer.Option("--confirm-s", min=1, help="The trial that confirms it.")] = 30,
    max_p95_ms: Annotated[float, typer.Option("--max-p95-ms", min=1, help="Threshold.")] = 500,
    max_lost_share: Annotated[
        float, typer.Option("--max-lost-share", min=0, max=1, help="Threshold.")
    ] = 0.01,
    max_recovery_s: Annotated[float, typer.Option("--max-recovery-s", min=0, help="Threshold.")] = 20,
    web: Annotated[
        bool, typer.Option("--web", help="Locust's web page instead of a run of its own.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the report; default STATE/load.")
    ] = None,
    state_dir: Annotated[
        Path, typer.Option("--state-dir", help="Folder for logs and files.")
    ] = DEFAULT_STATE_DIR,
) -> None:
    """Load a Framegrid with cameras and people, judge it, and say how many cameras it carries.

    Exit status 1 when a threshold was missed.
    """
    from framegrid_local.load import OwnServe, require_locust, run

    require_locust()
    from framegrid_load.run import LoadPlan
    from framegrid_load.shapes import SHAPES
    from framegrid_load.verdict import Thresholds

    plan = LoadPlan(
        target=target,
        out=out or state_dir / "load",
        shapes=tuple(one.value for one in shape) or tuple(SHAPES),
        cameras=cameras,
        cores=cores,
        fps=fps,
        people=people,
        unit_s=unit_s,
        trial_s=trial_s,
        confirm_s=confirm_s,
        thresholds=Thresholds(max_p95_ms, max_lost_share, max_recovery_s),
    )
    own = OwnServe(model, replicas, synthetic_ms)
    raise typer.Exit(run(plan, own, state_dir, web=web))
