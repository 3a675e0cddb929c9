"""Schema `bi`: what analysts read. Views of plain types, a comment on everything, names that stay.

Only timestamptz, int, bigint, float8, text and bool: Power BI's driver fails on long numerics, and no tool
agrees with another about jsonb, uuid or intervals. The first column is `time` wherever rows have one.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from inspect import getsource

import psycopg
from psycopg import sql

from framegrid_store import sites
from framegrid_store.counts_sql import DAY, FIVE_SECONDS, HOUR, MINUTE, Scale, counts_sql, coverage_sql
from framegrid_store.errors import StoreError

logger = logging.getLogger(__name__)

SCHEMA = "bi"
RECENT = "24 hours"
"""How far `bi.detections` reaches back: tools that sample or scan every view must not read them all."""


@dataclass(frozen=True, slots=True)
class View:
    """A view and the comments on it and on each of its columns, in their order."""

    name: str
    comment: str
    columns: dict[str, str]
    select: str


_WHO = {"camera": "Name of the camera", "site": "Place the camera belongs to"}
_LOCAL_TIME = {"local_time": "time on the camera's own clock, YYYY-MM-DD HH:MM:SS"}
_COVERAGE = {
    "observed_s": "Seconds that were seen; the rest is unknown, not empty",
    "coverage": "observed_s over the length of the bucket, 0..1; below 1 for a bucket not over yet",
    "expected": "Frames that should have been taken",
    "processed": "Frames that were counted",
    "dropped": "Frames lost = expected - processed",
    "dropped_no_frame": "Frames lost: the camera delivered nothing new",
    "dropped_overload": "Frames lost: replaced by a newer one before it could be sent",
    "dropped_stale": "Frames lost: too old when their turn came",
    "dropped_refused": "Frames lost: the detector answered with an error",
    "dropped_corrupt": "Frames lost: the picture could not be decoded",
}
_COUNTS = {
    "class": "What is counted, e.g. person, vehicle",
    "zone": "Zone of the picture; empty is the whole picture. Do not add zones up: they overlap",
    "samples": "Processed frames behind the numbers; 0 means not seen, and then mean, min, max are NULL",
    "mean": "Mean objects per frame; NULL when not seen, 0 when seen and nobody there",
    "min": "Fewest objects in a frame; NULL when not seen",
    "max": "Most objects in a frame; NULL when not seen",
    "stddev": "Standard deviation (of a sample) of objects per frame; NULL below 2 samples",
    "uniques": "Objects first seen in the bucket: new visits",
    "score_mean": "Mean detection score of the objects, 0..1; NULL when there were none",
    "n_sum": "Sum of objects over frames; mean over several buckets = sum(n_sum) / sum(samples)",
    "n_sumsq": "Sum of squares of objects over frames, for standard deviations over several buckets",
}


def _counts_view(scale: Scale) -> View:
    columns = {"time": f"Start of the {scale.words}", **_LOCAL_TIME, **_WHO, **_COUNTS, **_COVERAGE}
    comment = f"Objects per camera, class, zone and {scale.words}, with what was seen of that time"
    return View(scale.view, comment, columns, counts_sql(scale))


_CAMERA = "JOIN framegrid.camera c ON c.camera_id = b.camera_id"
_LOCAL = "to_char(b.{} AT TIME ZONE c.timezone, 'YYYY-MM-DD HH24:MI:SS')"
_MODEL = "m.name || CASE WHEN m.version = '' THEN '' ELSE '@' || m.version END"
_MODEL_COMMENT = {"model": "Model, name@version"}

VIEWS = (
    View(
        "cameras",
        "Cameras",
        {
            **_WHO,
            "timezone": "IANA time zone; decides what a local day is",
            "paused": "Told to stand still: expects no frames",
            "labels": "Free facts as JSON text",
            "created_at": "When the store first heard of it",
            "last_seen_at": "End of the last interval with a processed frame; NULL when there is none",
            "model": "Model of the newest counts, name@version; NULL when there are none",
        },
        f"""
SELECT c.key AS camera, c.site, c.timezone, c.paused, c.labels::text AS labels, c.created_at,
    coalesce(
        (SELECT v.time + v.interval_ms * interval '1 ms' FROM framegrid.coverage v
         WHERE v.camera_id = c.camera_id AND v.processed > 0 AND v.time >= coalesce(m.time, '-infinity')
         ORDER BY v.time DESC LIMIT 1),
        m.time + interval '1 minute'
    ) AS last_seen_at,
    (SELECT {_MODEL} FROM framegrid.frame_count f JOIN framegrid.model_version m USING (model_id)
     WHERE f.camera_id = c.camera_id ORDER BY f.time DESC LIMIT 1) AS model
