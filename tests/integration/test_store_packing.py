"""Minutes whose time is over are packed once, while others read and write; a crash in it is mended."""

import uuid
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from databases.editions import Database
from framegrid_store import packing
from framegrid_store.capabilities import probe
from framegrid_store.copier import Copier
from framegrid_store.maintain import maintain_once
from framegrid_store.names import ROLLED_UP_TABLES
from framegrid_store.pieces import Piece, pieces
from framegrid_store.rows import CountRow, CoverageRow, Row
from framegrid_store.settings import StoreSettings

pytestmark = pytest.mark.integration

SETTINGS = StoreSettings()
# Hours of one day, so of one chunk on every edition.
START = datetime.now(timezone.utc).replace(hour=6, minute=0, second=0, microsecond=0)
MINUTES, CAMERAS = 240, 20


def store(database: Database, minute: datetime, n: int = 1) -> None:
    rows: list[Row] = []
    for camera in (f"camera-{number}" for number in range(CAMERAS)):
        rows.append(CountRow(minute.timestamp(), 1.0, camera, "person", "", "m@1", 1, n, n * n, n, n, 1, 0.5))
        rows.append(CoverageRow(minute.timestamp(), 1.0, camera, 1.0, 10, 10, 0, 0, 0, 0, 0))
    copier = Copier(database.url)
    try:
        assert copier.store(uuid.uuid4(), rows)
    finally:
        copier.close()


def fill(database: Database, connection: psycopg.Connection) -> None:
    """Minute by minute, each rolled up before the next, as in life."""
    for minute in range(MINUTES):
        store(database, START + minute * timedelta(minutes=1))
        maintain_once(connection, SETTINGS, START + timedelta(days=1), only_roll_up=True)


def index_bytes(connection: psycopg.Connection, piece: Piece) -> int:
    row = connection.execute(
        "SELECT pg_indexes_size(%s::regclass)", (piece.place.as_string(connection),)
    ).fetchone()
    assert row
    return row[0]  # type: ignore[no-any-return]


def filled_piece(connection: psycopg.Connection, table: str) -> Piece:
    return next(
        piece
        for piece in pieces(connection, probe(connection), table)
        if (piece.start is None or piece.start <= START) and piece.end > START
    )


def sums(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT camera, count(*), sum(n_sum), sum(processed) FROM bi.counts_minute GROUP BY 1 ORDER BY 1"
    ).fetchall()


def test_a_chunk_of_minutes_is_packed_once_after_the_late_horizon(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        fill(database, connection)
        filled = [filled_piece(connection, f"{table}_minute") for table in ROLLED_UP_TABLES]
        over = filled[0].end
        before, wide = sums(connection), index_bytes(connection, filled_piece(connection, "coverage_minute"))
        assert len(before) == CAMERAS

        early = maintain_once(connection, SETTINGS, over + timedelta(hours=23))
        assert (early.packed, early.errors) == ([], {})
        done = maintain_once(connection, SETTINGS, over + timedelta(hours=25))
        assert done.errors == {}
        assert {piece.name for piece in filled} <= set(done.packed)
        assert maintain_once(connection, SETTINGS, over + timedelta(hours=25)).packed == []

        assert sums(connection) == before
        assert index_bytes(connection, filled_piece(connection, "coverage_minute")) < 0.7 * wide
        plan = str(
            connection.execute(
                "EXPLAIN (ANALYZE, FORMAT JSON, BUFFERS OFF) SELECT n_sum FROM framegrid.frame_count_minute"
                " WHERE camera_id = (SELECT min(camera_id) FROM framegrid.camera) AND time >= %s",
                (START,),
            ).fetchone()
        )
        assert "'Index Only Scan'" in plan and "'Heap Fetches': 0" in plan


def test_a_row_that_comes_after_packing_is_added_like_any_other(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        store(database, START)
        maintain_once(connection, SETTINGS, START + timedelta(days=1), only_roll_up=True)
        later = filled_piece(connection, "frame_count_minute").end + timedelta(hours=25)
        assert maintain_once(connection, SETTINGS, later).packed
        store(database, START, n=4)
        maintain_once(connection, SETTINGS, later)
        assert [row[2] for row in sums(connection)] == [5] * CAMERAS


def test_what_a_crash_left_in_the_middle_is_taken_away(database: Database) -> None:
    with database.connect(autocommit=True) as connection, database.connect() as reader:
        store(database, START)
        maintain_once(connection, SETTINGS, START + timedelta(days=1), only_roll_up=True)
        piece = filled_piece(connection, "frame_count_minute")
        # An older reader holds PostgreSQL up in the middle of it; there it is stopped.
        reader.execute("SELECT count(*) FROM framegrid.frame_count_minute")
        connection.execute("SET statement_timeout = '1s'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            packing.pack(connection, piece)
        connection.execute("RESET statement_timeout")
        assert packing._left_by_a_crash(connection, piece)
        reader.rollback()

        later = piece.end + timedelta(hours=25)
        done = maintain_once(connection, SETTINGS, later)
        assert done.errors == {} and piece.name in done.packed
        assert packing._left_by_a_crash(connection, piece) == []


def test_one_that_waits_too_long_is_left_for_the_next_round(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LIMIT_S", 0.5)
    with database.connect(autocommit=True) as connection, database.connect() as reader:
        store(database, START)
        maintain_once(connection, SETTINGS, START + timedelta(days=1), only_roll_up=True)
        later = filled_piece(connection, "frame_count_minute").end + timedelta(hours=25)
        reader.execute("SELECT count(*) FROM framegrid.frame_count_minute")
        held = maintain_once(connection, SETTINGS, later)
        assert "cancel" in held.errors["compression"]
        reader.rollback()
        assert maintain_once(connection, SETTINGS, later).errors == {}
