"""Upgrades of databases with data in them: from every earlier revision, and to another edition."""

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from alembic import command
from databases.editions import Database
from framegrid_store import migrate, partitions, reconcile
from framegrid_store.capabilities import Capabilities, probe
from framegrid_store.copier import Copier
from framegrid_store.maintain import maintain_once
from framegrid_store.migrate import head_revision, upgrade
from framegrid_store.names import FACT_TABLES, TIME_TABLES
from framegrid_store.rows import CountRow, CoverageRow
from framegrid_store.settings import StoreSettings
from framegrid_store.status import COMPRESSION

pytestmark = pytest.mark.integration

UTC = timezone.utc
NOW = datetime.now(UTC).replace(microsecond=0)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)

# As writers of revision 0001 store rows: no number on them, no mark.
ROWS_OF_0001 = """
INSERT INTO framegrid.object_class (name) VALUES ('person');
INSERT INTO framegrid.model_version (name) VALUES ('m');
INSERT INTO framegrid.camera (key, timezone) VALUES ('north', 'Asia/Kathmandu');
INSERT INTO framegrid.series SELECT camera_id, class_id, 0 FROM framegrid.camera, framegrid.object_class;
INSERT INTO framegrid.ingest_batch (batch_id, rows) VALUES (gen_random_uuid(), 10), (gen_random_uuid(), 10);
INSERT INTO framegrid.frame_count (time, camera_id, zone_id, model_id, interval_ms, samples, n_sum, n_sumsq,
    score_milli_sum, n_min, n_max, uniques, class_id)
SELECT t, 1, 0, 1, 1000, 1, 2, 4, 900, 2, 2, 0, 1 FROM unnest(%(times)s::timestamptz[]) t;
INSERT INTO framegrid.coverage SELECT t, 1, 1000, 1000, 1, 1, 0, 0, 0, 0, 0
FROM unnest(%(times)s::timestamptz[]) t;
INSERT INTO framegrid.event SELECT t, gen_random_uuid(), 1, 'camera.lost', 'info', '', '{}'
FROM unnest(%(times)s::timestamptz[]) t;
"""


def make_0001(url: str, *, hypertables: bool) -> None:
    """A database as the first release left it, without rows."""
    with migrate.engine(url, application_name="test").begin() as transaction:
        raw: Any = transaction.connection.driver_connection
        if hypertables:
            raw.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        raw.execute("CREATE SCHEMA framegrid")
        config = migrate._config()
        config.attributes["connection"] = transaction
        command.upgrade(config, "0001")
        for table, column in FACT_TABLES.items() if hypertables else ():
            raw.execute(
                f"SELECT create_hypertable('framegrid.{table}', '{column}', create_default_indexes => false)"
            )


def fill_0001(connection: psycopg.Connection, times: list[datetime]) -> None:
    for statement in ROWS_OF_0001.split(";"):
        if statement.strip():
            values = {"times": times} if "%(" in statement else None
            connection.execute(statement, values)  # type: ignore[arg-type]


def numbers(connection: psycopg.Connection, query: str) -> list[Any]:
    return connection.execute(query).fetchall()  # type: ignore[arg-type]


TOTALS = (
    "SELECT (SELECT sum(n_sum)::bigint FROM bi.counts_minute),"
    " (SELECT sum(n_sum)::bigint FROM bi.counts_hour), (SELECT sum(n_sum)::bigint FROM bi.counts_day),"
    " (SELECT sum(n_sum)::bigint FROM bi.counts_5s),"
    " (SELECT sum(observed_s) FROM bi.coverage), (SELECT count(*) FROM bi.events)"
)
TIMES = [NOON, NOON + timedelta(seconds=70), NOON - timedelta(days=400), NOW, NOW + timedelta(days=3)]


