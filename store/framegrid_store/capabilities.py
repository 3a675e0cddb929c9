"""What the database at hand can do, asked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psycopg

from framegrid_store.errors import StoreError

Edition = Literal["community", "apache", "plain"]
OLDEST_SERVER = 15
"""Oldest PostgreSQL that the tests run on; 14 leaves support in November 2026."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Edition and versions. `community` has compression and continuous aggregates, `apache` hypertables
    alone."""

    edition: Edition
    server_version: str
    timescaledb_version: str | None

    @property
    def hypertables(self) -> bool:
        """Whether tables can be cut into chunks by TimescaleDB."""
        return self.edition != "plain"


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
