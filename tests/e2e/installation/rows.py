"""What an installation has stored, and what its simulator knows to be true; both asked over ClusterIPs."""

from __future__ import annotations

import base64
import itertools
import json
import time
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from e2e.installation.kubectl import get_one, wait_until
from e2e.installation.release import Release
from framegrid_local.stored import StoredRun, read_run
from framegrid_local.verdict import Cell, CountVerdict, compare

FRESH = """
    SELECT c.key, max(extract(epoch FROM v.time))::float8
    FROM framegrid.coverage v JOIN framegrid.camera c USING (camera_id)
    WHERE v.processed > 0 GROUP BY 1
"""
# Two pods that both recorded a camera would add up to more frames, or more seconds, than the interval had.
DOUBLED = """
    SELECT c.key, v.time, sum(v.expected), sum(v.observed_ms), max(v.interval_ms)
    FROM framegrid.coverage v JOIN framegrid.camera c USING (camera_id)
    WHERE v.time >= to_timestamp(%s)
    GROUP BY 1, 2
    HAVING sum(v.observed_ms) > max(v.interval_ms)
        OR sum(v.expected) > %s * max(v.interval_ms) / 1000.0 + 1
    ORDER BY 1, 2
"""
RESUMED = """
    SELECT min(extract(epoch FROM v.time) + v.interval_ms / 1000.0)::float8
    FROM framegrid.coverage v JOIN framegrid.camera c USING (camera_id)
    WHERE c.key = %s AND v.time >= to_timestamp(%s) AND v.processed > 0
"""
TIMES = """
    SELECT extract(epoch FROM v.time)::float8
    FROM framegrid.coverage v JOIN framegrid.camera c USING (camera_id)
    WHERE c.key = %s AND v.processed > 0 AND v.time BETWEEN to_timestamp(%s) AND to_timestamp(%s) ORDER BY 1
"""
COVERED = """
    SELECT c.key, coalesce(sum(v.expected), 0)::int, coalesce(sum(v.processed), 0)::int,
           coalesce(sum(v.interval_ms), 0)::float8 / 1000
    FROM framegrid.coverage v JOIN framegrid.camera c USING (camera_id)
    WHERE v.time >= to_timestamp(%s) AND v.time < to_timestamp(%s) GROUP BY 1
"""


@dataclass(frozen=True)
class Covered:
    """What coverage says of one camera in a window."""

    expected: int
    processed: int
    recorded_s: float  # seconds that have a row, seen or not


class Rows:
    """The database and the simulator of an installation."""

    def __init__(self, release: Release) -> None:
        self._release = release

    @property
    def url(self) -> str:
        """The owner's address, by ClusterIP. Asked anew each time: an installation has its own secrets."""
        secret = get_one("secret", self._release.namespace, f"{self._release.name}-database")
        parts = urlsplit(base64.b64decode(secret["data"]["owner-url"]).decode())
        place = f"{parts.username}:{parts.password}@{self._release.address('database')}:{parts.port}"
        return urlunsplit(parts._replace(netloc=place))

    def query(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, connect_timeout=5) as connection:
            return connection.execute(statement, values).fetchall()

    def execute(self, statement: Any) -> None:
        """A statement without an answer, as the schema's owner."""
        with psycopg.connect(self.url, connect_timeout=5) as connection:
            connection.execute(statement)

    def maintained_s(self) -> float:
        """Unix time of the last roll-up that went well."""
        ((ran_s,),) = self.query(
            "SELECT coalesce(max(extract(epoch FROM ran_at)), 0)::float8 FROM framegrid.maintenance_task"
            " WHERE task = 'rollup' AND error = ''"
        )
        return float(ran_s)

    def newest_s(self) -> dict[str, float]:
        """Camera -> start of its newest interval with a processed frame; {} while the database is away."""
        try:
            return {str(camera): float(newest) for camera, newest in self.query(FRESH)}
        except psycopg.Error:
            return {}

    def wait_fresh(self, cameras: list[str], within_s: float) -> float:
        """Returns when each camera has a frame younger than this call; with the seconds that it took."""
        started_s = time.time()
        self.wait_stored(cameras, started_s, within_s)
        return time.time() - started_s

    def wait_stored(self, cameras: list[str], until_s: float, within_s: float) -> None:
        """Returns when each camera has an interval with a frame that began at `until_s` or later."""

        def look() -> bool:
            newest = self.newest_s()
            return all(newest.get(camera, 0) >= until_s for camera in cameras)

        wait_until(f"rows of {', '.join(cameras)}", look, within_s)

    def resumed_s(self, camera: str, since_s: float, within_s: float) -> float:
        """Unix time at which a camera was counted again: end of its first interval begun after `since_s`."""

        def look() -> float | None:
            try:
                ((found,),) = self.query(RESUMED, camera, since_s)
            except psycopg.Error:
                return None
            return None if found is None else float(found)

        return wait_until(f"new rows of {camera}", look, within_s)

    def longest_gap_s(self, camera: str, since_s: float, within_s: float) -> float:
        """Longest time without a processed frame in `within_s` from `since_s` on, in steps of an interval."""
        self.wait_stored([camera], since_s + within_s, within_s + 30)
        times = [float(row[0]) for row in self.query(TIMES, camera, since_s - 2, since_s + within_s)]
        return max(after - before for before, after in itertools.pairwise(times)) - 1

    def doubled(self, from_s: float, fps: float) -> list[tuple[Any, ...]]:
        """Intervals that were recorded more than once."""
        return self.query(DOUBLED, from_s, fps)

    def covered(self, from_s: float, to_s: float) -> dict[str, Covered]:
        return {str(row[0]): Covered(*row[1:]) for row in self.query(COVERED, from_s, to_s)}

    def stored(self, cameras: list[str], from_s: float) -> StoredRun:
        return read_run(self.url, cameras, from_s)

    def verdict(self, cameras: list[str], from_s: float, to_s: float) -> CountVerdict:
        """Crossings in SQL against the simulator's truth of that window."""
        run = self.stored(cameras, from_s - 2)
        return compare(run.crossings, self.truth(cameras, from_s, to_s), from_s, to_s)

    def truth(self, cameras: list[str], from_s: float, to_s: float) -> dict[Cell, int]:
        """True crossings of the window, per camera, line, class and direction."""
        address = self._release.address("sim")
        cells = {}
        for camera in cameras:
            url = f"http://{address}:8090/cameras/{camera}/truth?from={from_s:.3f}&to={to_s:.3f}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                crossed = json.load(answer)["crossed"]
            for line, groups in crossed.items():
                for group, directions in groups.items():
                    for direction, count in directions.items():
                        cells[Cell(camera, line, group, direction)] = int(count)
        return cells
