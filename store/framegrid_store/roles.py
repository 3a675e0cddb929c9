"""Role `bi`: reads schema `bi` and nothing else, for a limited time per query, in UTC.

It is created without a password, so nobody can log in with one until the operator sets it:
`ALTER ROLE bi PASSWORD '…'`. A migrating role that may not create roles is told what to run instead.
"""

from __future__ import annotations

import logging

import psycopg
from psycopg import sql

from framegrid_store.connect import sanitised

logger = logging.getLogger(__name__)

ROLE = "bi"
SETTINGS = {
    "search_path": "bi",
    "TimeZone": "UTC",
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
}


def ensure_bi_role(connection: psycopg.Connection) -> bool:
    """Create role `bi` when it is missing, and grant it schema `bi`. False when this role may not do
    either."""
    try:
        with connection.transaction():
            _create(connection)
            _grant(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        logger.warning(
            "role bi is not set up (%s); as a superuser run CREATE ROLE bi LOGIN, then upgrade again",
            sanitised(error),
        )
        return False
    return True


def _create(connection: psycopg.Connection) -> None:
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone():
        return
    try:
        with connection.transaction():
            connection.execute(f"CREATE ROLE {ROLE} LOGIN NOINHERIT CONNECTION LIMIT 50")
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return  # Roles belong to the whole server: an upgrade of another database was faster.


def _grant(connection: psycopg.Connection) -> None:
    connection.execute(f"GRANT USAGE ON SCHEMA bi TO {ROLE}")
    connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA bi TO {ROLE}")
    connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA bi GRANT SELECT ON TABLES TO {ROLE}")
    database = sql.Identifier(connection.info.dbname)
    missing = _settings_missing(connection)
    for name in missing:
        # For this database alone: the role may serve another one with other settings.
        connection.execute(
            sql.SQL("ALTER ROLE bi IN DATABASE {} SET {} = {}").format(
                database, sql.Identifier(name), sql.Literal(SETTINGS[name])
            )
        )


def _settings_missing(connection: psycopg.Connection) -> list[str]:
    row = connection.execute(
        "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = current_database() AND r.rolname = %s",
        (ROLE,),
    ).fetchone()
    present = {entry.partition("=")[0] for entry in (row[0] if row else [])}
    return [name for name in SETTINGS if name not in present]
