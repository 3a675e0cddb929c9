"""Roles owner, app and bi on a real server: each can do its work, and is refused everything else."""

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from databases.editions import Database
from framegrid_store.__main__ import main
from framegrid_store.bi import VIEWS
from framegrid_store.logins import set_password
from framegrid_store.migrate import upgrade
from framegrid_store.rows import (
    CameraRow,
    CountRow,
    CoverageRow,
    CrossingRow,
    DetectionRow,
    EventRow,
    LineRow,
    ModelRow,
    Row,
    TrackRow,
    ZoneRow,
)
from framegrid_store.writer import StoreWriter

pytestmark = pytest.mark.integration

PASSWORD = "only-in-this-test"
AT_S = time.time() // 60 * 60  # some views reach back for a day alone
BOX = (0.1, 0.2, 0.3, 0.4)
REFUSED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)

ANYBODY_MAY_NOT = {
    "read a file": "SELECT pg_read_file('/etc/passwd')",
    "list a folder": "SELECT pg_ls_dir('/')",
    "read a file by COPY": "COPY (SELECT 1) TO '/tmp/framegrid-test'",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "change a server's setting": "ALTER SYSTEM SET work_mem = '1GB'",
    "make a role": "CREATE ROLE mallory",
    "make a large object": "SELECT lo_create(0)",
    "make a temporary table": "CREATE TEMPORARY TABLE mine (a int)",
    "make a table in public": "CREATE TABLE public.mine (a int)",
    "read passwords": "SELECT rolpassword FROM pg_authid",
    "end a session": "SELECT pg_terminate_backend(max(pid)) FROM pg_stat_activity WHERE usesysid = 10",
}
BI_MAY_NOT = {
    **ANYBODY_MAY_NOT,
    "read a fact": "SELECT count(*) FROM framegrid.frame_count",
    "read cameras behind the views": "SELECT count(*) FROM framegrid.camera",
    "read the ledger": "SELECT count(*) FROM framegrid.ingest_batch",
    "become the owner": "SET ROLE owner",
    "become app": "SET ROLE app",
    "insert": "INSERT INTO bi.models (name) VALUES ('x')",
    "delete": "DELETE FROM bi.models",
    "update": "UPDATE bi.models SET name = 'x'",
    "make a table": "CREATE TABLE bi.mine (a int)",
    "make a view": "CREATE VIEW bi.mine AS SELECT 1 AS a",
    "make a function": "CREATE FUNCTION bi.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make a schema": "CREATE SCHEMA mine",
    "drop a view": "DROP VIEW bi.counts_minute",
    "replace a view": "CREATE OR REPLACE VIEW bi.cameras AS SELECT 1",
    "take the store's grants": "GRANT SELECT ON framegrid.camera TO bi",
}
APP_MAY_NOT = {
    **ANYBODY_MAY_NOT,
    "delete facts": "DELETE FROM framegrid.frame_count",
    "change facts": "UPDATE framegrid.coverage SET observed_ms = 0",
    "empty a table": "TRUNCATE framegrid.event",
    "drop a table": "DROP TABLE framegrid.detection",
    "change a table": "ALTER TABLE framegrid.event ADD COLUMN a int",
    "read facts": "SELECT count(*) FROM framegrid.frame_count",
    "read single boxes": "SELECT count(*) FROM framegrid.detection",
    "read views": "SELECT count(*) FROM bi.counts_minute",
    "delete a camera": "DELETE FROM framegrid.camera",
    "forget the ledger": "DELETE FROM framegrid.ingest_batch",
    "make a table": "CREATE TABLE framegrid.mine (a int)",
    "change the revision": "UPDATE framegrid.alembic_version SET version_num = '0000'",
    "become the owner": "SET ROLE owner",
}


@pytest.fixture
def logins(database: Database) -> Iterator[Database]:
    """The database, whose roles can log in with PASSWORD for the time of the test."""
    roles = ("owner", "app", "bi")
    for role in roles:
        set_password(database.url, role, PASSWORD)
    yield database
    with database.connect(autocommit=True) as admin:
        for role in roles:
            admin.execute(f"ALTER ROLE {role} PASSWORD NULL")


