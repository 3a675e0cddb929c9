"""The process's own settings: closed, bounded, secrets hidden."""

import socket
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


def test_cameras_come_from_one_place() -> None:
    serve = "serve_url: http://127.0.0.1:8000\n"
    with pytest.raises(ConfigError, match=r"expected this key \(a file\) or kubernetes .*, got neither"):
        parse_settings(serve, "ingest.yaml", DATABASE)
    with pytest.raises(ConfigError, match="expected one source of cameras, got cameras and kubernetes"):
        parse_settings(GOOD + "kubernetes: {}\n", "ingest.yaml", DATABASE)


def test_on_kubernetes_the_pods_name_comes_from_the_environment_or_the_host() -> None:
    text = "kubernetes: {lease_s: 10, kubeconfig: kube.yaml}\nserve_url: http://127.0.0.1:8000\n"
    named = {**DATABASE, "FRAMEGRID_POD_NAME": "ingest-3"}
    shared = parse_settings(text, "ingest.yaml", named, Path("/etc/framegrid")).kubernetes
    assert shared is not None
    assert (shared.pod, shared.lease_s, shared.namespace) == ("ingest-3", 10, "")
    assert shared.kubeconfig == Path("/etc/framegrid/kube.yaml")
    unnamed = parse_settings(text, "ingest.yaml", DATABASE).kubernetes
    assert unnamed is not None and unnamed.pod == socket.gethostname()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("kubernetes: {lease: 10}", "kubernetes.lease: unknown key, did you mean 'lease_s'?"),
        ("kubernetes: {lease_s: 2}", "kubernetes.lease_s: expected a number of at least 3, got 2"),
        ("interval_s: 90\nkubernetes: {}", "interval_s: expected at most 60 with kubernetes, got 90"),
    ],
)
def test_mistakes_in_the_kubernetes_section_are_told(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        parse_settings(f"serve_url: http://127.0.0.1:8000\n{line}\n", "ingest.yaml", DATABASE)
    assert message in str(failure.value)


def test_a_missing_database_is_told_with_the_name_of_the_variable() -> None:
    with pytest.raises(ConfigError, match="set the environment variable FRAMEGRID_DATABASE_URL"):
        parse_settings(GOOD, "ingest.yaml", {})
