"""Three ways to a database, and who logs in as whom."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from chart.rendering import Rendered

Chart = Callable[..., Rendered]
EXTERNAL = ("ray.mode=static", "database.mode=external", "database.existingSecret=mine")


def database_key(rendered: Rendered, kind: str, name: str) -> tuple[str, str]:
    """(Secret, key) that the first container of that object takes its database from."""
    spec = rendered.one(kind, name)["spec"]
    container = spec.get("template", {}).get("spec", spec)["containers"][0]
    (variable,) = [e for e in container["env"] if e["name"] == "FRAMEGRID_DATABASE_URL"]
    reference = variable["valueFrom"]["secretKeyRef"]
    return reference["name"], reference["key"]


def decoded(secret: dict[str, Any]) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


@pytest.mark.parametrize("mode", ["embedded", "cnpg"])
def test_each_role_has_a_password_and_an_address_of_its_own(chart: Chart, mode: str) -> None:
    secret = decoded(chart(f"database.mode={mode}").one("Secret", "-database"))
    passwords = set()
    for role in ("owner", "app", "bi"):
        url = urlsplit(secret[f"{role}-url"])
        assert url.username == role
        assert url.password == secret[f"{role}-password"]
        assert url.path == "/framegrid"
        passwords.add(url.password)
    assert len(passwords) == 3
    assert all(len(password) == 32 for password in passwords)


def test_everybody_logs_in_with_the_least_rights_that_do(chart: Chart) -> None:
    rendered = chart(*EXTERNAL)
    assert database_key(rendered, "Job", "-migrate") == ("mine", "owner-url")
    assert database_key(rendered, "Deployment", "-ingest") == ("mine", "app-url")
    assert database_key(rendered, "Deployment", "-dashboards") == ("mine", "bi-url")
    assert database_key(rendered, "Pod", "-test-counts") == ("mine", "bi-url")


def test_keys_of_an_existing_secret_can_be_named(chart: Chart) -> None:
    rendered = chart(*EXTERNAL, "database.keys.app=uri")
    assert database_key(rendered, "Deployment", "-ingest") == ("mine", "uri")


def test_an_external_database_brings_no_secret_no_server_and_no_password(chart: Chart) -> None:
    rendered = chart(*EXTERNAL)
    assert [s["metadata"]["name"] for s in rendered.of("Secret")] == ["fg-framegrid-ray-token"]
    assert not [o for o in rendered.objects if "database" in o["metadata"]["name"]]


def test_the_schema_is_there_before_what_needs_it(chart: Chart) -> None:
    """An external database is upgraded first; one of the chart's own is there only after the installation."""
    hooks = {
        mode: chart(*values).one("Job", "-migrate")["metadata"]["annotations"]["helm.sh/hook"]
        for mode, values in {"external": EXTERNAL, "embedded": ("ray.mode=static",)}.items()
    }
    assert hooks == {"external": "pre-install,pre-upgrade", "embedded": "post-install,pre-upgrade"}


def test_a_hook_that_runs_first_needs_nothing_that_comes_later(chart: Chart) -> None:
    rendered = chart(*EXTERNAL)
    spec = rendered.one("Job", "-migrate")["spec"]["template"]["spec"]
    assert "serviceAccountName" not in spec
    assert not spec.get("volumes")


def test_the_embedded_database_keeps_its_data_when_the_release_goes(chart: Chart) -> None:
    spec = chart("ray.mode=static").one("StatefulSet", "-database")["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"


def test_cloudnativepg_gets_the_roles_with_the_passwords_of_the_addresses(chart: Chart) -> None:
    rendered = chart("database.mode=cnpg", "database.cnpg.timescaledb=true")
    cluster = rendered.one("Cluster", "-db")["spec"]
    assert cluster["bootstrap"]["initdb"]["owner"] == "owner"
    assert [role["name"] for role in cluster["managed"]["roles"]] == ["app", "bi"]
    assert cluster["postgresql"]["shared_preload_libraries"] == ["timescaledb"]
    urls = decoded(rendered.one("Secret", "-database"))
    for role in ("owner", "app", "bi"):
        login = decoded(rendered.one("Secret", f"-database-{role}"))
        assert login == {"username": role, "password": urlsplit(urls[f"{role}-url"]).password}
        assert urlsplit(urls[f"{role}-url"]).hostname == "fg-framegrid-db-rw"