FROM framegrid.camera c
LEFT JOIN LATERAL (
    SELECT v.time FROM framegrid.coverage_minute v WHERE v.camera_id = c.camera_id AND v.processed > 0
    ORDER BY v.time DESC LIMIT 1
) m ON true""",
    ),
    *(_counts_view(scale) for scale in (FIVE_SECONDS, MINUTE, HOUR, DAY)),
    View(
        "coverage",
        "How well each camera was seen, per minute; observed_s and the frame counts may be added up",
        {"time": "Start of the minute", **_LOCAL_TIME, **_WHO, **_COVERAGE},
        coverage_sql(MINUTE),
    ),
    View(
        "crossings",
        "One row for each object that crossed a line",
        {
            "time": "When",
            **_LOCAL_TIME,
            **_WHO,
            "line": "Name of the line",
            "class": "What crossed, e.g. person, vehicle",
            "direction": "in: from the left hand to the right of somebody walking start to end; out: back",
            "track_id": "The object, as in tracks",
            **_MODEL_COMMENT,
        },
        f"""
SELECT b.time, {_LOCAL.format("time")} AS local_time, c.key AS camera, c.site,
    l.name AS line, k.name AS class,
    CASE b.direction WHEN 1 THEN 'in' ELSE 'out' END AS direction, b.track_id::text AS track_id, {_MODEL} AS
    model
FROM framegrid.line_crossing b {_CAMERA}
JOIN framegrid.line l ON l.line_id = b.line_id
JOIN framegrid.object_class k ON k.class_id = b.class_id
JOIN framegrid.model_version m ON m.model_id = b.model_id""",
    ),
    View(
        "tracks",
        "One row for each object that was followed from its first frame to its last",
        {
            "time": "First frame",
            **_LOCAL_TIME,
            "ended_at": "Last frame",
            "duration_s": "Seconds from first to last frame",
            **_WHO,
            "class": "What it was, e.g. person, vehicle",
            "track_id": "The object, as in crossings",
            "frames": "Frames in which it was detected",
            "score_max": "Its best detection score, 0..1",
            "first_x": "Middle of its first box, 0..1 of the width",
            "first_y": "Bottom of its first box, 0..1 of the height, downwards",
            "last_x": "Middle of its last box, 0..1 of the width",
            "last_y": "Bottom of its last box, 0..1 of the height, downwards",
            **_MODEL_COMMENT,
        },
        f"""
SELECT b.started_at AS time, {_LOCAL.format("started_at")} AS local_time, b.ended_at,
    extract(epoch FROM b.ended_at - b.started_at)::float8 AS duration_s, c.key AS camera, c.site,
    k.name AS class, b.track_id::text AS track_id, b.frames, b.score_max::float8 AS score_max,
    ((b.first_x1 + b.first_x2) / 2)::float8 AS first_x, b.first_y2::float8 AS first_y,
    ((b.last_x1 + b.last_x2) / 2)::float8 AS last_x, b.last_y2::float8 AS last_y, {_MODEL} AS model
FROM framegrid.track b {_CAMERA}
JOIN framegrid.object_class k ON k.class_id = b.class_id
JOIN framegrid.model_version m ON m.model_id = b.model_id""",
    ),
    View(
        "events",
        "What happened to cameras, and what rules noticed",
        {
            "time": "When",
            **_LOCAL_TIME,
            **_WHO,
            "kind": "Dotted words, e.g. camera.lost",
            "severity": "info, warning or critical",
            "message": "For a person",
            "event_id": "The same for a repeated report of one event",
            "payload": "Facts as JSON text",
        },
        f"""
SELECT b.time, {_LOCAL.format("time")} AS local_time, c.key AS camera, c.site, b.kind, b.severity, b.message,
    b.event_id::text AS event_id, b.payload::text AS payload
FROM framegrid.event b {_CAMERA}""",
    ),
    View(
        "detections",
        f"Single boxes of the last {RECENT}, of cameras that store them",
        {
            "time": "When the frame was taken",
            **_LOCAL_TIME,
            **_WHO,
            "class": "What it is, e.g. person, vehicle",
            "track_id": "The object, as in tracks; NULL when it belongs to none",
            "frame": "Number of the frame, as given by ingest",
            "score": "Detection score, 0..1",
            "x1": "Left, 0..1 of the width",
            "y1": "Top, 0..1 of the height, downwards",
            "x2": "Right, 0..1 of the width",
            "y2": "Bottom, 0..1 of the height, downwards",
            **_MODEL_COMMENT,
        },
        f"""
