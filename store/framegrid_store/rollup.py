"""Adds pending rows to the roll-ups: minutes, hours and days in one statement, each row exactly once.

A batch that is stored leaves a mark for each minute its counts lie in (`pending`). One statement takes marks
away, reads the raw rows they stand for and adds them to the roll-ups: all in one snapshot, so a row is either
still pending, or in all of its roll-ups. Nothing is ever aggregated again: a late row is added like any
other, whether the raw rows around it are still there or not, and a roll-up never shrinks.

Cost: the raw rows of the minutes taken, by one index scan for each camera and minute; not the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import psycopg

from framegrid_store.counts_sql import COUNT_SUMS, COVERAGE_SUMS, DAY, HOUR, MINUTE, Scale

if TYPE_CHECKING:
    from typing_extensions import LiteralString

MINUTES_AT_ONCE = 10
"""Minutes in one transaction: 1.2 million rows of 1,000 cameras, some seconds."""
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What was added: minutes, the marks taken for them, raw rows of counts and of coverage."""

    minutes: int = 0
    marks: int = 0
    rows: int = 0

    def __add__(self, other: RolledUp) -> RolledUp:
        return RolledUp(self.minutes + other.minutes, self.marks + other.marks, self.rows + other.rows)


@dataclass(frozen=True, slots=True)
class _Source:
    """A raw table and how its rows add up. `keys`: besides camera_id and time."""

    table: str
    keys: tuple[str, ...]
    sums: tuple[str, ...]
    least: tuple[str, ...] = ()
    greatest: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.keys, *self.sums, *self.least, *self.greatest)


_SOURCES = (
    _Source("frame_count", ("class_id", "zone_id"), COUNT_SUMS, ("n_min",), ("n_max",)),
    _Source("coverage", (), COVERAGE_SUMS),
)


def roll_up(connection: psycopg.Connection, due_before: datetime) -> RolledUp:
    """Add the newest pending minutes that start before `due_before`; call again while it finds some.

    Runs in the caller's transaction, which should hold the maintenance lock: two at once are correct, and
    slow.
    """
    found = connection.execute(
        "SELECT DISTINCT minute FROM framegrid.rollup_pending WHERE minute < %s ORDER BY 1 DESC LIMIT %s",
        (due_before, MINUTES_AT_ONCE),
    ).fetchall()
    minutes = [row[0] for row in found]
    if not minutes:
        return RolledUp()
    row = connection.execute(
        _sql(_ROLL_UP), {"minutes": minutes, "first": minutes[-1], "end": minutes[0] + _MINUTE}
    ).fetchone()
    marks, rows = row or (0, 0)
    return RolledUp(len(minutes), marks, rows)


def recut_days(connection: psycopg.Connection) -> list[str]:
    """Cut the days of cameras anew whose time zone was changed; returns their names.

    As far back as minutes reach: what lies before the first stored day that has all its minutes stays as it
    was. Sums over all days stay the same. Runs in the caller's transaction, which should hold the
    maintenance lock.
    """
    changed = connection.execute(
        "SELECT camera_id, key FROM framegrid.camera WHERE days_timezone <> timezone FOR NO KEY UPDATE"
    ).fetchall()
    for camera_id, _ in changed:
        connection.execute(
            "UPDATE framegrid.camera SET days_timezone = timezone WHERE camera_id = %s", (camera_id,)
        )
        for source in _SOURCES:
            since = connection.execute(
                _sql(_SINCE.format(table=source.table)), {"camera_id": camera_id}
            ).fetchone()
            values = {"camera_id": camera_id, "since": since[0] if since else "infinity"}
            which = "camera_id = %(camera_id)s AND time >= %(since)s::timestamptz"
            connection.execute(_sql(f"DELETE FROM framegrid.{source.table}_day WHERE {which}"), values)
            minutes = f"(SELECT * FROM framegrid.{source.table}_minute WHERE {which})"
            connection.execute(_sql(_add(source, DAY, minutes)), values)
    return [str(key) for _, key in changed]


