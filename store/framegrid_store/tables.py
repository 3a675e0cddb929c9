"""The tables of schema `framegrid` (SQLAlchemy 2).

Dimensions (camera, object_class, model_version, zone, line, series) hold names; facts hold ids. Facts carry
no foreign keys and no unique index: both would cost more than the insert itself, and the writer guarantees
what they would (ids come from the dimensions; a batch is stored once, by its row in `ingest_batch`).
Additive columns are integers, so every roll-up is exact, whatever the order of addition.

`migrations/` creates these tables, and those of `rollup_tables`, by hand-written SQL; a test fails when the
two differ.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, REAL, TIMESTAMP

from framegrid_store.names import SCHEMA

metadata = MetaData(schema=SCHEMA)


def _column(name: str, type_: Any, comment: str, *args: Any, **options: Any) -> Column[Any]:
    return Column(name, type_, *args, nullable=options.pop("nullable", False), comment=comment, **options)


def _when(name: str, comment: str, **options: Any) -> Column[Any]:
    return _column(name, TIMESTAMP(timezone=True), comment, **options)


def _text(name: str, comment: str, default: str | None = None) -> Column[Any]:
    return _column(name, Text, comment, server_default=None if default is None else text(f"'{default}'"))


def _now(name: str, comment: str) -> Column[Any]:
    return _when(name, comment, server_default=text("now()"))


def _camera_id(nullable: bool = False) -> Column[Any]:
    return _column("camera_id", Integer, "framegrid.camera", nullable=nullable)


def _batch_no() -> Column[Any]:
    comment = "framegrid.ingest_batch; 0 for rows older than the column"
    return _column("batch_no", BigInteger, comment, server_default=text("0"))


camera = Table(
    "camera",
    metadata,
    _column("camera_id", Integer, "Number used in the fact tables", Identity(always=True), primary_key=True),
    _text("key", "Name in cameras.yaml; unique, never reused for another camera"),
    _text("site", "Place the camera belongs to; empty when not given", ""),
    _text("timezone", "IANA time zone; decides what a local day is", "UTC"),
    _column("labels", JSONB, "Free facts, text to text", server_default=text("'{}'::jsonb")),
    _column("paused", Boolean, "Told to stand still: expects no frames", server_default=text("false")),
    _now("created_at", "When the store first heard of it"),
    _now("updated_at", "When its facts last changed"),
    Column(
        "days_timezone", Text, comment="Time zone that its stored days are cut by; NULL while none is stored"
    ),
    UniqueConstraint("key", name="camera_key_key"),
    comment="Cameras, one row each",
)
object_class = Table(
    "object_class",
    metadata,
    _column(
        "class_id", SmallInteger, "Number used in the fact tables", Identity(always=True), primary_key=True
    ),
    _text("name", "Counted class, e.g. person, vehicle"),
    UniqueConstraint("name", name="object_class_name_key"),
    comment="Counted classes",
)
model_version = Table(
    "model_version",
    metadata,
    _column("model_id", Integer, "Number used in the fact tables", Identity(always=True), primary_key=True),
    _text("name", "Name of the model"),
    _text("version", "Its version; empty when it has none", ""),
    _text("digest", "sha256 of the weights, hexadecimal; empty when not told", ""),
    _text("precision", "FP32, FP16, INT8; empty when not told", ""),
    _text("licence", "SPDX name of the licence of the weights; empty when not told", ""),
    _now("created_at", "When the store first heard of it"),
    UniqueConstraint("name", "version", name="model_version_name_version_key"),
    comment="Model versions that made the numbers",
)
zone = Table(
    "zone",
    metadata,
    _column(
        "zone_id",
        Integer,
        "Number used in the fact tables; 0 is the whole picture",
        Identity(),
        primary_key=True,
    ),
    Column("camera_id", ForeignKey(camera.c.camera_id), comment="framegrid.camera; NULL for zone 0"),
    _text("name", "Name in cameras.yaml; empty for the whole picture"),
    Column("polygon", JSONB, comment="[[x, y], …] relative to the picture, 0..1; NULL when not told"),
    _now("updated_at", "When its shape last changed"),
    UniqueConstraint("camera_id", "name", name="zone_camera_id_name_key"),
    comment="Zones of cameras; zone 0 is the whole picture of any camera",
)
line = Table(
    "line",
    metadata,
    _column("line_id", Integer, "Number used in the fact tables", Identity(always=True), primary_key=True),
    Column("camera_id", ForeignKey(camera.c.camera_id), nullable=False, comment="framegrid.camera"),
    _text("name", "Name in cameras.yaml"),
    Column("points", JSONB, comment="[[x, y], [x, y]] start and end, relative, 0..1; NULL when not told"),
    _now("updated_at", "When its shape last changed"),
    UniqueConstraint("camera_id", "name", name="line_camera_id_name_key"),
    comment="Directed lines of cameras; in: from the left hand to the right of who walks start to end",
)
series = Table(
    "series",
    metadata,
    Column("camera_id", ForeignKey(camera.c.camera_id), primary_key=True, comment="framegrid.camera"),
    Column(
        "class_id", ForeignKey(object_class.c.class_id), primary_key=True, comment="framegrid.object_class"
    ),
    Column("zone_id", ForeignKey(zone.c.zone_id), primary_key=True, comment="framegrid.zone"),
    _now("created_at", "When the first count came"),
    comment="What is counted where: lets an interval without counts appear, as unknown and not as nobody",
)

frame_count = Table(
    "frame_count",
    metadata,
    _when("time", "Start of the interval, capture time"),
    _camera_id(),
    _column("zone_id", Integer, "framegrid.zone; 0 is the whole picture"),
    _column("model_id", Integer, "framegrid.model_version"),
    _column("interval_ms", Integer, "Length of the interval, milliseconds"),
    _column("samples", Integer, "Processed frames"),
    _column("n_sum", BigInteger, "Sum over those frames of n, the objects in the frame"),
    _column("n_sumsq", BigInteger, "Sum over those frames of n squared"),
    _column("score_milli_sum", BigInteger, "Sum of the scores of all objects, in thousandths"),
    _column("n_min", Integer, "Least n; means nothing when samples is 0"),
    _column("n_max", Integer, "Greatest n; means nothing when samples is 0"),
    _column("uniques", Integer, "Tracks confirmed in the interval: new visits"),
    _column("class_id", SmallInteger, "framegrid.object_class"),
    _batch_no(),
    CheckConstraint("samples >= 0 AND n_sum >= 0 AND uniques >= 0", name="frame_count_not_negative"),
    Index("frame_count_camera_time", "camera_id", "time"),
    comment="Objects per camera, class, zone, model and interval; additive, several rows per key may exist",
)
coverage = Table(
    "coverage",
    metadata,
    _when("time", "Start of the interval, capture time"),
    _camera_id(),
    _column("interval_ms", Integer, "Length of the interval, milliseconds"),
    _column("observed_ms", Integer, "Part of the interval that processed frames stand for, milliseconds"),
    _column("expected", Integer, "Frames that should have been taken; 0 while paused"),
    _column("processed", Integer, "Frames that were counted"),
    _column("dropped_no_frame", Integer, "Frames lost: the camera delivered nothing new"),
    _column("dropped_overload", Integer, "Frames lost: replaced by a newer one before it could be sent"),
    _column("dropped_stale", Integer, "Frames lost: too old when their turn came"),
    _column("dropped_refused", Integer, "Frames lost: the detector answered with an error, retries included"),
    _column("dropped_corrupt", Integer, "Frames lost: the picture could not be decoded"),
    _batch_no(),
    CheckConstraint(
        "expected = processed + dropped_no_frame + dropped_overload + dropped_stale + dropped_refused"
        " + dropped_corrupt",
        name="coverage_every_frame_accounted_for",
    ),
    Index("coverage_camera_time", "camera_id", "time"),
    comment="How well each camera was seen, per interval; additive",
)
track = Table(
    "track",
    metadata,
    _when("started_at", "Capture time of the first frame"),
    _when("ended_at", "Capture time of the last frame"),
    _column("track_id", Uuid, "Made by ingest"),
    _camera_id(),
    _column("model_id", Integer, "framegrid.model_version"),
    _column("frames", Integer, "Frames in which the object was detected"),
    _column("score_max", REAL, "Best score, 0..1"),
    *(
        _column(f"{end}_{corner}", REAL, f"{corner} of the {end} box, relative to the picture, 0..1")
        for end in ("first", "last")
        for corner in ("x1", "y1", "x2", "y2")
    ),
    _column("class_id", SmallInteger, "framegrid.object_class"),
    Index("track_camera_started_at", "camera_id", "started_at"),
    comment="Objects followed from first to last frame, written when the track closes",
)
line_crossing = Table(
    "line_crossing",
    metadata,
    _when("time", "Capture time of the frame after the crossing"),
    _column("track_id", Uuid, "framegrid.track"),
    _camera_id(),
    _column("line_id", Integer, "framegrid.line"),
    _column("model_id", Integer, "framegrid.model_version"),
    _column("class_id", SmallInteger, "framegrid.object_class"),
    _column("direction", SmallInteger, "1 in, -1 out"),
    CheckConstraint("direction IN (-1, 1)", name="line_crossing_direction"),
    Index("line_crossing_camera_time", "camera_id", "time"),
    comment="One object crossed one line",
)
event = Table(
    "event",
    metadata,
    _when("time", "When it happened"),
    _column("event_id", Uuid, "Made by ingest; the same for a repeated report of one event"),
    _camera_id(),
    _text("kind", "Dotted words, e.g. camera.lost"),
    _text("severity", "info, warning or critical"),
    _text("message", "For a person"),
    _column("payload", JSONB, "Facts"),
    CheckConstraint("severity IN ('info', 'warning', 'critical')", name="event_severity"),
    Index("event_camera_time", "camera_id", "time"),
    comment="What happened to cameras, and what rules noticed",
)
detection = Table(
    "detection",
    metadata,
    _when("time", "Capture time of the frame"),
    _column("seq", BigInteger, "Number of the frame, as given by ingest"),
    _column("track_id", Uuid, "framegrid.track; all zeros when outside every track"),
    _camera_id(),
    _column("model_id", Integer, "framegrid.model_version"),
    _column("class_id", SmallInteger, "framegrid.object_class"),
    _column("score_milli", SmallInteger, "Score in thousandths"),
    *(
        _column(f"{corner}_e4", SmallInteger, f"{corner} of the box, ten-thousandths of the picture")
        for corner in ("x1", "y1", "x2", "y2")
    ),
    Index("detection_camera_time", "camera_id", "time"),
    comment="Single boxes; off unless a camera says store_detections",
)
ingest_batch = Table(
    "ingest_batch",
    metadata,
    _column("batch_id", Uuid, "Made by the writer before the first attempt", primary_key=True),
    _now("stored_at", "Start of the transaction that stored the batch"),
    _column("rows", Integer, "Rows in the batch"),
    _column(
        "batch_no",
        BigInteger,
        "Number used in frame_count, coverage and rollup_pending",
        Identity(always=True),
    ),
    Index("ingest_batch_stored_at", "stored_at"),
    comment="Ledger: a batch whose id is here is stored, and is not stored again",
)
compatibility = Table(
    "compatibility",
    metadata,
    _column("oldest_program", Text, "Oldest revision whose programs work with this schema", primary_key=True),
    comment="One row: how far a program may be rolled back while the schema stays",
)
site_reader = Table(
    "site_reader",
    metadata,
    _column("role", Text, "Name of the login", primary_key=True),
    _column("site", Text, "A site that it may see, as framegrid.camera.site has it", primary_key=True),
    comment="Logins that see the cameras of some sites alone, in schema bi_site",
)
