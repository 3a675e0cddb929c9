"""`upgrade`: a database of any earlier state becomes one of this program. Idempotent; safe from many
processes.

Three layers in one transaction, under one advisory lock: Alembic's migrations (tables), the reconciler (what
depends on the edition), the `bi` schema (views, comments, role). Everything or nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timezone

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from framegrid_store import bi, reconcile, roles
from framegrid_store.capabilities import Capabilities, probe
from framegrid_store.connect import connect, describe, sanitised
from framegrid_store.errors import UPGRADE_ADVICE, NotUpgradedError, StoreError
from framegrid_store.names import SCHEMA
from framegrid_store.settings import StoreSettings

logger = logging.getLogger(__name__)

# Any constant does; all programs that upgrade must use the same one. ASCII "framegrd".
LOCK_KEY = 0x6672616D65677264
APPLICATION_NAME = "framegrid-upgrade"


@dataclass(frozen=True, slots=True)
class UpgradeResult:
    """What `upgrade` found and did."""

    revision_before: str | None
    revision: str
    capabilities: Capabilities
    hypertables_made: tuple[str, ...]
    partitioned: tuple[str, ...]
    views_replaced: bool
    refused_sql: tuple[str, ...]
    """What the upgrading role may not do about roles: for a superuser to run in this database."""


def head_revision() -> str:
    """The revision that this program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise StoreError(
            "expected migrations in framegrid_store/migrations/versions, got none; reinstall framegrid"
        )
    return head


def current_revision(connection: psycopg.Connection) -> str | None:
    """The revision that the database is at; None when it has no schema yet."""
    if connection.execute("SELECT to_regclass('framegrid.alembic_version')").fetchone() == (None,):
        return None
    row = connection.execute("SELECT version_num FROM framegrid.alembic_version").fetchone()
    return None if row is None else str(row[0])


def require_current(connection: psycopg.Connection) -> None:
    """Raise `NotUpgradedError` unless the database is at this program's revision."""
    found, wanted = current_revision(connection), head_revision()
    if found != wanted:
        raise NotUpgradedError(
            f"expected schema revision {wanted}, got {found or 'no Framegrid schema'}; {UPGRADE_ADVICE}"
        )


def upgrade(database_url: str, settings: StoreSettings | None = None) -> UpgradeResult:
    """Bring the database up to date and say what was done.

    `settings`: retention and chunks; without them those in force stay, and a new database gets the defaults.
    Waits while another process upgrades. Raises `StoreError` with a reason (never the password) when the
    server cannot be reached, is too old, or refuses.
    """
    try:
        with connect(database_url, application_name=APPLICATION_NAME, autocommit=True) as connection:
            probe(connection)
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
                reconcile.create_extension(connection)
        with engine(database_url, application_name=APPLICATION_NAME).begin() as transaction:
            return _upgrade(transaction, settings)
    except psycopg.Error as error:
        raise StoreError(
            f"cannot upgrade {describe(database_url)}: {sanitised(error, database_url)}"
        ) from None  # The chained error might quote the URL.


def engine(database_url: str, *, application_name: str) -> Engine:
    """A SQLAlchemy engine over `connect`: one connection per use, none kept."""
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(database_url, application_name=application_name),
        poolclass=NullPool,
    )


def _upgrade(transaction: Connection, settings: StoreSettings | None) -> UpgradeResult:
    # A transaction's lock: works behind PgBouncer, and is gone when the process dies.
    transaction.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
    transaction.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    raw = transaction.connection.driver_connection
    if not isinstance(raw, psycopg.Connection):
        raise StoreError(f"expected a psycopg connection, got {type(raw).__name__}; install psycopg 3")
    before = current_revision(raw)
    config = _config()
    config.attributes["connection"] = transaction
    command.upgrade(config, "head")
    capabilities = probe(raw)
    if settings is not None or before in (None, "0001"):
        reconcile.apply_settings(raw, settings or StoreSettings())
    cut = reconcile.cut_tables(raw, capabilities, datetime.now(timezone.utc))
    views_replaced = bi.create_views(raw, anew=bool(cut.hypertables or cut.partitioned))
    reconcile.drop_emptied(raw, cut.emptied)
    result = UpgradeResult(
        revision_before=before,
        revision=head_revision(),
        capabilities=capabilities,
        hypertables_made=cut.hypertables,
        partitioned=cut.partitioned,
        views_replaced=views_replaced,
        refused_sql=roles.ensure_roles(raw),
    )
    logger.info("store is at revision %s, edition %s", result.revision, capabilities.edition)
    return result


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "framegrid_store:migrations")
    config.set_main_option("path_separator", "os")
    return config
