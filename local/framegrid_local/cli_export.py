"""`framegrid export`: counts into CSV or Parquet files."""

from __future__ import annotations

from datetime import date, datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from framegrid_local.cli_database import DatabaseOption, StateDirOption, find_reader_url
from framegrid_local.errors import UsageError
from framegrid_local.state import DEFAULT_STATE_DIR


def export(
    *,
    folder: Annotated[Path, typer.Argument(help="Where to write; made when missing.")],
    start: Annotated[
        str, typer.Option("--from", help="2026-11-01 (each camera's midnight) or a time with zone.")
    ],
    end: Annotated[str, typer.Option("--to", help="As --from; not included. Without it: now.")] = "",
    scale: Annotated[
        str, typer.Option("--scale", help="5s, minute, hour, day (the camera's own).")
    ] = "minute",
    form: Annotated[
        str, typer.Option("--form", help="short: date,people_count; full: every column; parquet: one file.")
    ] = "short",
    value: Annotated[
        str, typer.Option("--value", help="Short form: mean or max objects per frame, or uniques (visits).")
    ] = "mean",
    camera: Annotated[list[str], typer.Option("--camera", help="Only this. Repeatable.")] = [],  # noqa: B006
    cls: Annotated[str, typer.Option("--class", help="Counted class; `all` in the full forms.")] = "",
    zone: Annotated[str, typer.Option("--zone", help="Zone; empty: the whole picture; `all`.")] = "",
    database_url: DatabaseOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Write counts to files: a CSV per camera, or one Parquet file. Not seen is empty; 0 is nobody."""
    from framegrid_store.export import ExportRequest
    from framegrid_store.export import export as write

    chosen_class = cls or ("person" if form == "short" else "all")
    request = ExportRequest(
        start=_bound(start, "--from"),
        end=_bound(end, "--to") if end else datetime.now(timezone.utc),
        scale=scale,
        form=form,
        cameras=tuple(camera),
        cls=None if chosen_class == "all" else chosen_class,
        zone=None if zone == "all" else zone,
        value=value,
    )
    for path, rows in write(find_reader_url(database_url, state_dir), request, folder).items():
        typer.echo(f"{path}  {rows:,} rows")


def _bound(text: str, option: str) -> date | datetime:
    """A date, or a time with its zone."""
    try:
        if len(text) == len("2026-11-01"):
            return date.fromisoformat(text)
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(
            f"expected {option} like 2026-11-01 or 2026-11-01T08:00:00+01:00, got {text!r}"
        ) from None
