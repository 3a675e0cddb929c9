"""The `framegrid` command. Everything heavy is imported when a command runs: `--help` has to be instant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from framegrid_local import cli_database, cli_export, cli_load, cli_model, cli_serve
from framegrid_local.cli_errors import FriendlyGroup
from framegrid_local.state import DEFAULT_STATE_DIR

app = typer.Typer(
    cls=FriendlyGroup,
    help="Camera streams into trustworthy numbers in SQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a frame's locals may hold a camera's password
    add_completion=False,
)
app.add_typer(cli_model.app, name="model")
app.add_typer(cli_serve.app, name="serve")
app.add_typer(cli_database.app, name="db")
app.command()(cli_export.export)
app.command()(cli_load.load)
camera_app = typer.Typer(help="Look at one camera.", no_args_is_help=True)
app.add_typer(camera_app, name="camera")

StateDirOption = Annotated[
    Path, typer.Option("--state-dir", help="Folder for logs, the embedded database and models.")
]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="FRAMEGRID_DATABASE_URL",
        show_envvar=True,
        help="PostgreSQL to write to; without it an embedded one runs in the state folder.",
    ),
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")]
ReplicasOption = Annotated[
    int, typer.Option("--replicas", min=0, help="Detector replicas; 0: one per core, less one.")
]
MaxReplicasOption = Annotated[
    int,
    typer.Option(
        "--max-replicas", min=0, help="Most replicas that load may start, one core each; 0: a fixed number."
    ),
]
SecondsOption = Annotated[
    float,
    typer.Option("--seconds", min=0, help="Stop after so many seconds; 0: run until Ctrl-C."),
]
PageOption = Annotated[bool, typer.Option("--page/--no-page", help="Run the Streamlit page.")]


@app.command()
def demo(
    *,
    cameras: Annotated[int, typer.Option("--cameras", min=1, max=500, help="Simulated street cameras.")] = 4,
    seconds: SecondsOption = 0,
    model: Annotated[str, typer.Option("--model", help="Model for all cameras.")] = "street-sim",
    replicas: ReplicasOption = 0,
    page: PageOption = True,
    page_port: PortOption = 0,
    database_port: PortOption = 0,
    database_url: DatabaseOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Run the real thing on simulated street cameras, checked against the simulator's exact truth.

    With --seconds the last line is one JSON object; the exit status is 1 when no rows arrived or the
    counts are wrong.
    """
    from framegrid_local.chain import ChainSettings
    from framegrid_local.demo import run_demo

    settings = ChainSettings(
        state_dir=state_dir,
        database_url=database_url,
        database_port=database_port,
        page=page,
        page_port=page_port,
        replicas=replicas,
    )
    raise typer.Exit(run_demo(settings, cameras=cameras, seconds=seconds, model=model))


@app.command()
def up(
    *,
    cameras: Annotated[Path, typer.Argument(help="Your cameras.yaml; edits are picked up while running.")],
    seconds: SecondsOption = 0,
    replicas: ReplicasOption = 0,
    max_replicas: MaxReplicasOption = 0,
    page: PageOption = True,
    page_port: PortOption = 0,
    database_port: PortOption = 0,
    database_url: DatabaseOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Run everything on this machine with your own cameras."""
    from framegrid_local.chain import ChainSettings
    from framegrid_local.up import run_up

    settings = ChainSettings(
        state_dir=state_dir,
        database_url=database_url,
        database_port=database_port,
        page=page,
        page_port=page_port,
        replicas=replicas,
        max_replicas=max_replicas,
    )
    raise typer.Exit(run_up(settings, cameras_path=cameras, seconds=seconds))


@app.command()
def analyze(
    *,
    source: Annotated[str, typer.Argument(help="Video file, image file, or the address of a camera.")],
    model: Annotated[str, typer.Option("--model", help="Name or folder of a model.")] = "street-sim",
    fps: Annotated[float, typer.Option("--fps", min=0.001, max=120, help="Frames analysed per second.")] = 10,
    line: Annotated[
        list[str], typer.Option("--line", help="NAME:x1,y1,x2,y2 relative to the picture (0..1). Repeatable.")
    ] = [],  # noqa: B006 - Typer copies it
    zone: Annotated[
        list[str],
        typer.Option("--zone", help="NAME:x1,y1,x2,y2,x3,y3,… (0..1). Repeatable."),
    ] = [],  # noqa: B006
    min_score: Annotated[float, typer.Option("--min-score", min=0, max=1, help="Least score counted.")] = 0.4,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Stop after so much video; 0: all.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    csv_output: Annotated[bool, typer.Option("--csv", help="One CSV line per second of video.")] = False,
    annotate: Annotated[
        Path | None, typer.Option("--annotate", help="Write the video or image with boxes and tracks drawn.")
    ] = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Count what is in a video, an image or a camera, without servers."""
    from framegrid_local.analyze import AnalyzeRequest, run_analyze

    request = AnalyzeRequest(
        source=source,
        model=model,
        fps=fps,
        lines=tuple(line),
        zones=tuple(zone),
        min_score=min_score,
        seconds=seconds,
        output="json" if json_output else "csv" if csv_output else "text",
        annotate=annotate,
        state_dir=state_dir,
    )
    raise typer.Exit(run_analyze(request))


@camera_app.command("check")
def camera_check(
    url: Annotated[str, typer.Argument(help="rtsp://, http(s)://, a file, webcam:0; ${NAME} is filled in.")],
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.5, max=300, help="Seconds to wait.")] = 15,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Open a camera and say what it sends, or exactly why not."""
    from framegrid_local.camera_check import run_check

    raise typer.Exit(run_check(url, timeout_s, as_json=json_output))


@app.command()
def doctor(
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say what this machine has, and what that means for Framegrid."""
    from framegrid_local.doctor import run_doctor

    raise typer.Exit(run_doctor(as_json=json_output))


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def sim(context: typer.Context) -> None:
    """Simulated street cameras with exact truth: serve, render, bench; `framegrid sim --help` says more."""
    from framegrid_sim.cli import main

    raise typer.Exit(main(context.args) or 0)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(installed("framegrid"))
