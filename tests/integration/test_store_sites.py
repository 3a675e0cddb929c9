"""Readers of one site: every view of bi_site shows its cameras and no other, whatever they ask."""

import os
from collections.abc import Iterator

import psycopg
import pytest
from databases.editions import Database
from framegrid_local.cli import app
from framegrid_store.bi import VIEWS
from framegrid_store.errors import StoreError
from framegrid_store.logins import add_reader, readers, remove_reader, set_password
from framegrid_store.migrate import upgrade
from typer.testing import CliRunner

pytestmark = pytest.mark.integration

PASSWORD = "only-in-this-test"
SITES = {"depot": {"north-gate", "south-gate"}, "tower": {"lobby"}}


@pytest.fixture
def depot(day: Database) -> Iterator[tuple[Database, str]]:
    """The day's database, and the name of a reader of its site `depot` that can log in."""
    role = f"framegrid depot {os.getpid()}"
    assert add_reader(day.url, role, ["depot"]) == ()
    set_password(day.url, role, PASSWORD)
    yield day, role
    if role in readers(day.url):
        remove_reader(day.url, role)


def log_in(database: Database, role: str) -> psycopg.Connection:
    return psycopg.connect(database.url, user=role, password=PASSWORD, autocommit=True)


def test_a_reader_sees_its_sites_cameras_alone_in_every_view(depot: tuple[Database, str]) -> None:
    database, role = depot
    with log_in(database, role) as reader, database.connect() as admin:
        for view in VIEWS:
            if "site" not in view.columns:
                continue
            everything = admin.execute(f"SELECT count(*) FROM bi.{view.name}").fetchone()
            expected = admin.execute(f"SELECT count(*) FROM bi.{view.name} WHERE site = 'depot'").fetchone()
            assert reader.execute(f"SELECT count(*) FROM {view.name}").fetchone() == expected, view.name
            if view.name in ("cameras", "counts_hour", "coverage"):
                assert expected not in (everything, (0,)), view.name
        cameras = {name for (name,) in reader.execute("SELECT DISTINCT camera FROM counts_minute")}
        assert cameras == SITES["depot"]
        shown = reader.execute("SELECT sum(n_sum)::bigint FROM counts_day").fetchone()
        assert (
            shown
            == admin.execute("SELECT sum(n_sum)::bigint FROM bi.counts_day WHERE site = 'depot'").fetchone()
        )


def test_a_reader_is_refused_every_other_way_to_the_numbers(depot: tuple[Database, str]) -> None:
    database, role = depot
    with log_in(database, role) as reader:
        for statement in (
            "SELECT count(*) FROM bi.counts_minute",
            "SELECT count(*) FROM framegrid.camera",
            "SELECT count(*) FROM framegrid.site_reader",
            "SET ROLE bi",
            "SET ROLE owner",
            "SET SESSION AUTHORIZATION bi",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)
        reader.execute("SET default_transaction_read_only = off")
        for statement in (
            "INSERT INTO framegrid.site_reader VALUES (session_user, 'tower')",
            "CREATE TABLE bi_site.mine (a int)",
            "CREATE FUNCTION bi_site.mine(text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
            "CREATE TEMPORARY TABLE mine (a int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)


def test_a_condition_that_fails_on_others_rows_tells_nothing(depot: tuple[Database, str]) -> None:
    database, role = depot
    with log_in(database, role) as reader:
        for view in ("cameras", "counts_hour", "coverage"):
            # Divides by nothing on the rows of `lobby` alone: without a barrier the error would give it away.
            assert reader.execute(
                f"SELECT count(*) > 0 FROM {view} WHERE 1 / (length(camera) - length('lobby')) IS NOT NULL"
            ).fetchone() == (True,)


def test_more_sites_are_added_and_an_upgrade_keeps_them(depot: tuple[Database, str]) -> None:
    database, role = depot
    add_reader(database.url, role, ["tower"])
    with database.connect(autocommit=True) as admin:
        admin.execute("COMMENT ON SCHEMA bi IS 'older'")  # so that every view is made again
    result = upgrade(database.url)
    assert result.views_replaced and result.refused_sql == ()
    with log_in(database, role) as reader:
        cameras = {name for (name,) in reader.execute("SELECT camera FROM cameras")}
        assert cameras == SITES["depot"] | SITES["tower"]
        assert reader.execute("SHOW search_path").fetchone() == ("bi_site",)
        assert reader.execute("SHOW statement_timeout").fetchone() == ("30s",)


def test_a_reader_that_is_removed_cannot_log_in(depot: tuple[Database, str]) -> None:
    database, role = depot
    remove_reader(database.url, role)
    with pytest.raises(psycopg.OperationalError):
        log_in(database, role)
    with pytest.raises(StoreError, match="expected a reader of a site"):
        remove_reader(database.url, role)
    for taken in ("bi", "owner", "framegrid"):
        with pytest.raises(StoreError, match="a role that is there already"):
            add_reader(database.url, taken, ["depot"])
    with pytest.raises(StoreError, match="expected a site"):
        add_reader(database.url, f"{role} 2", [])


def test_the_command_adds_lists_and_removes(day: Database) -> None:
    role = f"framegrid_board_{os.getpid()}"

    def reader(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["db", "reader", *arguments, "--database-url", day.url])
        assert done.exit_code == 0, done.output
        return done.output

    assert f"{role} sees depot, tower" in reader("add", role, "--site", "tower", "--site", "depot")
    assert reader("list") == f"{role}: depot, tower\n"
    reader("remove", role)
    assert reader("list") == ""