# As text: psycopg knows no datetime that is infinite.
_SINCE = (
    "SELECT (CASE WHEN s.dropped_before IS NULL THEN '-infinity' ELSE coalesce((SELECT min(d.time)"
    " FROM framegrid.{table}_day d WHERE d.camera_id = %(camera_id)s AND d.time >= s.dropped_before),"
    " 'infinity') END)::text FROM (SELECT max(dropped_before) AS dropped_before FROM framegrid.table_state"
    " WHERE table_name = '{table}_minute') s"
)


def _pending(source: _Source) -> str:
    """SELECT of the raw rows taken, added up by the minute; `rows` says how many. Over `taken` and
    `touched`."""
    # Bounds that are constants let the planner leave chunks out; OFFSET 0 keeps it at index scans.
    return (
        f"SELECT d.minute AS time, c.camera_id, {_values(source, 'f', raw=True)}, count(*) AS rows"
        " FROM framegrid.camera c CROSS JOIN touched d CROSS JOIN LATERAL"
        f" (SELECT batch_no, {', '.join(source.columns)} FROM framegrid.{source.table}"
        " WHERE camera_id = c.camera_id AND time >= d.minute AND time < d.minute + interval '1 minute'"
        " AND time >= %(first)s AND time < %(end)s OFFSET 0) f"
        " JOIN taken t ON t.minute = d.minute AND t.batch_no = f.batch_no"
        f" GROUP BY {_places(2 + len(source.keys))}"
    )


def _add(source: _Source, scale: Scale, minutes: str) -> str:
    """INSERT of minutes into a roll-up, adding to what is there."""
    keys = ("camera_id", "time", *source.keys)
    changes = [f"{name} = x.{name} + excluded.{name}" for name in source.sums]
    changes += [f"{name} = least(x.{name}, excluded.{name})" for name in source.least]
    changes += [f"{name} = greatest(x.{name}, excluded.{name})" for name in source.greatest]
    return (
        f"INSERT INTO framegrid.{source.table}_{scale.name} AS x"
        f" (time, camera_id, {', '.join(source.columns)})"
        f" SELECT {scale.bucket_of('r.time')}, r.camera_id, {_values(source, 'r')}"
        f" FROM {minutes} r JOIN framegrid.camera c ON c.camera_id = r.camera_id"
        # Rows of a camera side by side: a reader of one camera then reads half the pages.
        f" GROUP BY {_places(2 + len(source.keys))} ORDER BY 2, 1"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(changes)}"
    )


def _values(source: _Source, alias: str, *, raw: bool = False) -> str:
    # In raw rows, least and greatest mean nothing where samples is 0; roll-ups have NULL there.
    only = f" FILTER (WHERE {alias}.samples > 0)" if raw else ""
    return ", ".join(
        [f"{alias}.{name}" for name in source.keys]
        + [f"framegrid.total({alias}.{name}) AS {name}" for name in source.sums]
        + [f"min({alias}.{name}){only} AS {name}" for name in source.least]
        + [f"max({alias}.{name}){only} AS {name}" for name in source.greatest]
    )


def _places(count: int) -> str:
    return ", ".join(str(place + 1) for place in range(count))


def _roll_up_sql() -> str:
    parts = [
        "taken AS (DELETE FROM framegrid.rollup_pending WHERE minute = ANY(%(minutes)s)"
        " RETURNING minute, batch_no)",
        "touched AS MATERIALIZED (SELECT DISTINCT minute FROM taken)",
    ]
    for source in _SOURCES:
        parts.append(f"new_{source.table} AS MATERIALIZED ({_pending(source)})")
        for scale in (MINUTE, HOUR, DAY):
            parts.append(f"{source.table}_{scale.name} AS ({_add(source, scale, f'new_{source.table}')})")
    # The zone that this statement sees, and cuts by; the row itself may have got another one meanwhile.
    parts.append(
        "zoned AS (UPDATE framegrid.camera c SET days_timezone = s.timezone FROM framegrid.camera s"
        " WHERE s.camera_id = c.camera_id AND c.days_timezone IS NULL)"
    )
    rows = " + ".join(f"(SELECT coalesce(sum(rows), 0) FROM new_{source.table})" for source in _SOURCES)
    return f"WITH {', '.join(parts)} SELECT (SELECT count(*) FROM taken), ({rows})::bigint"


def _sql(text: str) -> LiteralString:
    # Built from this package's constants alone; values travel as parameters.
    return text


_ROLL_UP = _roll_up_sql()