def test_rows_of_the_first_revision_are_all_in_the_views_before_and_after_roll_up(
    empty_database: Database,
) -> None:
    make_0001(empty_database.url, hypertables=empty_database.edition != "plain")
    with empty_database.connect(autocommit=True) as connection:
        fill_0001(connection, TIMES)
        result = upgrade(empty_database.url)
        assert result.revision_before == "0001"
        assert result.hypertables_made or result.partitioned
        assert numbers(connection, TOTALS) == [(10, 10, 10, 10, 5.0, 5)]
        done = maintain_once(connection, StoreSettings(), NOW + timedelta(days=4), only_roll_up=True)
        assert (done.errors, done.rolled_up.rows) == ({}, 10)
        assert numbers(connection, TOTALS) == [(10, 10, 10, 10, 5.0, 5)]
        # Midnight in Kathmandu is 18:15 in UTC.
        days = numbers(connection, "SELECT time::time FROM bi.counts_day")
        assert {str(row[0]) for row in days} == {"18:15:00"}
        assert upgrade(empty_database.url).views_replaced is False


def test_a_writer_that_is_not_upgraded_yet_loses_nothing(empty_database: Database) -> None:
    make_0001(empty_database.url, hypertables=empty_database.edition != "plain")
    with empty_database.connect(autocommit=True) as connection:
        fill_0001(connection, [NOW])
        upgrade(empty_database.url)
        connection.execute(
            "INSERT INTO framegrid.frame_count (time, camera_id, zone_id, model_id, interval_ms, samples,"
            " n_sum, n_sumsq, score_milli_sum, n_min, n_max, uniques, class_id)"
            " SELECT now() + n * interval '1 minute', 1, 0, 1, 1000, 1, 2, 4, 900, 2, 2, 0, 1"
            " FROM generate_series(0, 100, 10) n"
        )
        total = "SELECT sum(n_sum)::bigint FROM bi.counts_day"
        assert numbers(connection, total) == [(24,)]
        maintain_once(connection, StoreSettings(), NOW + timedelta(days=1), only_roll_up=True)
        assert numbers(connection, total) == [(24,)]


def test_many_may_upgrade_a_filled_database_at_once(empty_database: Database) -> None:
    from concurrent.futures import ThreadPoolExecutor

    make_0001(empty_database.url, hypertables=empty_database.edition != "plain")
    with empty_database.connect(autocommit=True) as connection, ThreadPoolExecutor(4) as pool:
        fill_0001(connection, TIMES)
        results = list(pool.map(upgrade, [empty_database.url] * 4))
        assert sorted(one.revision_before or "" for one in results) == ["0001", *[head_revision()] * 3]
        assert numbers(connection, TOTALS) == [(10, 10, 10, 10, 5.0, 5)]