def every_row() -> list[Row]:
    track = str(uuid.uuid4())
    return [
        CountRow(AT_S, 1.0, "north", "person", "", "m@1", 10, 20, 40, 2, 2, 1, 0.5),
        CountRow(AT_S, 1.0, "north", "person", "pavement", "m@1", 10, 10, 10, 1, 1, 1, 0.5),
        CoverageRow(AT_S, 1.0, "north", 1.0, 10, 10, 0, 0, 0, 0, 0),
        TrackRow(track, "north", "person", "m@1", AT_S, AT_S + 9.5, 90, 0.9, BOX, BOX),
        CrossingRow(AT_S, "north", "door", "person", track, "in", "m@1"),
        EventRow(AT_S, str(uuid.uuid4()), "north", "camera.lost", "warning", "no frames", {}),
        DetectionRow(AT_S, "north", 7, "person", "m@1", track, 0.875, *BOX),
    ]


def store_as(url: str) -> None:
    writer = StoreWriter(url, batch_wait_s=0.01)
    writer.announce(
        [
            CameraRow("north", "depot", "Europe/Paris"),
            ZoneRow("north", "pavement", [(0, 0.6), (1, 0.6), (1, 1)]),
            LineRow("north", "door", (0.1, 0.9), (0.9, 0.9)),
            ModelRow("m@1", digest="abc"),
        ]
    )
    writer.start()
    assert writer.put(every_row()) == 0
    assert writer.close(timeout_s=30) == 0, writer.stats()
    assert writer.stats().dropped == {}
    assert writer.stats().stored == len(every_row())


def test_app_stores_rows_of_every_kind_and_bi_reads_them_in_every_view(logins: Database) -> None:
    store_as(logins.as_role("app", PASSWORD))
    store_as(logins.as_role("app", PASSWORD))  # the names are found now, not created
    with psycopg.connect(logins.as_role("bi", PASSWORD), autocommit=True) as reader:
        for view in VIEWS:
            assert reader.execute(f"SELECT * FROM {view.name}").fetchone() is not None, view.name
        assert reader.execute("SELECT n_sum FROM counts_hour WHERE zone = ''").fetchone() == (40,)


def test_bi_is_refused_everything_but_reading_its_views(logins: Database) -> None:
    with psycopg.connect(logins.as_role("bi", PASSWORD), autocommit=True) as reader:
        assert not_refused(reader, BI_MAY_NOT) == {}
        reader.execute("SET default_transaction_read_only = off")  # its own setting: rights have to hold
        assert not_refused(reader, BI_MAY_NOT, psycopg.errors.InsufficientPrivilege) == {}


def test_app_is_refused_everything_but_storing(logins: Database) -> None:
    with psycopg.connect(logins.as_role("app", PASSWORD), autocommit=True) as writer:
        assert not_refused(writer, APP_MAY_NOT, psycopg.errors.InsufficientPrivilege) == {}


def not_refused(
    connection: psycopg.Connection,
    statements: dict[str, str],
    expected: type[Exception] | tuple[type[Exception], ...] = REFUSED,
) -> dict[str, str]:
    """What went through, or failed for another reason than missing rights."""
    found = {}
    for what, statement in statements.items():
        try:
            found[what] = str(connection.execute(statement).statusmessage)
        except expected:
            pass
        except psycopg.Error as error:
            found[what] = repr(error)
    return found


def test_bi_may_not_read_a_table_by_its_parts(logins: Database) -> None:
    store_as(logins.as_role("app", PASSWORD))
    with logins.connect() as admin:
        parts = [
            name
            for (name,) in admin.execute(
                "SELECT format('%I.%I', nspname, relname) FROM pg_class c"
                " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE relkind IN ('r', 'p', 'v', 'm')"
                " AND (nspname = 'framegrid' OR (nspname = '_timescaledb_internal' AND relname ~ '^_hyper_'))"
            )
        ]
    assert len(parts) > 10
    assert logins.edition == "plain" or any("_hyper_" in name for name in parts)
    with psycopg.connect(logins.as_role("bi", PASSWORD), autocommit=True) as reader:
        for name in parts:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"SELECT * FROM {name} LIMIT 1")


