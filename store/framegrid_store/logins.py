"""Letting people in: the passwords of roles, and readers of some sites alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from framegrid_store.connect import connect, describe, sanitised
from framegrid_store.errors import StoreError
from framegrid_store.migrate import LOCK_KEY, require_current
from framegrid_store.roles import APP, BI, OWNER, ensure_roles


def set_password(database_url: str, role: str, password: str) -> None:
    """Give a role its password. The server gets a scram-sha-256 verifier; the words stay here.

    Raises `StoreError` when the role is not there, or is not ours to change.
    """
    try:
        with connect(database_url, application_name="framegrid-password", autocommit=True) as connection:
            verifier = connection.pgconn.encrypt_password(
                password.encode(), role.encode(), b"scram-sha-256"
            ).decode()
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
            )
    except psycopg.errors.UndefinedObject:
        raise StoreError(
            f"expected role {role} on {describe(database_url)}, got none; run `framegrid db upgrade` first"
        ) from None
    except psycopg.Error as error:
        raise StoreError(
            f"cannot set the password of {role} on {describe(database_url)}: "
            f"{sanitised(error, database_url)}; use a URL whose role may (CREATEROLE, or a superuser)"
        ) from None  # The chained error might quote the URL.


def set_passwords(database_url: str, folder: Path) -> tuple[str, ...]:
    """Give each role the password in the file of its name (`owner`, `app`, `bi`): a mounted Secret.

    Returns the roles. Raises `StoreError` for a folder without any, and as `set_password`.
    """
    found = [role for role in (OWNER, APP, BI) if (folder / role).is_file()]
    if not found:
        raise StoreError(f"expected files {OWNER}, {APP} or {BI} in {folder}, got none")
    for role in found:
        set_password(database_url, role, (folder / role).read_text(encoding="utf-8").rstrip("\n"))
    return tuple(found)


def add_reader(database_url: str, role: str, sites: Sequence[str]) -> tuple[str, ...]:
    """Let a login see the cameras of these sites, in schema `bi_site`, besides those it sees already.

    Returns the SQL that this role may not run, as `upgrade` does. Raises `StoreError` for the name of a role
    that is something else already.
    """
    with _asking(database_url) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
        known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
        if known and role not in _readers(connection):
            raise StoreError(f"expected a new name, got {role}, a role that is there already; take another")
        if not sites:
            raise StoreError(f"expected a site for {role}, got none; an empty reader would see nothing")
        connection.cursor().executemany(
            "INSERT INTO framegrid.site_reader (role, site) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [(role, site) for site in sites],
        )
        return ensure_roles(connection)


def remove_reader(database_url: str, role: str) -> None:
    """Take a reader's sites, rights and login away. Raises `StoreError` when there is no such reader."""
    with _asking(database_url) as connection, connection.transaction():
        if role not in _readers(connection):
            raise StoreError(f"expected a reader of a site, got {role}; `framegrid db reader list` has them")
        name = sql.Identifier(role)
        connection.execute("DELETE FROM framegrid.site_reader WHERE role = %s", (role,))
        connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
        connection.execute(sql.SQL("DROP ROLE {}").format(name))


def readers(database_url: str) -> dict[str, list[str]]:
    """Readers and the sites that they see, by name."""
    with _asking(database_url) as connection:
        return _readers(connection)


def _readers(connection: psycopg.Connection) -> dict[str, list[str]]:
    require_current(connection)
    found = connection.execute(
        "SELECT role, array_agg(site ORDER BY site) FROM framegrid.site_reader GROUP BY role ORDER BY role"
    ).fetchall()
    return {role: list(sites) for role, sites in found}


@contextmanager
def _asking(database_url: str) -> Iterator[psycopg.Connection]:
    try:
        with connect(database_url, application_name="framegrid-logins", autocommit=True) as connection:
            yield connection
    except psycopg.Error as error:
        raise StoreError(
            f"cannot change the readers of {describe(database_url)}: {sanitised(error, database_url)}"
        ) from None  # The chained error might quote the URL.