def test_an_extension_that_comes_later_takes_partitions_and_rows_over(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if empty_database.edition == "plain":
        pytest.skip("no TimescaleDB on this server")
    url = empty_database.url
    with empty_database.connect(autocommit=True) as connection:
        connection.execute("DROP EXTENSION IF EXISTS timescaledb")
        with monkeypatch.context() as without:
            without.setattr(reconcile, "create_extension", lambda _: None)
            assert upgrade(url).capabilities.edition == "plain"
        copier = Copier(url)
        for at in TIMES:
            row = CountRow(at.timestamp(), 1.0, "north", "person", "", "m@1", 1, 2, 4, 2, 2, 0, 0.5)
            seen = CoverageRow(at.timestamp(), 1.0, "north", 1.0, 1, 1, 0, 0, 0, 0, 0)
            copier.store(uuid.uuid4(), [row, seen])
        copier.close()
        assert maintain_once(connection, StoreSettings(), NOW, only_roll_up=True).rolled_up.rows == 6
    with empty_database.connect(autocommit=True) as connection:
        before = numbers(connection, TOTALS)
        assert before == [(10, 10, 10, 10, 5.0, 0)]
        assert partitions.is_partitioned(connection, "frame_count")
        result = upgrade(url)
        assert result.capabilities.edition == "apache"
        assert set(result.hypertables_made) == set(TIME_TABLES)
    with empty_database.connect(autocommit=True) as connection:
        assert numbers(connection, TOTALS) == before
        tables = numbers(connection, "SELECT tablename FROM pg_tables WHERE schemaname = 'framegrid'")
        assert [name for (name,) in tables if "_before" in name or "_p2" in name] == []
        assert (
            maintain_once(connection, StoreSettings(), NOW + timedelta(days=4), only_roll_up=True).errors
            == {}
        )
        assert numbers(connection, TOTALS) == before


COMMUNITY = Capabilities("community", "17.0", "2.20.1")


def test_what_community_would_run_is_known_here_and_refused_for_its_licence_alone(database: Database) -> None:
    """The columnstore cannot run on the Apache edition, but its parser and its catalogue are the same."""
    if database.edition != "apache":
        pytest.skip("needs TimescaleDB Apache")
    statements = reconcile.policy_statements("frame_count", timedelta(hours=48), is_new=True)
    statements += reconcile.policy_statements("frame_count", None, is_new=False)
    assert len(statements) == 3
    with database.connect(autocommit=True) as connection:
        assert probe(connection).columnstore is False
        for statement in statements:
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                connection.execute(statement)
        assert connection.execute(reconcile.POLICIES, ("framegrid",)).fetchall() == []
        assert connection.execute(COMPRESSION, ("framegrid.frame_count",)).fetchall() == []


def test_policies_are_changed_only_where_settings_differ() -> None:
    after = timedelta(hours=48)

    class Catalogue:
        """What TimescaleDB would say and be told."""

        def __init__(self) -> None:
            self.policies = {table: after for table in TIME_TABLES if not table.endswith("_day")}
            self.policies["frame_count"] = timedelta(hours=100)
            del self.policies["event"]
            self.told: list[str] = []

        def execute(self, statement: Any, _values: Any = None) -> Any:
            if statement is reconcile.POLICIES:
                return self
            self.told.append(statement.as_string(None))
            return None

        def fetchall(self) -> list[tuple[str, timedelta]]:
            return list(self.policies.items())

    catalogue: Any = Catalogue()
    changed = reconcile.compress_by_policy(catalogue, COMMUNITY, StoreSettings())
    assert changed == [
        "frame_count compressed after 2 days, 0:00:00",
        "event compressed after 2 days, 0:00:00",
    ]
    assert [words.split("(")[0].strip() for words in catalogue.told] == [
        "CALL remove_columnstore_policy",
        "CALL add_columnstore_policy",
        'ALTER TABLE "framegrid"."event" SET',
        "CALL add_columnstore_policy",
    ]
    catalogue.told.clear()
    assert len(reconcile.compress_by_policy(catalogue, COMMUNITY, StoreSettings(columnstore=False))) == 9
    assert all("remove_columnstore_policy" in words for words in catalogue.told)
    assert (
        reconcile.compress_by_policy(catalogue, Capabilities("community", "17.0", "2.17.2"), StoreSettings())
        == []
    )


def test_local_days_begin_on_whole_quarters_of_an_hour_in_every_zone(database: Database) -> None:
    """So days are sums of minutes, in every zone the server knows, for the years that matter."""
    if database.edition != "plain":
        pytest.skip("the same PostgreSQL underneath")
    with database.connect() as connection:
        odd = connection.execute(
            "SELECT DISTINCT name FROM pg_timezone_names CROSS JOIN LATERAL generate_series("
            " '2020-01-01'::timestamp, '2037-12-31', '1 day') d CROSS JOIN LATERAL"
            " (SELECT date_trunc('day', d AT TIME ZONE 'UTC' + interval '12 hours', name) AS midnight) m"
            " WHERE extract(epoch FROM midnight)::bigint % 900 <> 0 AND name !~ '^(posix|right)/'"
        ).fetchall()
        assert odd == []
        known = connection.execute("SELECT count(*) FROM pg_timezone_names").fetchone()
        assert known and known[0] > 400
