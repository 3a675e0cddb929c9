"""Who may do what: roles `owner`, `app` and `bi`, made and kept by `upgrade`.

| role | may |
|---|---|
| owner | upgrade and maintain: owns schemas framegrid and bi and all in them |
| app | store rows: INSERT facts, find or create names; read no fact, drop nothing |
| bi | read schema `bi`, in UTC, 30 s per query; write nothing, no temporary table either |
| a site's readers | the same in schema `bi_site`, see sites.py and logins.py |

What is missing is worked out as SQL, which is then run as far as the upgrading role's rights go; what is
still missing afterwards is handed back, for a superuser to run. So nothing is done twice, and what an
operator changed on purpose (a longer timeout) stays. Roles have no password at first, so nobody can log in as
one: `framegrid db password bi`. Limit: PostgreSQL lets a session lift its own timeouts; never its rights.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from framegrid_store.connect import sanitised
from framegrid_store.names import FACT_TABLES, SCHEMA
from framegrid_store.sites import SCHEMA as SITES

if TYPE_CHECKING:
    from typing_extensions import LiteralString

logger = logging.getLogger(__name__)

OWNER, APP, BI = "owner", "app", "bi"
_CREATE = {
    OWNER: "CREATE ROLE owner LOGIN",
    APP: "CREATE ROLE app LOGIN NOINHERIT",
    BI: "CREATE ROLE bi LOGIN NOINHERIT CONNECTION LIMIT 50",
}
SETTINGS = {
    APP: {
        "TimeZone": "UTC",
        "idle_in_transaction_session_timeout": "60s",  # a pod that froze in a batch lets go of its locks
    },
    BI: {
        "search_path": "bi",
        "TimeZone": "UTC",
        "default_transaction_read_only": "on",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "60s",
        "idle_session_timeout": "1h",  # pools let go in minutes, a workbook left open in days
        "temp_file_limit": "2GB",  # only a superuser may set it
        "jit": "off",  # the views' estimates are high: compiling would take longer than the query
    },
}
_NAMES = ("camera", "object_class", "model_version", "zone", "line", "series")
APP_RIGHTS = {
    "alembic_version": ("SELECT",),
    **dict.fromkeys(_NAMES, ("SELECT", "INSERT", "UPDATE")),
    **dict.fromkeys((*FACT_TABLES, "ingest_batch"), ("INSERT",)),
}
"""What the writer needs in schema framegrid, and no more. A table that is not there is left out."""
_KINDS = {"r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW"}
# Everybody may make large objects unless told otherwise: a way to write, though not into a table.
_LARGE_OBJECTS = ("lo_creat(integer)", "lo_create(oid)", "lo_from_bytea(oid, bytea)")


def ensure_roles(connection: psycopg.Connection) -> tuple[str, ...]:
    """Make what is missing; returns the SQL that this role may not run, empty when all is in place."""
    for statement in missing_sql(connection):
        try:
            with connection.transaction():
                connection.execute(_literal(statement))
        except psycopg.errors.InsufficientPrivilege as error:
            logger.debug("%s: %s", statement, sanitised(error))
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            pass  # Roles belong to the whole server: an upgrade of another database was faster.
        except psycopg.errors.UndefinedObject as error:
            logger.debug("%s: %s", statement, sanitised(error))  # a role that could not be created
    refused = tuple(missing_sql(connection))
    if refused:
        logger.warning("roles are not all set up; as a superuser run in this database: %s", " ".join(refused))
    return refused


def missing_sql(connection: psycopg.Connection) -> list[str]:
    """The statements that bring roles, their settings and their rights into place; none when they are."""
    known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    return [
        *(f"{create};" for role, create in _CREATE.items() if role not in known),
        *(line for role, wanted in SETTINGS.items() for line in _settings_of(connection, role, wanted)),
        *_database_rights(connection),
        *_bi_rights(connection),
        *_site_rights(connection, known),
        *_app_rights(connection),
        *_ownership(connection, known),
    ]


def _settings_of(connection: psycopg.Connection, role: str, settings: Mapping[str, str]) -> Iterator[str]:
    """Settings that nobody has set: for this database alone, as roles may serve others too."""
    database = sql.Identifier(connection.info.dbname)
    row = connection.execute(
        "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = current_database() AND r.rolname = %s",
        (role,),
    ).fetchone()
    present = {entry.partition("=")[0] for entry in (row[0] if row else [])}
    for name, value in settings.items():
        if name not in present:
            statement = sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {};").format(
                sql.Identifier(role), database, sql.Identifier(name), sql.Literal(value)
            )
            yield statement.as_string(connection)


def _database_rights(connection: psycopg.Connection) -> Iterator[str]:
    database = sql.Identifier(connection.info.dbname).as_string(connection)
    rights = {
        (grantee, privilege)
        for grantee, privilege in connection.execute(
            "SELECT coalesce(r.rolname, ''), a.privilege_type FROM pg_database d"
            " CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a"
            " LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE d.datname = current_database()"
        )
    }
    if (OWNER, "CREATE") not in rights or (OWNER, "TEMPORARY") not in rights:
        yield f"GRANT CREATE, TEMPORARY ON DATABASE {database} TO {OWNER};"
    if ("", "TEMPORARY") in rights:
        yield f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;"
    for function in _LARGE_OBJECTS:
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM pg_proc p CROSS JOIN aclexplode(coalesce(p.proacl,"
            " acldefault('f', p.proowner))) a WHERE p.oid = %s::regprocedure AND a.grantee = 0)",
            (f"pg_catalog.{function}",),
        ).fetchone()
        if row and row[0]:
            yield f"REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC;"


def _bi_rights(connection: psycopg.Connection) -> Iterator[str]:
    if not _may_use(connection, BI, "bi"):
        yield f"GRANT USAGE ON SCHEMA bi TO {BI};"
    rights = _table_rights(connection, "bi", BI)
    if any("SELECT" not in held for held in rights.values()):
        yield f"GRANT SELECT ON ALL TABLES IN SCHEMA bi TO {BI};"
    later = connection.execute(
        "SELECT 1 FROM pg_default_acl a JOIN pg_namespace n ON n.oid = a.defaclnamespace"
        " WHERE n.nspname = 'bi' AND pg_get_userbyid(a.defaclrole) = %s",
        (OWNER,),
    )
    if later.fetchone() is None:
        yield f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA bi GRANT SELECT ON TABLES TO {BI};"


def _site_rights(connection: psycopg.Connection, known: set[str]) -> Iterator[str]:
    """Readers of some sites: the rights of bi, in the schema whose views know who asks."""
    for (reader,) in connection.execute("SELECT DISTINCT role FROM framegrid.site_reader ORDER BY 1"):
        role = sql.Identifier(reader).as_string(connection)
        if reader not in known:
            yield f"CREATE ROLE {role} LOGIN NOINHERIT CONNECTION LIMIT 50;"
        yield from _settings_of(connection, reader, {**SETTINGS[BI], "search_path": SITES})
        if not _may_use(connection, reader, SITES):
            yield f"GRANT USAGE ON SCHEMA {SITES} TO {role};"
        if any("SELECT" not in held for held in _table_rights(connection, SITES, reader).values()):
            yield f"GRANT SELECT ON ALL TABLES IN SCHEMA {SITES} TO {role};"


def _app_rights(connection: psycopg.Connection) -> Iterator[str]:
    if not _may_use(connection, APP, SCHEMA):
        yield f"GRANT USAGE ON SCHEMA {SCHEMA} TO {APP};"
    for table, held in _table_rights(connection, SCHEMA, APP).items():
        lacking = [right for right in APP_RIGHTS.get(table, ()) if right not in held]
        if lacking:
            yield f"GRANT {', '.join(lacking)} ON {SCHEMA}.{table} TO {APP};"


def _ownership(connection: psycopg.Connection, known: set[str]) -> Iterator[str]:
    """Hand everything over to `owner`, so that it may upgrade what another role began."""
    row = connection.execute(
        "SELECT rolsuper, pg_has_role(current_user, nspowner, 'USAGE') FROM pg_roles, pg_namespace"
        " WHERE rolname = current_user AND nspname = %s",
        (SCHEMA,),
    ).fetchone()
    is_superuser, is_owner = row or (False, False)
    if is_owner and not is_superuser:
        return  # Whoever owns it and upgrades it is the owner, by whatever name.
    schemas = connection.execute(
        "SELECT nspname FROM pg_namespace WHERE nspname IN (%s, 'bi', 'bi_site')"
        " AND pg_get_userbyid(nspowner) <> %s ORDER BY 1 DESC",
        (SCHEMA, OWNER),
    )
    for (schema,) in schemas.fetchall():
        yield f"ALTER SCHEMA {schema} OWNER TO {OWNER};"
    # Sequences of identity columns, indexes and chunks follow their tables.
    found = connection.execute(
        "SELECT relkind::text, n.nspname, c.relname FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN (%s, 'bi', 'bi_site') AND relkind IN ('r', 'p', 'v', 'm')"
        " AND pg_get_userbyid(relowner) <> %s ORDER BY relkind, 2, 3",
        (SCHEMA, OWNER),
    )
    aggregates = _continuous_aggregates(connection)
    for kind, schema, name in found.fetchall():
        place = sql.Identifier(schema, name).as_string(connection)
        # PostgreSQL calls a continuous aggregate a view, TimescaleDB a materialised one.
        words = "MATERIALIZED VIEW" if (schema, name) in aggregates else _KINDS[kind]
        yield f"ALTER {words} {place} OWNER TO {OWNER};"
    functions = connection.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname IN (%s, 'bi', 'bi_site') AND pg_get_userbyid(proowner) <> %s ORDER BY 1",
        (SCHEMA, OWNER),
    )
    for (name,) in functions.fetchall():
        yield f"ALTER ROUTINE {name} OWNER TO {OWNER};"


def _continuous_aggregates(connection: psycopg.Connection) -> set[tuple[str, str]]:
    catalogue = "timescaledb_information.continuous_aggregates"
    if connection.execute("SELECT to_regclass(%s)", (catalogue,)).fetchone() == (None,):
        return set()
    found = connection.execute(_literal(f"SELECT view_schema, view_name FROM {catalogue}"))
    return {(schema, name) for schema, name in found}


def _may_use(connection: psycopg.Connection, role: str, schema: str) -> bool:
    row = connection.execute(
        "SELECT has_schema_privilege(r.oid, n.oid, 'USAGE') FROM pg_roles r, pg_namespace n"
        " WHERE r.rolname = %s AND n.nspname = %s",
        (role, schema),
    ).fetchone()
    return bool(row and row[0])


def _table_rights(connection: psycopg.Connection, schema: str, role: str) -> dict[str, set[str]]:
    """By table and view of the schema, partitions left out: what the role may do."""
    found = connection.execute(
        "SELECT c.relname, array(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p"
        " WHERE has_table_privilege(r.oid, c.oid, p))"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_roles r ON r.rolname = %s"
        " WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition ORDER BY 1",
        (role, schema),
    )
    return {name: set(rights) for name, rights in found}


def _literal(statement: str) -> LiteralString:
    # Built from this package's constants and quoted identifiers alone.
    return statement  # type: ignore[return-value]
