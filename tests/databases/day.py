"""A day of four simulated cameras, and the numbers that every reader has to find in it.

25 hours around the end of Paris's summer time, by the store's own row types: gaps, empty hours, two models
at once, dropped frames, zones that overlap, a half-hour time zone, names beyond ASCII. The truth is added up
here in plain Python, without the database.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from uuid import UUID
from zoneinfo import ZoneInfo

from framegrid_store.maintain import maintain_now
from framegrid_store.migrate import upgrade
from framegrid_store.rows import CameraRow, CountRow, CoverageRow, CrossingRow, EventRow, Row
from framegrid_store.settings import RetentionDays, StoreSettings
from framegrid_store.writer import StoreWriter

UTC = timezone.utc
START = datetime(2026, 10, 24, 22, tzinfo=UTC)  # midnight in Paris; the day that follows has 25 hours
HOURS = 25
INTERVAL_S = 30.0
EXPECTED = 10  # frames of an interval
FRAME_S = INTERVAL_S / EXPECTED
LATE_ROWS = 100  # from all over the day, these come last
FOR_EVER = StoreSettings(retention_days=RetentionDays(**dict.fromkeys(RetentionDays.model_fields)))
CAMERAS = (
    CameraRow("north-gate", "depot", "Europe/Paris", {"floor": "0"}),
    CameraRow("south-gate", "depot", "Europe/Paris"),
    CameraRow("lobby", "tower", "Asia/Kathmandu"),
    CameraRow("terrasse-é", "Café Zürich", "America/New_York"),
)
SERIES = {
    "north-gate": (("person", ""), ("person", "pavement"), ("vehicle", "")),
    "south-gate": (("person", ""),),
    "lobby": (("person", ""),),
    "terrasse-é": (("person", ""),),
}
ZONES = {camera.camera: ZoneInfo(camera.timezone) for camera in CAMERAS}
SITES = {camera.camera: camera.site for camera in CAMERAS}


@dataclass
class Bucket:
    """Truth about one camera, class and zone in one bucket: of its single frames."""

    values: list[int] = field(default_factory=list)
    observed_s: float = 0.0
    expected: int = 0
    processed: int = 0

    @property
    def samples(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float | None:
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def stddev(self) -> float | None:
        if len(self.values) < 2:
            return None
        n, total = len(self.values), sum(self.values)
        # In whole numbers as long as possible: exact, and faster than the statistics module.
        return math.sqrt((n * sum(value * value for value in self.values) - total * total) / (n * (n - 1)))


@dataclass(frozen=True)
class Day:
    """The rows as a producer makes them, in no good order, and the truth by (start, camera, class, zone)."""

    rows: tuple[Row, ...]
    minutes: dict[tuple[datetime, str, str, str], Bucket]
    hours: dict[tuple[datetime, str, str, str], Bucket]
    days: dict[tuple[datetime, str, str, str], Bucket]


@lru_cache(maxsize=1)
def simulated() -> Day:
    """The day; the same at every call."""
    chance = random.Random(25)
    rows: list[Row] = []
    minutes, hours, days = defaultdict(Bucket), defaultdict(Bucket), defaultdict(Bucket)
    for at in _intervals():
        for camera, series in SERIES.items():
            processed = _processed(camera, at, chance)
            if processed is None:
                continue
            rows.append(_coverage(camera, at, processed))
            zone = ZONES[camera]
            starts = (
                at.replace(second=0),
                at.replace(second=0, minute=0),
                at.astimezone(zone).replace(hour=0, minute=0, second=0).astimezone(UTC),
            )
            for cls, name in series:
                values = _values(camera, cls, name, at, chance)[:processed]
                rows += _counts(camera, cls, name, at, values)
                for buckets, start in zip((minutes, hours, days), starts, strict=True):
                    bucket = buckets[start, camera, cls, name]
                    bucket.values += values
                    bucket.observed_s += processed * FRAME_S
                    bucket.expected += EXPECTED
                    bucket.processed += processed
    rows += _crossings() + _events()
    late = rows[:: len(rows) // LATE_ROWS][:LATE_ROWS]
    gone = set(map(id, late))
    rows = [row for row in rows if id(row) not in gone] + late
    return Day(tuple(rows), dict(minutes), dict(hours), dict(days))


def fill(database_url: str) -> None:
    """An empty database becomes one with the day in it: by the writer, rolled up, and then the late rows.

    So readers find most of it in roll-ups, and some in raw rows that are not rolled up yet.
    """
    upgrade(database_url, FOR_EVER)
    rows = simulated().rows
    _store(database_url, rows[:-LATE_ROWS])
    done = maintain_now(database_url, FOR_EVER)
    assert done.errors == {}, done
    _store(database_url, rows[-LATE_ROWS:])


def _store(database_url: str, rows: Sequence[Row]) -> None:
    writer = StoreWriter(database_url, batch_wait_s=0.01)
    writer.announce(CAMERAS)
    writer.start()
    for first in range(0, len(rows), 5000):
        assert writer.put(rows[first : first + 5000]) == 0, "the writer's queue is full"
    left = writer.close(timeout_s=120)
    assert (left, writer.stats().stored, writer.stats().dropped) == (0, len(rows), {}), writer.stats()


def _crossings() -> list[Row]:
    """Each hour three persons come in by the north gate's door, and one goes."""
    found: list[Row] = []
    for hour in range(HOURS):
        for second, way in ((600, "in"), (900, "in"), (1200, "in"), (1500, "out")):
            at_s = START.timestamp() + 3600 * hour + second
            track = str(UUID(int=int(at_s)))
            found.append(CrossingRow(at_s, "north-gate", "door", "person", track, way, "m@1"))
    return found


