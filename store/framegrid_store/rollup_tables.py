"""The tables that maintenance fills (SQLAlchemy 2): roll-ups per minute, hour and day, and what they rest on.

Every value in a roll-up is a sum, a least or a greatest, and every sum is a whole number. So rows are added
to a roll-up in any order, late ones too, and the result is that of adding them all at once. `migrations/`
creates the tables by hand-written SQL; a test fails when the two differ.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    Interval,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from framegrid_store.tables import metadata

_SPANS = {"minute": "the minute", "hour": "the hour (UTC)", "day": "the camera's local day"}
_COUNTED = ("samples", "n_sum", "n_sumsq", "score_milli_sum", "uniques", "n_min", "n_max")
_FRAMES = {
    "observed_ms": "Time that processed frames stand for, milliseconds",
    "expected": "Frames that should have been taken; 0 while paused",
    "processed": "Frames that were counted",
    "dropped_no_frame": "Frames lost: the camera delivered nothing new",
    "dropped_overload": "Frames lost: replaced by a newer one before it could be sent",
    "dropped_stale": "Frames lost: too old when their turn came",
    "dropped_refused": "Frames lost: the detector answered with an error, retries included",
    "dropped_corrupt": "Frames lost: the picture could not be decoded",
}


def _column(name: str, type_: Any, comment: str, *, nullable: bool = False, **options: Any) -> Column[Any]:
    return Column(name, type_, nullable=nullable, comment=comment, **options)


def _when(name: str, comment: str, **options: Any) -> Column[Any]:
    return _column(name, TIMESTAMP(timezone=True), comment, **options)


def _key(name: str, type_: Any, comment: str) -> Column[Any]:
    return _column(name, type_, comment, primary_key=True, autoincrement=False)


def _covering(span: str, key: tuple[str, ...], values: tuple[str, ...]) -> tuple[PrimaryKeyConstraint, ...]:
    """By the minute, the primary key carries the values: a camera's day is then read from the index alone."""
    return (PrimaryKeyConstraint(*key, postgresql_include=values),) if span == "minute" else ()


def _frame_count(span: str, words: str) -> Table:
    return Table(
        f"frame_count_{span}",
        metadata,
        _key("camera_id", Integer, "framegrid.camera"),
        _when("time", f"Start of {words}", primary_key=True),
        _key("class_id", SmallInteger, "framegrid.object_class"),
        _key("zone_id", Integer, "framegrid.zone; 0 is the whole picture"),
        _column("samples", BigInteger, "Processed frames"),
        _column("n_sum", BigInteger, "Sum over those frames of n, the objects in the frame"),
        _column("n_sumsq", BigInteger, "Sum over those frames of n squared"),
        _column("score_milli_sum", BigInteger, "Sum of the scores of all objects, in thousandths"),
        _column("uniques", BigInteger, "Tracks confirmed: new visits"),
        _column("n_min", Integer, "Least n; NULL when samples is 0", nullable=True),
        _column("n_max", Integer, "Greatest n; NULL when samples is 0", nullable=True),
        *_covering(span, ("camera_id", "time", "class_id", "zone_id"), _COUNTED),
        comment=f"frame_count added up over {words}, all models together, but for what is in rollup_pending",
    )


def _coverage(span: str, words: str) -> Table:
    return Table(
        f"coverage_{span}",
        metadata,
        _key("camera_id", Integer, "framegrid.camera"),
        _when("time", f"Start of {words}", primary_key=True),
        *(_column(name, BigInteger, comment) for name, comment in _FRAMES.items()),
        *_covering(span, ("camera_id", "time"), tuple(_FRAMES)),
        comment=f"coverage added up over {words}, but for what is in rollup_pending",
    )


frame_counts = {span: _frame_count(span, words) for span, words in _SPANS.items()}
coverages = {span: _coverage(span, words) for span, words in _SPANS.items()}
Index(
    "coverage_minute_seen",
    coverages["minute"].c.camera_id,
    coverages["minute"].c.time,
    postgresql_where=coverages["minute"].c.processed > 0,
)
rollup_pending = Table(
    "rollup_pending",
    metadata,
    _when("minute", "Start of the minute that the rows' time lies in"),
    _column("batch_no", BigInteger, "framegrid.ingest_batch; 0 for rows older than the column"),
    Index("rollup_pending_minute", "minute"),
    comment="Batches and minutes whose rows are not in the roll-ups yet: written with the rows, "
    "deleted when they are added",
)
skewed_rows = Table(
    "skewed_rows",
    metadata,
    _when("noted_at", "Start of the transaction that stored them", server_default=text("now()")),
    _column("reason", Text, "late or future"),
    _when("oldest", "Minute of the oldest of them"),
    _when("newest", "Minute of the newest of them"),
    _column("rows", BigInteger, "How many, of every kind"),
    CheckConstraint("reason IN ('late', 'future')", name="skewed_rows_reason"),
    Index("skewed_rows_noted_at", "noted_at"),
    comment="Rows that came later than the late horizon, or from the future; "
    "stored and rolled up like all others",
)
intake_limits = Table(
    "intake_limits",
    metadata,
    _column("late_after", Interval, "Rows older than this are noted as late"),
    _column("future_after", Interval, "Rows further ahead than this are noted as from the future"),
    comment="One row: from when on rows count as late or from the future; written from the settings",
)
table_state = Table(
    "table_state",
    metadata,
    _column("table_name", Text, "Table of this schema", primary_key=True),
    _column("keep", Interval, "Rows older than this are dropped; NULL keeps them for ever", nullable=True),
    _column(
        "chunk_interval",
        Interval,
        "Time span of a new chunk or partition; NULL for a table in one piece",
        nullable=True,
    ),
    _column("chunk_reason", Text, "Why this time span", server_default=text("''")),
    _when(
        "dropped_before",
        "Rows before this time may be gone; NULL when nothing was dropped yet",
        nullable=True,
    ),
    _when("applied_at", "When this row last changed", server_default=text("now()")),
    comment="Retention and chunks in force, as last applied from the settings",
)
maintenance_task = Table(
    "maintenance_task",
    metadata,
    _column("task", Text, "rollup, chunks, retention, compression", primary_key=True),
    _when("ran_at", "When it last ran"),
    _when("next_at", "When it runs next at the earliest"),
    _column("took_ms", Integer, "How long it took, milliseconds"),
    _column("done", Text, "What it did, for a person", server_default=text("''")),
    _column("error", Text, "Why it failed; empty when it did not", server_default=text("''")),
    comment="The last run of each task of `framegrid_store maintain`",
)
