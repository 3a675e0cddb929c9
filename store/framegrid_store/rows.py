"""The rows that the store takes, with names and not ids.

A producer fills these tuples and hands them to `writer.StoreWriter`; it needs no database to do so. The
writer turns names (camera, class, zone, line, model) into ids when it flushes, and creates what is new.

Conventions
-----------
* Every `…_s` time is unix seconds (UTC, float) and is the time of *capture*. Tables keep microseconds.
* Rows are additive: several `CountRow`s for the same camera, class, zone and interval may be written (two
  models, a restarted process); every roll-up is a sum, a minimum or a maximum of columns, so it stays exact.
* Zeros are written. A `CountRow` with `n_sum = 0` says "looked, and nobody was there"; no row says nothing at
  all; what was looked at is in `CoverageRow`.
* Coordinates are relative to the picture: 0..1, x to the right, y down.
* `model` is "name@version". `zone` "" is the whole picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

Box: TypeAlias = tuple[float, float, float, float]
"""x1, y1, x2, y2, relative to the picture."""

WHOLE_PICTURE = ""
"""The name of the zone that every camera has."""

DIRECTIONS = ("in", "out")
"""`in`: from the left hand to the right hand of somebody who walks the line from start to end."""

DROP_REASONS = ("no_frame", "overload", "stale", "refused", "corrupt")
"""Why an expected frame was not processed; `CoverageRow` has a column for each."""

SEVERITIES = ("info", "warning", "critical")


class CountRow(NamedTuple):
    """How many objects of one class were in one zone of one camera, over one interval.

    With n(f) the number of objects in processed frame f, over all processed frames of the interval:
    """

    time_s: float
    """Start of the interval, aligned to the epoch: a multiple of `interval_s`."""
    interval_s: float
    camera: str
    cls: str
    """Counted class: `person`, `vehicle`, or what the camera's configuration calls it."""
    zone: str
    model: str
    samples: int
    """Processed frames: the number of n(f). At least 1."""
    n_sum: int
    """Sum of n(f). mean = n_sum / samples."""
    n_sumsq: int
    """Sum of n(f) squared. variance = (n_sumsq - n_sum^2 / samples) / (samples - 1)."""
    n_min: int
    n_max: int
    uniques: int
    """New visits: objects whose track was confirmed in this interval; once in the life of a track."""
    score_mean: float
    """Mean detection score of the objects counted, 0..1; 0 when there was none."""


class CoverageRow(NamedTuple):
    """How well one camera was seen over one interval. One per camera and interval, also if nothing was seen.

    Invariant: expected = processed + the sum of the five dropped_* columns.
    """

    time_s: float
    """Start of the interval, aligned to the epoch."""
    interval_s: float
    camera: str
    observed_s: float
    """Seconds of the interval that processed frames stand for, 0..interval_s."""
    expected: int
    """Sampling ticks in the interval. A paused camera expects none."""
    processed: int
    dropped_no_frame: int
    """The camera delivered nothing new."""
    dropped_overload: int
    """Replaced by a newer frame, or the bound of requests in flight was reached."""
    dropped_stale: int
    """The deadline passed, in the client or in serve."""
    dropped_refused: int
    """Serve answered with an error after all retries."""
    dropped_corrupt: int
    """The picture could not be decoded."""


class TrackRow(NamedTuple):
    """One object followed from its first frame to its last; written when the track is closed."""

    track_id: str
    """UUID in its usual text form; the producer makes it."""
    camera: str
    cls: str
    model: str
    started_at_s: float
    ended_at_s: float
    frames: int
    """Frames in which the object was detected."""
    score_max: float
    first_box: Box
    last_box: Box


class CrossingRow(NamedTuple):
    """One object crossed one line."""

    time_s: float
    camera: str
    line: str
    cls: str
    track_id: str
    direction: str
    """`in` or `out`, see DIRECTIONS."""
    model: str


class EventRow(NamedTuple):
    """Something that happened to a camera, or that a rule noticed."""

    time_s: float
    event_id: str
    """UUID in text form. Make it from camera, kind and start (uuid5): then a repeated event is recognised."""
    camera: str
    kind: str
    """One word or dotted words: `camera.lost`, `camera.back`, `model.changed`."""
    severity: str
    """One of SEVERITIES."""
    message: str
    """For a person; never holds credentials."""
    payload: Mapping[str, Any]
    """JSON-serialisable facts; {} when there are none."""


class DetectionRow(NamedTuple):
    """One box in one frame. Many: off unless the camera says `store_detections: true`."""

    time_s: float
    camera: str
    seq: int
    """Number of the frame, as given by ingest."""
    cls: str
    model: str
    track_id: str
    """UUID in text form, or "" for a detection outside every confirmed track."""
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


class CameraRow(NamedTuple):
    """Facts about a camera. Announce it at start and when the configuration changes."""

    camera: str
    site: str = ""
    timezone: str = "UTC"
    """IANA name; decides what a local day is. A name that the database does not know becomes UTC, logged."""
    labels: Mapping[str, str] = {}
    """Free text facts, e.g. {"floor": "2"}."""
    paused: bool = False


class ZoneRow(NamedTuple):
    """The polygon of a zone."""

    camera: str
    zone: str
    polygon: Sequence[tuple[float, float]]


class LineRow(NamedTuple):
    """The two ends of a line."""

    camera: str
    line: str
    start: tuple[float, float]
    end: tuple[float, float]


class ModelRow(NamedTuple):
    """Facts about a model version."""

    model: str
    """name@version"""
    digest: str = ""
    precision: str = ""
    licence: str = ""


Row: TypeAlias = CountRow | CoverageRow | TrackRow | CrossingRow | EventRow | DetectionRow
"""What `StoreWriter.put` takes."""

DimensionRow: TypeAlias = CameraRow | ZoneRow | LineRow | ModelRow
"""What `StoreWriter.announce` takes."""
