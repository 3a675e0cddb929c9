"""Fixtures for every test that wants PostgreSQL. Each test has a database for itself, dropped afterwards.

    def test_something(database: Database) -> None:          # from databases.editions import Database
        StoreWriter(database.url) …                          # `upgrade` has run; superuser
        if database.edition == "plain": …

* `database`: with Framegrid's schema; the test runs once on every edition at hand: plain always, apache and
  community where there is one. `-k plain` runs it on one.
* `empty_database`: the same without a schema, for tests of `upgrade` itself.
* `day`: with a day of simulated cameras in it, whose truth is in databases/day.py; `day.bi_url` logs in as
  role bi.
* `database_url`: URL of an empty database on one edition: the given server's, else plain.
* `database_server`: URL of the server under `database`, for a test that makes databases itself.

The end of the run says which editions ran, and why the others did not. See databases/editions.py.
"""

from collections.abc import Iterator

import pytest
from databases import day as simulated_day
from databases.editions import BI_PASSWORD, Database, Edition, find_editions, given_server, report
from framegrid_store.logins import set_password
from framegrid_store.migrate import upgrade
from hypothesis import HealthCheck, settings

EDITIONS = find_editions(given_server())
# How fast examples are made says something of the machine, nothing of the code.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

LEFT_OUT = pytest.StashKey[int]()
# `tools` installs other people's programs; `faults` kills processes and watches the clock for minutes.
ON_REQUEST = ("tools", "faults")
AT_HAND = [edition for edition in EDITIONS if not edition.missing]


@pytest.fixture(scope="session", params=AT_HAND, ids=lambda edition: edition.name)
def edition(request: pytest.FixtureRequest) -> Edition:
    """One of the editions at hand."""
    found: Edition = request.param
    return found


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """URLs of the servers that run by now, by edition; all stopped at the end."""
    from contextlib import ExitStack

    class Servers(dict[str, str]):
        def __missing__(self, name: str) -> str:
            wanted = next(one for one in EDITIONS if one.name == name)
            url = running.enter_context(wanted.serving(tmp_path_factory.mktemp(name) / "postgres"))
            running.callback(wanted.forget, url)
            self[name] = url
            return url

    with ExitStack() as running:
        yield Servers()


@pytest.fixture(scope="session")
def database_server(edition: Edition, servers: dict[str, str]) -> str:
    """URL of a server, as superuser."""
    return servers[edition.name]


@pytest.fixture
def database(edition: Edition, database_server: str) -> Iterator[Database]:
    """A fresh database with Framegrid's schema, once per edition at hand."""
    with edition.database(database_server, upgrade) as found:
        yield found


@pytest.fixture
def empty_database(edition: Edition, database_server: str) -> Iterator[Database]:
    """A fresh database without a schema, once per edition at hand."""
    with edition.database(database_server) as found:
        yield found


@pytest.fixture
def day(edition: Edition, database_server: str) -> Iterator[Database]:
    """A fresh database with a day of simulated cameras, once per edition at hand; role bi can log in."""
    with edition.database(database_server, simulated_day.fill) as found:
        set_password(found.url, "bi", BI_PASSWORD)
        yield found


@pytest.fixture(scope="session")
def only_edition() -> Edition:
    """The given server's edition, else plain: for tests that one edition is enough for."""
    return next((one for one in EDITIONS if one.given_url), EDITIONS[0])


@pytest.fixture(scope="session")
def postgres_server(only_edition: Edition, servers: dict[str, str]) -> str:
    """URL of a server of that edition."""
    return servers[only_edition.name]


@pytest.fixture
def database_url(only_edition: Edition, postgres_server: str) -> Iterator[str]:
    """URL of a fresh, empty database."""
    with only_edition.database(postgres_server) as found:
        yield found.url


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests with one of these marks run when asked for: see `ON_REQUEST`."""
    left_out = [item for item in items if _is_left_out(item, config.option.markexpr)]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] = len(left_out)


def _is_left_out(item: pytest.Item, asked_for: str) -> bool:
    return any(item.get_closest_marker(mark) for mark in ON_REQUEST if mark not in asked_for)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Which databases the tests ran on, and what was left out."""
    if any(edition.databases for edition in EDITIONS):
        terminalreporter.section("database editions")
        for line in report(EDITIONS):
            terminalreporter.write_line(line, yellow="NOT RUN" in line, bold="NOT RUN" in line)
    if count := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(
            f"NOT RUN: {count} tests that have to be asked for; `make test-tools` (Apache Superset) and"
            " `make test-faults` (killed processes, a quiet machine) run them",
            yellow=True,
        )
