"""A program that was rolled back meets the schema of the later one, which stays."""

import contextlib
import re
import time
import uuid
from pathlib import Path

import psycopg
import pytest
from framegrid_store import migrations
from framegrid_store.copier import Copier
from framegrid_store.errors import StoreError
from framegrid_store.maintain import maintain_now
from framegrid_store.migrate import head_revision, upgrade
from framegrid_store.rows import CameraRow, CoverageRow
from framegrid_store.settings import StoreSettings
from framegrid_store.status import status

pytestmark = pytest.mark.integration

# What a migration must not do unless programs from before it are told to stay away.
TAKES_AWAY = (" DROP ", " RENAME ", " TYPE ", " SET NOT NULL")


def make_newer(database_url: str, oldest_program: str) -> None:
    """As an upgrade to a later program would leave it."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("UPDATE framegrid.alembic_version SET version_num = '9999'")
        admin.execute("UPDATE framegrid.compatibility SET oldest_program = %s", (oldest_program,))
        admin.execute("ALTER TABLE framegrid.coverage ADD COLUMN later_ms BIGINT DEFAULT 0 NOT NULL")
        admin.execute("CREATE VIEW bi.later AS SELECT 1 AS one")


def test_a_program_that_was_rolled_back_goes_on_with_the_newer_schema(database_url: str) -> None:
    upgrade(database_url)
    make_newer(database_url, head_revision())

    with contextlib.closing(Copier(database_url)) as copier:
        copier.announce([CameraRow("north")])
        copier.store(uuid.uuid4(), [CoverageRow(time.time() - 300, 1.0, "north", 1.0, 5, 5, 0, 0, 0, 0, 0)])
    done = maintain_now(database_url, StoreSettings())
    assert (done.errors, done.rolled_up.rows) == ({}, 1)
    assert status(database_url).cameras == 1

    result = upgrade(database_url)
    assert (result.revision_before, result.revision, result.views_replaced) == ("9999", "9999", False)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT one FROM bi.later").fetchone() == (1,)
        assert connection.execute("SELECT camera, processed FROM bi.coverage").fetchone() == ("north", 5)


def test_a_program_that_was_rolled_back_too_far_says_which_one_it_takes(database_url: str) -> None:
    upgrade(database_url)
    make_newer(database_url, "5000")
    for ask in (upgrade, lambda url: maintain_now(url, StoreSettings())):
        with pytest.raises(StoreError, match=r"got revision 9999, which needs programs of 5000 or later"):
            ask(database_url)
    found = status(database_url)
    assert (found.revision, found.revision_wanted, found.tables) == ("9999", head_revision(), {})


def is_honest(revision: str, statements: str) -> bool:
    """Whether it only adds, or tells programs from before it to stay away."""
    text = " ".join(statements.upper().split())
    text = re.sub(r" DROP CONSTRAINT \w+_PKEY, ADD PRIMARY KEY \(", " ", text)  # another index, the same key
    raises = f"UPDATE FRAMEGRID.COMPATIBILITY SET OLDEST_PROGRAM = '{revision}'" in text
    return raises or not any(word in text for word in TAKES_AWAY)


def test_a_migration_that_takes_something_away_says_so() -> None:
    for path in sorted((Path(migrations.__path__[0]) / "versions").glob("*.sql")):
        assert path.name[:4] <= "0004" or is_honest(path.name[:4], path.read_text(encoding="utf-8")), path
    drop = "ALTER TABLE framegrid.track\n  DROP COLUMN zone_id;"
    assert not is_honest("0005", drop)
    assert is_honest("0005", f"{drop}\nUPDATE framegrid.compatibility SET oldest_program = '0005';")
