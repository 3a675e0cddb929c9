"""The process's own settings: closed, bounded, secrets hidden."""

from pathlib import Path

import pytest
from framegrid_ingest.errors import ConfigError
from framegrid_ingest.settings import parse_settings

GOOD = "cameras: cameras.yaml\nserve_url: http://127.0.0.1:8000\n"
DATABASE = {"FRAMEGRID_DATABASE_URL": "postgresql://u:hunter2@h/db"}


def test_the_database_comes_from_the_environment_and_hides_itself() -> None:
    settings = parse_settings(GOOD, "ingest.yaml", DATABASE, Path("/etc/framegrid"))
    assert settings.database_url.get_secret_value().endswith("hunter2@h/db")
    assert "hunter2" not in repr(settings)
    assert settings.cameras == Path("/etc/framegrid/cameras.yaml")
    assert settings.deadline_s == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "deadline: 2\n", "ingest.yaml:3:1: deadline: unknown key, did you mean 'deadline_s'?"),
        (
            GOOD + "http_port: 70000\n",
            "ingest.yaml:3:1: http_port: expected a number of at most 65535, got 70000",
        ),
        ("cameras: c.yaml\n", "ingest.yaml:1:1: serve_url: expected this key, got nothing; add it"),
        ("- a\n", "expected a mapping (key: value), got a list of 1"),
    ],
)
def test_a_mistake_names_key_line_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        parse_settings(text, "ingest.yaml", DATABASE)
    assert message in str(failure.value)


def test_a_missing_database_is_told_with_the_name_of_the_variable() -> None:
    with pytest.raises(ConfigError, match="set the environment variable FRAMEGRID_DATABASE_URL"):
        parse_settings(GOOD, "ingest.yaml", {})
