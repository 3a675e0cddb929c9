"""Names to ids, with a cache for the life of one connection; what is new is created.

Runs in short transactions of its own, before the batch's: two writers that meet the same new camera at once
get the same id and neither holds a lock while it copies. A cache lives as long as its connection, because
another connection may lead to another database (a restored one, a fail-over) with other ids.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import psycopg

from framegrid_store.encode import Array
from framegrid_store.rows import CameraRow, DimensionRow, LineRow, ModelRow, ZoneRow

logger = logging.getLogger(__name__)

WHOLE_PICTURE_ID = 0

_FIND_OR_CREATE = {
    # The first SELECT spares the sequence: ON CONFLICT DO NOTHING burns a number for every row it leaves out.
    "camera": (
        "SELECT camera_id FROM framegrid.camera WHERE key = %(name)s",
        "INSERT INTO framegrid.camera (key) VALUES (%(name)s) ON CONFLICT DO NOTHING",
    ),
    "cls": (
        "SELECT class_id FROM framegrid.object_class WHERE name = %(name)s",
        "INSERT INTO framegrid.object_class (name) VALUES (%(name)s) ON CONFLICT DO NOTHING",
    ),
    "model": (
        "SELECT model_id FROM framegrid.model_version WHERE name = %(name)s AND version = %(version)s",
        "INSERT INTO framegrid.model_version (name, version) VALUES (%(name)s, %(version)s)"
        " ON CONFLICT DO NOTHING",
    ),
    "zone": (
        "SELECT zone_id FROM framegrid.zone WHERE camera_id = %(camera_id)s AND name = %(name)s",
        "INSERT INTO framegrid.zone (camera_id, name) VALUES (%(camera_id)s, %(name)s)"
        " ON CONFLICT DO NOTHING",
    ),
    "line": (
        "SELECT line_id FROM framegrid.line WHERE camera_id = %(camera_id)s AND name = %(name)s",
        "INSERT INTO framegrid.line (camera_id, name) VALUES (%(camera_id)s, %(name)s)"
        " ON CONFLICT DO NOTHING",
    ),
}
_SERIES = (
    "INSERT INTO framegrid.series (camera_id, class_id, zone_id) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
)


class UnknownNamesError(LookupError):
    """Names that have no ids yet over this connection."""

    def __init__(self, fields: tuple[str, ...], keys: set[tuple[str, ...]]) -> None:
        super().__init__(f"{len(keys)} new rows of {fields}")
        self.fields = fields
        self.keys = keys


class _IdTable:
    """Rows of names to rows of ids, by way of one matrix: a lookup is one dict access and one vector
    gather."""

    def __init__(self, width: int) -> None:
        self.places: dict[tuple[str, ...], int] = {}
        self._matrix: Array = np.empty((0, width), dtype=np.int64)

    def lookup(self, keys: Sequence[tuple[str, ...]]) -> Array:
        """(n, width) int64. Raises KeyError at the first key that is not known."""
        places = np.fromiter(map(self.places.__getitem__, keys), dtype=np.intp, count=len(keys))
        found: Array = self._matrix[places]
        return found

    def add(self, learnt: Mapping[tuple[str, ...], tuple[int, ...]]) -> None:
        """Know these from now on."""
        self.places.update(zip(learnt, range(len(self.places), len(self.places) + len(learnt)), strict=True))
        self._matrix = np.vstack([self._matrix, np.array(list(learnt.values()), dtype=np.int64)])


class Dimensions:
    """The ids of one connection. Not thread-safe. Its methods must run outside a transaction."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._ids: dict[tuple[str, ...], int] = {}
        self._tables: dict[tuple[str, ...], _IdTable] = {}

    def ids(self, fields: tuple[str, ...], keys: Sequence[tuple[str, ...]]) -> Array:
        """Ids (n, len(fields)) int64 of rows of names; `fields` says what each name is of, camera first.

        Raises `UnknownNamesError`, to be given to `learn` outside a transaction, when a name is new.
        """
        known = self._tables.setdefault(fields, _IdTable(len(fields)))
        try:
            return known.lookup(keys)
        except KeyError:
            raise UnknownNamesError(fields, {key for key in keys if key not in known.places}) from None

    def learn(self, unknown: UnknownNamesError) -> None:
        """Find or create the ids of names, so that `ids` knows them."""
        learnt = {}
        with self._all_or_nothing():
            # Sorted: two writers that create the same names in the same order cannot deadlock.
            for key in sorted(unknown.keys):
                named = dict(zip(unknown.fields, key, strict=True))
                ids = {field: self._id(field, name, named["camera"]) for field, name in named.items()}
                if "zone" in ids:
                    self._connection.execute(_SERIES, (ids["camera"], ids["cls"], ids["zone"]))
                learnt[key] = tuple(ids.values())
        self._tables[unknown.fields].add(learnt)

    def announce(self, rows: Iterable[DimensionRow]) -> None:
        """Store facts about cameras, zones, lines and models, one transaction each."""
        for row in rows:
            if isinstance(row, CameraRow):
                self._announce_camera(row)
            elif isinstance(row, ZoneRow):
                self._announce_shape("zone", row.camera, row.zone, [list(point) for point in row.polygon])
            elif isinstance(row, LineRow):
                self._announce_shape("line", row.camera, row.line, [list(row.start), list(row.end)])
            else:
                self._announce_model(row)

    def _id(self, field: str, name: str, camera: str) -> int:
        if field == "zone" and name == "":
            return WHOLE_PICTURE_ID
        scoped = field in ("zone", "line")
        key = (field, name, camera) if scoped else (field, name)
        if key not in self._ids:
            head, at, version = name.rpartition("@")
            values = {
                "name": head if field == "model" and at else name,
                "version": version if at else "",
                "camera_id": self._id("camera", camera, camera) if scoped else None,
            }
            self._ids[key] = self._find_or_create(field, values)
        return self._ids[key]

    def _find_or_create(self, field: str, values: dict[str, str | int | None]) -> int:
        find, create = _FIND_OR_CREATE[field]
        for _ in range(2):
            row = self._connection.execute(find, values).fetchone()
            if row is not None:
                return int(row[0])
            self._connection.execute(create, values)
        row = self._connection.execute(find, values).fetchone()
        if row is None:
            raise psycopg.errors.SerializationFailure(f"{field} {values['name']!r} came and went; try again")
        return int(row[0])

    def _announce_camera(self, row: CameraRow) -> None:
        timezone = row.timezone if self._knows_timezone(row.timezone) else "UTC"
        if timezone != row.timezone:
            logger.warning(
                "camera %s: the database knows no time zone %r; its days are UTC's until it is corrected",
                row.camera,
                row.timezone[:64],
            )
        labels = json.dumps(dict(row.labels))
        with self._all_or_nothing():
            camera_id = self._id("camera", row.camera, row.camera)
            self._connection.execute(
                "UPDATE framegrid.camera SET site = %s, timezone = %s, labels = %s::jsonb, paused = %s,"
                " updated_at = now() WHERE camera_id = %s"
                " AND (site, timezone, labels, paused) IS DISTINCT FROM (%s, %s, %s::jsonb, %s)",
                (row.site, timezone, labels, row.paused, camera_id, row.site, timezone, labels, row.paused),
            )

    def _announce_shape(self, table: str, camera: str, name: str, points: list[list[float]]) -> None:
        column = {"zone": "polygon", "line": "points"}[table]
        shape = json.dumps(points)
        with self._all_or_nothing():
            shape_id = self._id(table, name, camera)
            if shape_id == WHOLE_PICTURE_ID and table == "zone":
                return
            self._connection.execute(
                f"UPDATE framegrid.{table} SET {column} = %s::jsonb, updated_at = now()"
                f" WHERE {table}_id = %s AND {column} IS DISTINCT FROM %s::jsonb",
                (shape, shape_id, shape),
            )

    def _announce_model(self, row: ModelRow) -> None:
        facts = (row.digest, row.precision, row.licence)
        with self._all_or_nothing():
            model_id = self._id("model", row.model, "")
            self._connection.execute(
                "UPDATE framegrid.model_version SET digest = %s, precision = %s, licence = %s"
                " WHERE model_id = %s AND (digest, precision, licence) IS DISTINCT FROM (%s, %s, %s)",
                (*facts, model_id, *facts),
            )

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """A transaction that takes the ids found in it out of the cache when it is rolled back."""
        kept = dict(self._ids)
        try:
            with self._connection.transaction():
                yield
        except BaseException:
            self._ids = kept
            raise

    def _knows_timezone(self, name: str) -> bool:
        try:
            with self._connection.transaction():
                self._connection.execute("SELECT now() AT TIME ZONE %s", (name,))
        except psycopg.errors.InvalidParameterValue:
            return False
        return True
