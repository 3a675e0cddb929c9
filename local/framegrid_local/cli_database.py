"""`framegrid db …`: the schema, the roles and the state of the database."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from framegrid_local.errors import LocalError, UsageError
from framegrid_local.state import DEFAULT_STATE_DIR, StateDir

app = typer.Typer(help="The database: upgrade, status, maintain, passwords, address.", no_args_is_help=True)

reader_app = typer.Typer(help="Logins that see the cameras of some sites alone.", no_args_is_help=True)
app.add_typer(reader_app, name="reader")

StateDirOption = Annotated[Path, typer.Option("--state-dir", help="Folder of the running framegrid.")]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="FRAMEGRID_DATABASE_URL",
        help="The database; without it that of the framegrid that runs in the state folder.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]
SettingsOption = Annotated[
    Path | None, typer.Option("--settings", help="Retention, chunks, compression, as YAML.")
]


@app.command()
def upgrade(
    *,
    settings: SettingsOption = None,
    json_output: JsonOption = False,
    database_url: DatabaseOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Bring the schema up to date. Safe to repeat, and from several machines at once."""
    from framegrid_store.connect import describe
    from framegrid_store.migrate import upgrade as upgrade_store
    from framegrid_store.settings import load_settings

    from framegrid_local.database_report import edition_words

    url = find_url(database_url, state_dir)
    result = upgrade_store(url, load_settings(settings) if settings else None)
    if json_output:
        typer.echo(json.dumps({"database": describe(url), **asdict(result)}, indent=2, default=str))
        return
    was = "" if result.revision_before == result.revision else f" (was {result.revision_before or 'empty'})"
    typer.echo(f"{describe(url)}: {edition_words(result.capabilities)}, revision {result.revision}{was}")
    _say_refused(result.refused_sql)


@app.command()
def status(
    *,
    json_output: JsonOption = False,
    database_url: DatabaseOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Edition, sizes, lag, what is kept how long, the next tasks, and what needs doing."""
    from framegrid_store.connect import describe
    from framegrid_store.status import status as store_status

    from framegrid_local.database_report import status_lines

    url = find_url(database_url, state_dir)
    found = store_status(url)
    if json_output:
        typer.echo(json.dumps({"database": describe(url), **asdict(found)}, indent=2, default=str))
        return
    for line in status_lines(describe(url), found, datetime.now(timezone.utc)):
        typer.echo(line)


@app.command()
def maintain(
    *,
    settings: SettingsOption = None,
    database_url: DatabaseOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """One round of roll-ups, chunks and retention, now. (`python -m framegrid_store maintain` goes on.)"""
    from framegrid_store.maintain import maintain_now
    from framegrid_store.settings import StoreSettings, load_settings

    url = find_url(database_url, state_dir)
    done = maintain_now(url, load_settings(settings) if settings else StoreSettings())
    typer.echo(json.dumps(asdict(done), indent=2, default=str))
    raise typer.Exit(1 if done.errors else 0)


@app.command()
def password(
    role: Annotated[str, typer.Argument(help="bi, app, owner, or a reader.")] = "bi",
    database_url: DatabaseOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Set the password of a role: asked for, or the first line of standard input. Only a verifier is sent."""
    from framegrid_store.connect import describe
    from framegrid_store.logins import set_password

    url = find_url(database_url, state_dir)
    if sys.stdin.isatty():
        chosen = typer.prompt(f"Password of {role}", hide_input=True, confirmation_prompt=True)
    else:
        chosen = sys.stdin.readline().rstrip("\n")
    if not chosen:
        raise UsageError("expected a password, got an empty line")
    set_password(url, role, chosen)
    typer.echo(f"{role} may log in to {describe(url).rpartition('@')[2]}")


@reader_app.command("add")
def reader_add(
    role: Annotated[str, typer.Argument(help="Name of the login.")],
    site: Annotated[list[str], typer.Option("--site", help="A site that it may see. Repeatable.")],
    database_url: DatabaseOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Make a login that sees these sites in schema bi_site, or let one see more sites."""
    from framegrid_store.logins import add_reader, readers

    url = find_url(database_url, state_dir)
    _say_refused(add_reader(url, role, site))
    typer.echo(f"{role} sees {', '.join(readers(url)[role])}; `framegrid db password {role}` lets it in")


@reader_app.command("list")
def reader_list(database_url: DatabaseOption = "", state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """Readers and their sites, one a line."""
    from framegrid_store.logins import readers

    for role, sites in readers(find_url(database_url, state_dir)).items():
        typer.echo(f"{role}: {', '.join(sites)}")


@reader_app.command("remove")
def reader_remove(
    role: Annotated[str, typer.Argument(help="Name of the login.")],
    database_url: DatabaseOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Take a reader's sites, rights and login away."""
    from framegrid_store.logins import remove_reader

    remove_reader(find_url(database_url, state_dir), role)
    typer.echo(f"{role} is gone")


@app.command()
def url(
    role: Annotated[str, typer.Option("--role", help="bi: the readers' address.")] = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Print the address of the running embedded database, password included: psql "$(framegrid db url)"."""
    if role not in ("", "bi"):
        raise UsageError(f"expected --role bi or none, got {role}; only these addresses are kept")
    typer.echo(_read(StateDir(state_dir).bi_url_file if role else StateDir(state_dir).database_url_file))


def _say_refused(statements: Sequence[str]) -> None:
    if statements:
        typer.echo("This role may not set up all roles. As a superuser, run in this database:")
        for statement in statements:
            typer.echo(f"    {statement}")


def find_url(database_url: str, state_dir: Path) -> str:
    """The address given, else the one that the framegrid running in the state folder wrote down."""
    return database_url or _read(StateDir(state_dir).database_url_file)


def find_reader_url(database_url: str, state_dir: Path) -> str:
    """The same for what only reads: the running framegrid's address for role bi, where it keeps one."""
    readers = StateDir(state_dir).bi_url_file
    return database_url or _read(readers if readers.exists() else StateDir(state_dir).database_url_file)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise LocalError(
            f"no framegrid runs in {path.parent}; start one (framegrid demo, framegrid up), "
            "or give --database-url"
        ) from None
    except OSError as error:
        raise LocalError(f"cannot read {path}: {error.strerror}; it belongs to another user") from None
