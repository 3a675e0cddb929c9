"""The editions of PostgreSQL at hand, and a fresh database on each for every test.

| edition | where from |
|---|---|
| plain | PostgreSQL 18 from the wheel: always |
| apache | TimescaleDB from Debian trixie, by mmdebstrap and chroot (timescale.py); or the given server |
| community | the given server alone: no package registry has it |

The given server is the one of FRAMEGRID_TEST_DATABASE_URL; its role must be a superuser. It takes the place
of ours of the same edition. Servers start when the first test wants them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from databases import timescale
from framegrid_local.postgres import EmbeddedPostgres
from framegrid_store.migrate import upgrade

SERVER_VARIABLE = "FRAMEGRID_TEST_DATABASE_URL"
BI_PASSWORD = "only in tests: ' ; % é"  # what drivers have to quote
EditionName = Literal["plain", "apache", "community"]


@dataclass(frozen=True, slots=True)
class Database:
    """A database that one test has for itself. `url` is a superuser's."""

    url: str
    edition: EditionName

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection:
        """As superuser, in UTC."""
        return psycopg.connect(self.url, autocommit=autocommit, options="-c timezone=UTC")

    def as_role(self, role: str, password: str) -> str:
        """The URL with another login."""
        host = urlsplit(self.url).netloc.rpartition("@")[2]
        return urlunsplit(urlsplit(self.url)._replace(netloc=f"{role}:{quote(password)}@{host}"))

    @property
    def bi_url(self) -> str:
        """As role bi, once a fixture or a test has set BI_PASSWORD."""
        return self.as_role("bi", BI_PASSWORD)


@dataclass(slots=True)
class Edition:
    """One edition: either it can run here, or `missing` says why not."""

    name: EditionName
    missing: str = ""
    given_url: str = ""
    start: Callable[[Path], AbstractContextManager[str]] | None = None
    databases: int = 0
    version: str = ""
    _templates: dict[Callable[[str], object], str] = field(default_factory=dict)

    @contextmanager
    def serving(self, folder: Path) -> Iterator[str]:
        """URL of a server of this edition, for as long as the context lasts."""
        if self.given_url or self.start is None:
            yield self.given_url
            return
        with self.start(folder) as url:
            with psycopg.connect(url, autocommit=True) as admin:
                # Nobody pulls the plug of the test's machine; a killed server loses nothing without fsync.
                admin.execute("ALTER SYSTEM SET fsync = off")
                admin.execute("SELECT pg_reload_conf()")
            yield url

    @contextmanager
    def database(self, server_url: str, fill: Callable[[str], object] | None = None) -> Iterator[Database]:
        """A fresh database on the server, dropped afterwards: empty, or as `fill` makes one of an empty one.

        `fill` is called once per server with a URL; its work is then copied, which is several times faster.
        """
        with psycopg.connect(_sibling(server_url, "postgres"), autocommit=True) as admin:
            self.version = self.version or _version(admin)
            template = self._template(admin, server_url, fill) if fill else "template0"
            name = f"framegrid_test_{uuid.uuid4().hex[:12]}"
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            try:
                url = _sibling(server_url, name)
                if fill:
                    upgrade(url)  # a copy has the tables but not the rights and settings of roles in it
                self.databases += 1
                yield Database(url, self.name)
            finally:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def forget(self, server_url: str) -> None:
        """Drops what was made on a server that goes on without us."""
        with psycopg.connect(_sibling(server_url, "postgres"), autocommit=True) as admin:
            for template in self._templates.values():
                admin.execute(f"DROP DATABASE IF EXISTS {template} WITH (FORCE)")
        self._templates.clear()

    def _template(self, admin: psycopg.Connection, server_url: str, fill: Callable[[str], object]) -> str:
        if fill not in self._templates:
            name = f"framegrid_template_{uuid.uuid4().hex[:12]}"
            admin.execute(f"CREATE DATABASE {name}")
            fill(_sibling(server_url, name))
            # Else TimescaleDB's scheduler comes back to it, and a database in use cannot be copied.
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            self._templates[fill] = name
        return self._templates[fill]


@contextmanager
def _embedded(folder: Path) -> Iterator[str]:
    server = EmbeddedPostgres(folder)
    server.start()
    try:
        yield server.url
    finally:
        server.destroy()


@contextmanager
def _timescale(folder: Path) -> Iterator[str]:
    del folder  # its data lie where its programs are
    with timescale.TimescaleServer() as server:
        yield server.url


def find_editions(given_url: str) -> list[Edition]:
    """All three, those at hand and those not. Asks the given server; starts none."""
    editions = [
        Edition("plain", start=_embedded),
        Edition("apache", missing=timescale.missing(), start=_timescale),
        Edition("community", missing=f"{SERVER_VARIABLE} names no server that has it; no registry does"),
    ]
    if given_url:
        name = edition_of(given_url)
        editions = [Edition(name, given_url=given_url) if e.name == name else e for e in editions]
    return editions


def given_server() -> str:
    """The URL in FRAMEGRID_TEST_DATABASE_URL; empty without one."""
    return os.environ.get(SERVER_VARIABLE, "")


def edition_of(url: str) -> EditionName:
    """What `upgrade` will find on a server, before any database has the extension."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT current_setting('shared_preload_libraries') LIKE '%timescaledb%',"
            " current_setting('timescaledb.license', true)"
        ).fetchone()
    if row is None or not row[0]:
        return "plain"
    return "community" if row[1] == "timescale" else "apache"


def report(editions: list[Edition]) -> list[str]:
    """One line per edition: what ran on it, or why nothing did."""
    lines = []
    for edition in editions:
        if edition.missing:
            lines.append(f"{edition.name:9}  NOT RUN: {edition.missing}")
        elif edition.databases:
            lines.append(f"{edition.name:9}  ran, {edition.databases} fresh databases of {edition.version}")
        else:
            lines.append(f"{edition.name:9}  at hand; no test of this run asked for it")
    return lines


def _version(connection: psycopg.Connection) -> str:
    row = connection.execute(
        "SELECT current_setting('server_version'), (SELECT default_version FROM pg_available_extensions"
        " WHERE name = 'timescaledb' AND current_setting('shared_preload_libraries') LIKE '%timescaledb%')"
    ).fetchone()
    server, extension = row or ("", None)
    return f"PostgreSQL {server}" + (f", TimescaleDB {extension}" if extension else "")


def _sibling(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
