"""What the page knows about a camera, fetched in one go and put on the full grid of buckets.

A bucket without rows is there with None, so a line chart breaks instead of drawing a straight line across it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import timezone as timezones

import psycopg
from framegrid_store import read
from framegrid_store.connect import describe, sanitised
from framegrid_store.errors import UPGRADE_ADVICE, StoreError
from periods import ScaleChoice, grid, zone

LIVE_LAG_S = 15.0
"""Younger than this, missing buckets at the end are on their way and not a gap."""
TOGETHER = timedelta(minutes=1)
"""Cameras seen this shortly before the one that was seen last count as seen at the same time."""


class SourceError(Exception):
    """The database cannot be asked; `advice` says what to do."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


@dataclass(frozen=True)
class Series:
    """One class in one zone on the grid: None where nothing was seen."""

    mean: list[float | None]
    least: list[int | None]
    most: list[int | None]


@dataclass(frozen=True)
class History:
    """One camera over a range. `times` in the camera's zone; `coverage` 0..1 of each bucket."""

    times: list[datetime]
    step: timedelta
    series: dict[tuple[str, str], Series]
    """By (class, zone)."""
    coverage: list[float]
    crossings: list[read.CrossingPoint]


@dataclass(frozen=True)
class Headline:
    """The figures of this moment. `age_s` None: never seen. `seen_today` 0..1 of the day so far."""

    counts: dict[str, float]
    age_s: float | None
    count_in: int
    count_out: int
    seen_today: float | None
    model: str


@contextmanager
def reader(database_url: str) -> Iterator[psycopg.Connection]:
    """A reading connection; every way in which it may fail becomes a `SourceError` without credentials."""
    try:
        with read.open_reader(database_url) as connection:
            yield connection
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        message = f"{describe(database_url)} has no Framegrid tables yet."
        raise SourceError(message, f"It will, when ingest starts; or {UPGRADE_ADVICE}.") from error
    except psycopg.errors.InsufficientPrivilege as error:
        message = f"{describe(database_url)} refuses to be read: {sanitised(error, database_url)}."
        raise SourceError(message, "Use role bi: `framegrid db password bi` lets it in.") from error
    except psycopg.Error as error:
        message = f"{describe(database_url)} cannot be reached: {sanitised(error, database_url)}."
        raise SourceError(message, "Is the server running, and is FRAMEGRID_DATABASE_URL right?") from error
    except StoreError as error:
        raise SourceError(str(error), "Set FRAMEGRID_DATABASE_URL and start the page again.") from error


def first_shown(cameras: list[read.Camera]) -> read.Camera:
    """The camera to open with, of at least one: the first, as they come, of those that counted last.

    One that was never seen or has been away for long would open the page with nothing to see.
    """
    seen = {c.name: c.last_seen_at for c in cameras if c.last_seen_at and not c.paused}
    if not seen:
        return cameras[0]
    newest = max(seen.values())
    return next(c for c in cameras if c.name in seen and newest - seen[c.name] <= TOGETHER)


def history(
    connection: psycopg.Connection, camera: read.Camera, choice: ScaleChoice, start: datetime, end: datetime
) -> History:
    """Counts, coverage and crossings of one camera."""
    timezone = zone(camera.timezone)
    counts = read.counts(connection, camera, choice.scale, start, end)
    covered = read.coverage_of(counts)
    if covered and _still_arriving(covered[-1].time, end, choice):
        end = covered[-1].time + choice.step
    times = grid(start, end, choice, timezone)
    places = {at: place for place, at in enumerate(times)}
    coverage = [0.0] * len(times)
    for point in covered:
        if point.time in places:
            coverage[places[point.time]] = _share_seen(point, is_newest=point is covered[-1])
    series: dict[tuple[str, str], Series] = {}
    for count in counts:
        if count.time in places:
            line = series.setdefault((count.cls, count.zone), _unknown(len(times)))
            place = places[count.time]
            line.mean[place], line.least[place], line.most[place] = count.mean, count.min, count.max
    crossings = read.crossings(connection, camera, choice.scale, start, end)
    return History(times, choice.step, series, coverage, crossings)


def headline(
    connection: psycopg.Connection,
    camera: read.Camera,
    clock: Callable[[], datetime] = lambda: datetime.now(timezones.utc),
) -> Headline:
    """The figures of this moment for one camera."""
    latest = read.now(connection, camera)
    midnight, at = read.today(connection, camera)
    crossed = read.crossings(connection, camera, "day", midnight, at)
    seen_s = read.observed_s(connection, camera, midnight, at)
    day_s = (at - max(midnight, camera.created_at)).total_seconds()
    return Headline(
        counts=latest.counts if latest else {},
        age_s=(clock() - latest.at).total_seconds() if latest else None,
        count_in=sum(point.count_in for point in crossed),
        count_out=sum(point.count_out for point in crossed),
        seen_today=min(1.0, seen_s / day_s) if seen_s is not None and day_s > 0 else None,
        model=latest.model if latest else "",
    )


def _still_arriving(newest: datetime, end: datetime, choice: ScaleChoice) -> bool:
    missing_s = (end - newest - choice.step).total_seconds()
    return 0 < missing_s < LIVE_LAG_S


def _share_seen(point: read.CoveragePoint, is_newest: bool) -> float:
    """Coverage; of the newest bucket, which may not be over, the share of its frames so far."""
    if is_newest and point.expected:
        return point.processed / point.expected
    return point.coverage


def _unknown(length: int) -> Series:
    return Series([None] * length, [None] * length, [None] * length)
