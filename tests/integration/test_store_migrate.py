"""`upgrade` on a real server: idempotent, from many processes at once, and equal to the models."""

import json
import os
import subprocess
import sys

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from framegrid_store import rollup_tables  # noqa: F401 (adds its tables to the metadata)
from framegrid_store.bi import VIEWS
from framegrid_store.errors import StoreError
from framegrid_store.migrate import engine, head_revision, upgrade
from framegrid_store.names import SCHEMA, TIME_TABLES
from framegrid_store.status import status
from framegrid_store.tables import metadata

pytestmark = pytest.mark.integration

PLAIN_TYPES = {"timestamp with time zone", "integer", "bigint", "double precision", "text", "boolean"}


def test_upgrade_is_idempotent(database_url: str) -> None:
    first = upgrade(database_url)
    second = upgrade(database_url)
    assert first.revision_before is None
    assert (second.revision_before, second.revision) == (head_revision(), head_revision())
    assert first.views_replaced and not second.views_replaced
    assert second.hypertables_made == ()


def test_six_processes_may_upgrade_at_once(database_url: str) -> None:
    command = [sys.executable, "-m", "framegrid_store", "upgrade"]
    environment = {**os.environ, "FRAMEGRID_DATABASE_URL": database_url}
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    ended = [(process.communicate(timeout=180), process.returncode) for process in running]
    assert [code for _, code in ended] == [0] * 6, [err for (_, err), _ in ended]
    assert sum(json.loads(out)["revision_before"] is None for (out, _), _ in ended) == 1


def test_migrations_make_exactly_the_tables_of_the_models(database_url: str) -> None:
    upgrade(database_url)
    # A role called like the schema has it as its default one, which Alembic then shows without its name.
    url = psycopg.conninfo.make_conninfo(database_url, options="-c search_path=public")
    with psycopg.connect(database_url) as plain:
        partitions = {
            name for (name,) in plain.execute("SELECT relname FROM pg_class WHERE relispartition").fetchall()
        }
    with engine(url, application_name="test").connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "version_table_schema": SCHEMA,
                "include_name": lambda name, kind, _: (
                    name not in partitions if kind == "table" else kind != "schema" or name == SCHEMA
                ),
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, metadata) == []


def test_every_view_has_plain_types_and_a_comment_on_every_column(database_url: str) -> None:
    upgrade(database_url)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name, data_type,"
            " col_description(format('bi.%I', table_name)::regclass, ordinal_position)"
            " FROM information_schema.columns WHERE table_schema = 'bi' ORDER BY table_name, ordinal_position"
        ).fetchall()
        comments = connection.execute(
            "SELECT count(*) FROM pg_class"
            " WHERE relnamespace = 'bi'::regnamespace AND obj_description(oid) <> ''"
        ).fetchone()
    assert {row[2] for row in rows} <= PLAIN_TYPES
    assert [row[:2] for row in rows if not row[3]] == []
    found = {name: [row[1] for row in rows if row[0] == name] for name in {row[0] for row in rows}}
    assert found == {view.name: list(view.columns) for view in VIEWS}
    assert comments == (len(VIEWS),)


def test_role_bi_reads_its_schema_and_nothing_else(database_url: str) -> None:
    assert upgrade(database_url).refused_sql == ()
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("ALTER ROLE bi PASSWORD 'only-in-this-test'")
    with psycopg.connect(database_url, user="bi", password="only-in-this-test", autocommit=True) as reader:
        assert reader.execute("SELECT count(*) FROM counts_minute").fetchone() == (0,)
        shown = {
            name: reader.execute(f"SHOW {name}").fetchone() for name in ("timezone", "statement_timeout")
        }
        assert shown == {"timezone": ("UTC",), "statement_timeout": ("30s",)}
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT count(*) FROM framegrid.frame_count")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("CREATE TABLE bi.mine (a int)")
        reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("CREATE TABLE bi.mine (a int)")
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("ALTER ROLE bi PASSWORD NULL")


def test_a_role_that_may_not_create_roles_still_upgrades(
    database_url: str, request: pytest.FixtureRequest
) -> None:
    name = f"framegrid_owner_{os.getpid()}"
    with psycopg.connect(database_url, autocommit=True) as admin:
        database = admin.info.dbname
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'only-in-this-test'")
        admin.execute(f"GRANT CREATE ON DATABASE {database} TO {name}")
    try:
        url = psycopg.conninfo.make_conninfo(database_url, user=name, password="only-in-this-test")
        assert upgrade(url).revision == head_revision()
        assert status(url).cameras == 0
    finally:
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute(f"DROP OWNED BY {name} CASCADE")
            admin.execute(f"DROP ROLE {name}")


def test_status_says_edition_revision_and_sizes(database_url: str) -> None:
    before = status(database_url)
    upgrade(database_url)
    after = status(database_url)
    assert before.revision is None and before.tables == {}
    assert after.revision == after.revision_wanted == head_revision()
    assert set(after.tables) == set(TIME_TABLES)
    assert after.capabilities.edition in ("plain", "apache", "community")
    assert after.lag_s is None


def test_an_unreachable_server_is_named_without_the_password(unused_tcp_port: int) -> None:
    with pytest.raises(StoreError) as raised:
        upgrade(f"postgresql://alice:secret@127.0.0.1:{unused_tcp_port}/nothing")
    assert f"alice@127.0.0.1:{unused_tcp_port}/nothing" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
