"""`upgrade`: a database of any earlier state becomes one of this program. Idempotent; safe from many
processes. One of a later state stays as it is, see `require_current`.

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
    """The revision that this program makes. Revisions are four digits: later ones compare as greater."""
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


def require_current(connection: psycopg.Connection) -> str:
    """The database's revision: this program's, or a later one that still takes programs like this one.

    So a program can be rolled back while the schema stays. Raises `NotUpgradedError` when the schema is not
    there or older, `StoreError` when it has gone too far for this program.
    """
    found, wanted = current_revision(connection), head_revision()
    if found is None or found < wanted:
        raise NotUpgradedError(
            f"expected schema revision {wanted}, got {found or 'no Framegrid schema'}; {UPGRADE_ADVICE}"
        )
    if found > wanted:
        row = connection.execute("SELECT oldest_program FROM framegrid.compatibility").fetchone()
        oldest = row[0] if row else found
        if wanted < oldest:
            raise StoreError(
                f"expected a schema that programs of revision {wanted} work with, got revision {found}, "
                f"which needs programs of {oldest} or later; install a newer Framegrid"
            )
    return found


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
    if before is not None and before > head_revision():
        return _left_alone(raw, require_current(raw))
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


def _left_alone(connection: psycopg.Connection, revision: str) -> UpgradeResult:
    """A newer program's schema, views and roles are its own; this one works with them."""
    logger.info(
        "store is at revision %s, newer than this program's %s, which works with it: nothing is changed",
        revision,
        head_revision(),
    )
    return UpgradeResult(revision, revision, probe(connection), (), (), False, ())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "framegrid_store:migrations")
    config.set_main_option("path_separator", "os")
    return config