def test_bi_sees_its_schema_alone_and_has_its_settings(logins: Database) -> None:
    with psycopg.connect(logins.as_role("bi", PASSWORD), autocommit=True) as reader:
        seen = reader.execute(
            "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_schema NOT LIKE"
            " '%timescaledb%' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert seen == [("bi",)]
        shown = {
            name: reader.execute(f"SELECT current_setting('{name}')").fetchone()
            for name in ("TimeZone", "statement_timeout", "search_path", "default_transaction_read_only",
                         "idle_in_transaction_session_timeout", "idle_session_timeout", "temp_file_limit")
        }  # fmt: skip
    assert {name: row and row[0] for name, row in shown.items()} == {
        "TimeZone": "UTC",
        "statement_timeout": "30s",
        "search_path": "bi",
        "default_transaction_read_only": "on",
        "idle_in_transaction_session_timeout": "1min",
        "idle_session_timeout": "1h",
        "temp_file_limit": "2GB",
    }


def test_a_query_of_bi_ends_after_its_time(logins: Database) -> None:
    with logins.connect(autocommit=True) as admin:
        admin.execute(f"ALTER ROLE bi IN DATABASE {admin.info.dbname} SET statement_timeout = '200ms'")
    upgrade(logins.url)  # keeps what the operator chose
    with (
        psycopg.connect(logins.as_role("bi", PASSWORD)) as reader,
        pytest.raises(psycopg.errors.QueryCanceled),
    ):
        reader.execute("SELECT pg_sleep(20)")


def test_owner_upgrades_what_a_superuser_began(logins: Database) -> None:
    url = logins.as_role("owner", PASSWORD)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("COMMENT ON SCHEMA bi IS 'older'")  # so that every view is made again
    result = upgrade(url)
    assert result.views_replaced
    assert result.refused_sql == ()
    assert upgrade(logins.url).refused_sql == ()
    store_as(logins.as_role("app", PASSWORD))
    with logins.connect() as admin:
        owners = admin.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class"
            " WHERE relnamespace IN ('framegrid'::regnamespace, 'bi'::regnamespace)"
        ).fetchall()
    assert owners == [("owner",)]


def test_a_role_without_rights_is_told_the_sql_that_a_superuser_has_to_run(empty_database: Database) -> None:
    name = f"framegrid_small_{os.getpid()}"
    with empty_database.connect(autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        admin.execute(f"GRANT CREATE ON DATABASE {admin.info.dbname} TO {name}")
        try:
            url = empty_database.as_role(name, PASSWORD)
            refused = upgrade(url).refused_sql
            assert any(line.startswith("REVOKE TEMPORARY ON DATABASE") for line in refused)
            for statement in refused:
                admin.execute(statement)
            assert upgrade(url).refused_sql == ()
        finally:
            admin.execute(f"DROP OWNED BY {name} CASCADE")
            admin.execute(f"DROP ROLE {name}")


def test_a_password_is_sent_as_a_verifier_and_lets_in(logins: Database) -> None:
    set_password(logins.url, "bi", "another one ' %")
    with psycopg.connect(logins.url, user="bi", password="another one ' %") as reader:
        assert reader.execute("SELECT current_user").fetchone() == ("bi",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(logins.as_role("bi", PASSWORD))
    with logins.connect() as admin:
        row = admin.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'bi'").fetchone()
    assert row is not None and row[0].startswith("SCRAM-SHA-256$")


def test_roles_get_the_passwords_of_a_mounted_secret(
    logins: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("app", "bi"):
        (tmp_path / role).write_text(f"word of {role}\n")
    monkeypatch.setenv("FRAMEGRID_DATABASE_URL", logins.url)
    assert main(["upgrade", "--wait-s", "5", "--passwords", str(tmp_path)]) == 0
    for role in ("app", "bi"):
        with psycopg.connect(logins.url, user=role, password=f"word of {role}") as connection:
            assert connection.execute("SELECT current_user").fetchone() == (role,)
    assert main(["upgrade", "--passwords", str(tmp_path / "nowhere")]) == 1
