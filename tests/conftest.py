"""Fixtures for every test: `database_url` is a fresh, empty database, dropped afterwards.

FRAMEGRID_TEST_DATABASE_URL names a server to use instead of the embedded one (its role must be allowed to
create databases); so the same tests run against TimescaleDB.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from framegrid_local.postgres import EmbeddedPostgres

SERVER_VARIABLE = "FRAMEGRID_TEST_DATABASE_URL"


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server on which databases can be created."""
    given = os.environ.get(SERVER_VARIABLE)
    if given:
        yield given
        return
    server = EmbeddedPostgres(Path(tmp_path_factory.mktemp("postgres")))
    server.start()
    try:
        yield server.url
    finally:
        server.destroy()


@pytest.fixture
def database_url(postgres_server: str) -> Iterator[str]:
    """URL of a fresh, empty database."""
    name = f"framegrid_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(postgres_server)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(postgres_server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