SELECT b.time, {_LOCAL.format("time")} AS local_time, c.key AS camera, c.site, k.name AS class,
    nullif(b.track_id, '00000000-0000-0000-0000-000000000000')::text AS track_id, b.seq AS frame,
    b.score_milli::float8 / 1000 AS score,
    b.x1_e4::float8 / 10000 AS x1, b.y1_e4::float8 / 10000 AS y1,
    b.x2_e4::float8 / 10000 AS x2, b.y2_e4::float8 / 10000 AS y2, {_MODEL} AS model
FROM framegrid.detection b {_CAMERA}
JOIN framegrid.object_class k ON k.class_id = b.class_id
JOIN framegrid.model_version m ON m.model_id = b.model_id
WHERE b.time > now() - interval '{RECENT}'""",
    ),
    View(
        "models",
        "Model versions that made the numbers",
        {
            **_MODEL_COMMENT,
            "name": "Name",
            "version": "Version",
            "digest": "sha256 of the weights",
            "precision": "FP32, FP16 or INT8",
            "licence": "Licence of the weights",
            "created_at": "When the store first heard of it",
        },
        f"""
SELECT {_MODEL} AS model, m.name, m.version, m.digest, m.precision, m.licence, m.created_at
FROM framegrid.model_version m""",
    ),
)


_STEP = "interval '5 seconds'"
STRETCH = f"""
CREATE OR REPLACE FUNCTION bi.counts_5s(camera text, since timestamptz, until timestamptz)
RETURNS SETOF bi.counts_5s LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
SELECT v.* FROM (
{
    counts_sql(
        FIVE_SECONDS,
        f"time >= date_bin({_STEP}, $2, 'epoch'::timestamptz)"
        f" AND time < date_bin({_STEP}, $3 + {_STEP} - interval '1 us', 'epoch'::timestamptz)",
    )
}
) v WHERE v.camera = $1 $$
"""
STRETCH_COMMENT = (
    "counts_5s of one camera, of the buckets that touch since..until: reads their rows alone, where the view"
    " has to read all of the camera's"
)


def create_views(connection: psycopg.Connection, *, anew: bool = False) -> bool:
    """Create or replace every view with its comments; nothing when they are the ones of this program.

    `anew`: replace them all the same, because tables were put in the place of those that they read.

    Raises `StoreError` when a view must change its columns while somebody's own view stands on it.
    """
    mark = "Framegrid, for analysts: read-only, plain types, names that stay. Views " + _fingerprint()
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    found = connection.execute(
        "SELECT obj_description(to_regnamespace(%s), 'pg_namespace')", (SCHEMA,)
    ).fetchone()
    if found == (mark,) and not anew:
        return False
    sites.drop_views(connection)
    connection.execute("DROP FUNCTION IF EXISTS bi.counts_5s(text, timestamptz, timestamptz)")
    for view in VIEWS:
        _create(connection, view)
    connection.execute(_raw(STRETCH))
    connection.execute(sql.SQL("COMMENT ON FUNCTION bi.counts_5s IS {}").format(sql.Literal(STRETCH_COMMENT)))
    sites.create_views(connection, VIEWS)
    connection.execute(sql.SQL("COMMENT ON SCHEMA bi IS {}").format(sql.Literal(mark)))
    return True


def _fingerprint() -> str:
    return hashlib.sha256(f"{VIEWS!r} {STRETCH} {getsource(sites)}".encode()).hexdigest()[:16]


def _create(connection: psycopg.Connection, view: View) -> None:
    name = sql.Identifier(SCHEMA, view.name)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS ").format(name) + _raw(view.select))
    except psycopg.errors.InvalidTableDefinition:
        try:
            connection.execute(sql.SQL("DROP VIEW {}").format(name))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise StoreError(
                f"expected to replace view bi.{view.name}, got other views that depend on it "
                f"({error.diag.message_detail}); drop those, upgrade, and create them again"
            ) from error
        connection.execute(sql.SQL("CREATE VIEW {} AS ").format(name) + _raw(view.select))
    comment = sql.SQL("COMMENT ON {kind} {name} IS {text}")
    connection.execute(comment.format(kind=sql.SQL("VIEW"), name=name, text=sql.Literal(view.comment)))
    for column, words in view.columns.items():
        place = sql.Identifier(SCHEMA, view.name, column)
        connection.execute(comment.format(kind=sql.SQL("COLUMN"), name=place, text=sql.Literal(words)))


def _raw(select: str) -> sql.Composed:
    # The text is a constant of this package; psycopg's types ask for a literal, which an f-string is not.
    return sql.Composed([sql.SQL(select)])  # type: ignore[arg-type]