def _events() -> list[Row]:
    """The south gate's camera is lost at eight and back at ten."""
    eight_s = (START + timedelta(hours=10)).timestamp()
    lost, back = (str(UUID(int=number)) for number in (1, 2))
    return [
        EventRow(eight_s, lost, "south-gate", "camera.lost", "warning", "no frames", {}),
        EventRow(eight_s + 7200, back, "south-gate", "camera.back", "info", "frames again", {}),
    ]


def _intervals() -> Iterator[datetime]:
    for place in range(int(HOURS * 3600 / INTERVAL_S)):
        yield START + timedelta(seconds=place * INTERVAL_S)


def _processed(camera: str, at: datetime, chance: random.Random) -> int | None:
    """Frames seen in an interval; None when the camera says nothing at all."""
    if camera == "south-gate" and 8 <= at.hour < 10:
        return 0  # down, and known to be
    if camera == "lobby" and at.hour == 3:
        return None  # its pod was away
    return EXPECTED if chance.random() < 0.85 else chance.randrange(1, EXPECTED)


def _values(camera: str, cls: str, zone: str, at: datetime, chance: random.Random) -> list[int]:
    if camera == "lobby" and 18 <= at.hour < 22:
        return [0] * EXPECTED  # seen, and nobody there
    most = {"vehicle": 3, "person": 9}[cls] if not zone else 4
    return [min(most, int(chance.expovariate(0.5))) for _ in range(EXPECTED)]


def _counts(camera: str, cls: str, zone: str, at: datetime, values: list[int]) -> list[Row]:
    if not values:
        return []
    halves = {"m@1": values}
    if camera == "north-gate" and at.hour == 12 and len(values) > 1:
        halves = {"m@1": values[:5], "m@2": values[5:]}  # a model is swapped, slowly
    return [
        CountRow(
            time_s=at.timestamp(),
            interval_s=INTERVAL_S,
            camera=camera,
            cls=cls,
            zone=zone,
            model=model,
            samples=len(part),
            n_sum=sum(part),
            n_sumsq=sum(value * value for value in part),
            n_min=min(part),
            n_max=max(part),
            uniques=part[0],
            score_mean=0.5,
        )
        for model, part in halves.items()
        if part
    ]


def _coverage(camera: str, at: datetime, processed: int) -> CoverageRow:
    lost = EXPECTED - processed
    no_frame, overload = (lost, 0) if processed == 0 else (0, lost)
    seen_s = processed * FRAME_S
    return CoverageRow(
        at.timestamp(), INTERVAL_S, camera, seen_s, EXPECTED, processed, no_frame, overload, 0, 0, 0
    )
