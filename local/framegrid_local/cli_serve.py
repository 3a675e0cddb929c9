"""`framegrid serve …`: what a running serve does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from framegrid_local.state import DEFAULT_STATE_DIR

app = typer.Typer(help="A running serve: how many replicas, and why.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Makes `status` a command of a group, alone as it is."""


@app.command()
def status(
    *,
    url: Annotated[
        str,
        typer.Option("--url", help="Serve's address, also of a port-forward; else this machine's."),
    ] = "",
    json_output: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    state_dir: Annotated[
        Path, typer.Option("--state-dir", help="Folder of the running framegrid.")
    ] = DEFAULT_STATE_DIR,
) -> None:
    """Say what cameras offer, how full the replicas are, how many there should be, and what limits them."""
    from framegrid_local.serve_status import run_status

    raise typer.Exit(run_status(url, state_dir, as_json=json_output))
