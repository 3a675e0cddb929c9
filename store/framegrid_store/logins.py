"""Letting people in: the passwords of roles."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg import sql

from framegrid_store.connect import connect, describe, sanitised
from framegrid_store.errors import StoreError
from framegrid_store.roles import APP, BI, OWNER


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
