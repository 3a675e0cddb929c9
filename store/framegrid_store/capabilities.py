"""What the database at hand can do, asked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psycopg

from framegrid_store.errors import StoreError

Edition = Literal["community", "apache", "plain"]
OLDEST_SERVER = 15
"""Oldest PostgreSQL that the tests run on; 14 leaves support in November 2026."""
OLDEST_COLUMNSTORE = (2, 20)
"""Rows that come late into compressed chunks: slow before 2.20, and wrong at times before 2.18."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Edition and versions. Roll-ups and retention are ours on every edition, so their results are the
    same."""

    edition: Edition
    server_version: str
    timescaledb_version: str | None

    @property
    def hypertables(self) -> bool:
        """Whether tables are cut into chunks by TimescaleDB; else they are partitions of PostgreSQL."""
        return self.edition != "plain"

    @property
    def columnstore(self) -> bool:
        """Whether old chunks can be compressed, to about a tenth."""
        version = tuple(
            int(part) for part in (self.timescaledb_version or "0").split(".")[:2] if part.isdigit()
        )
        return self.edition == "community" and version >= OLDEST_COLUMNSTORE

    @property
    def meaning(self) -> str:
        """What the edition makes possible, for an operator."""
        if self.columnstore:
            return "hypertables; old chunks compressed by TimescaleDB; roll-ups and retention by `maintain`"
        if self.edition == "community":
            oldest = ".".join(map(str, OLDEST_COLUMNSTORE))
            return (
                f"hypertables; compression needs TimescaleDB {oldest}; roll-ups and retention by `maintain`"
            )
        cut = "hypertables" if self.hypertables else "partitions"
        return f"{cut}; no compression; roll-ups and retention by `maintain`"


def probe(connection: psycopg.Connection) -> Capabilities:
    """Ask the server. Raises `StoreError` when it is older than PostgreSQL 15."""
    major = connection.info.server_version // 10_000
    server_version = connection.info.parameter_status("server_version") or str(major)
    if major < OLDEST_SERVER:
        raise StoreError(
            f"expected PostgreSQL {OLDEST_SERVER} or newer, got {server_version}; upgrade the server"
        )
    row = connection.execute(
        "SELECT extversion, current_setting('timescaledb.license', true)"
        " FROM pg_extension WHERE extname = 'timescaledb'"
    ).fetchone()
    if row is None:
        return Capabilities("plain", server_version, None)
    extension_version, licence = row
    return Capabilities(
        "community" if licence == "timescale" else "apache", server_version, extension_version
    )
