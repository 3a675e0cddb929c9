"""`framegrid db …`: the schema and the address of the database."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from framegrid_local.errors import LocalError
from framegrid_local.state import DEFAULT_STATE_DIR, StateDir

app = typer.Typer(help="The database: upgrade, status, address.", no_args_is_help=True)

StateDirOption = Annotated[Path, typer.Option("--state-dir", help="Folder of the running framegrid.")]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="FRAMEGRID_DATABASE_URL",
        help="The database; without it that of the framegrid that runs in the state folder.",
    ),
]


@app.command()
def upgrade(database_url: DatabaseOption = "", state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """Bring the schema up to date. Safe to repeat, and from several machines at once."""
    from framegrid_store.connect import describe
    from framegrid_store.migrate import upgrade as upgrade_store

    url = find_url(database_url, state_dir)
    result = upgrade_store(url)
    was = result.revision_before or "empty"
    typer.echo(f"{describe(url)}: schema revision {result.revision} (was {was})")


@app.command()
def status(database_url: DatabaseOption = "", state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """Revision, edition, sizes and how old the newest row is, as JSON."""
    from framegrid_store.connect import describe
    from framegrid_store.status import status as store_status

    url = find_url(database_url, state_dir)
    found = asdict(store_status(url))
    typer.echo(json.dumps({"database": describe(url), **found}, indent=2, default=str))


@app.command()
def url(state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """Print the address of the running embedded database, password included: psql "$(framegrid db url)"."""
    typer.echo(find_url("", state_dir))


def find_url(database_url: str, state_dir: Path) -> str:
    """The address given, else the one that the framegrid running in the state folder wrote down."""
    if database_url:
        return database_url
    path = StateDir(state_dir).database_url_file
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise LocalError(
            f"no framegrid runs in {path.parent}; start one (framegrid demo, framegrid up), "
            "or give --database-url"
        ) from None
    except OSError as error:
        raise LocalError(f"cannot read {path}: {error.strerror}; it belongs to another user") from None
