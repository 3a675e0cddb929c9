"""Commands against real things: a database, the packaged model, addresses that are taken or dead."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from framegrid_local.cli import app
from framegrid_local.postgres import EmbeddedPostgres
from framegrid_local.state import StateDir
from typer.testing import CliRunner, Result

pytestmark = pytest.mark.integration

MODEL = "street-sim"


def framegrid(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def no_database_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRAMEGRID_DATABASE_URL", raising=False)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("db") / "postgres")
    postgres.start()
    yield postgres
    postgres.destroy()


def test_the_schema_is_brought_up_to_date_and_its_status_told(
    database: EmbeddedPostgres, tmp_path: Path
) -> None:
    state = StateDir(tmp_path)
    state.write_private(state.database_url_file, database.url)
    first = framegrid("db", "upgrade", "--state-dir", tmp_path)
    assert first.exit_code == 0
    assert "was empty" in first.output
    again = framegrid("db", "upgrade", "--state-dir", tmp_path)
    assert "was empty" not in again.output
    status = json.loads(framegrid("db", "status", "--json", "--state-dir", tmp_path).output)
    assert status["revision"] == status["revision_wanted"]
    shown = framegrid("db", "status", "--state-dir", tmp_path).output
    assert "PostgreSQL 18.4, plain" in shown and "up to date" in shown and "Nothing needs doing." in shown
    password = (database.data_dir / "password").read_text().strip()
    assert password not in first.output + again.output + json.dumps(status) + shown


def test_a_role_is_given_a_password_that_nobody_sees(database: EmbeddedPostgres, tmp_path: Path) -> None:
    assert framegrid("db", "upgrade", "--database-url", database.url).exit_code == 0
    command = ["db", "password", "bi", "--database-url", database.url]
    assert CliRunner().invoke(app, command, input="\n").exit_code == 2
    given = CliRunner().invoke(app, command, input="let me in\n")
    assert given.exit_code == 0 and "let me in" not in given.output
    with psycopg.connect(database.url, user="bi", password="let me in") as reader:
        assert reader.execute("SELECT count(*) FROM cameras").fetchone() == (0,)
    unknown = framegrid("db", "password", "nobody-here", "--database-url", database.url)
    assert unknown.exit_code != 0


def test_one_round_of_maintenance_says_what_it_did(database: EmbeddedPostgres) -> None:
    assert framegrid("db", "upgrade", "--database-url", database.url).exit_code == 0
    done = framegrid("db", "maintain", "--database-url", database.url)
    assert done.exit_code == 0
    assert json.loads(done.output)["errors"] == {}


def test_a_dead_database_is_said_before_anything_is_started(tmp_path: Path) -> None:
    url = "postgresql://framegrid:geheim@127.0.0.1:1/framegrid"
    started = time.monotonic()
    result = framegrid("demo", "--no-page", "--database-url", url, "--state-dir", tmp_path)
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.output
    assert "geheim" not in result.output
    assert "serve " not in result.output
    assert time.monotonic() - started < 30


def test_a_taken_port_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = framegrid("demo", "--page-port", str(port), "--state-dir", tmp_path)
    assert result.exit_code == 1
    assert f"port {port} on 127.0.0.1 is taken" in result.output


def test_a_part_that_cannot_start_shows_its_last_words_and_stops_the_rest(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    bundle = state_dir / "models" / "odd"
    shutil.copytree(packaged_model(), bundle)
    with (bundle / "model.yaml").open("a") as manifest:
        manifest.write("unknown_key: 1\n")
    command = [sys.executable, "-m", "framegrid_local", "demo", "--cameras", "1", "--no-page"]
    command += ["--model", "odd", "--state-dir", str(state_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    EmbeddedPostgres(state_dir / "postgres").destroy()
    assert done.returncode == 1
    assert "serve ended with status 1 before it was ready; its log: " in done.stderr
    assert "unknown_key: unknown key" in done.stderr
    assert "Traceback" not in done.stderr
    assert "database  stopped" in done.stdout


def test_models_are_listed_described_and_verified(tmp_path: Path) -> None:
    copy = tmp_path / "models" / "mine"
    shutil.copytree(packaged_model(), copy)
    manifest = copy / "model.yaml"
    manifest.write_text(manifest.read_text().replace(f"name: {MODEL}", "name: mine"))
    listed = framegrid("model", "list", "--state-dir", tmp_path)
    assert listed.exit_code == 0
    assert listed.output.split("\n")[0].startswith("mine")
    assert MODEL in listed.output
    info = json.loads(framegrid("model", "info", "mine", "--json", "--state-dir", tmp_path).output)
    assert info["licence"].startswith("AGPL")
    assert framegrid("model", "verify", "mine", "--state-dir", tmp_path).exit_code == 0
    weights = copy / info["weights"]
    weights.write_bytes(weights.read_bytes()[:-1])
    broken = framegrid("model", "verify", "mine", "--state-dir", tmp_path)
    assert broken.exit_code == 1
    assert "cut off or replaced" in broken.output


def test_an_onnx_export_is_imported_by_name(tmp_path: Path) -> None:
    found = framegrid("model", "import", tmp_path / "nothing.onnx", "--state-dir", tmp_path)
    assert found.exit_code == 2
    lonely = tmp_path / "lonely.onnx"
    lonely.write_bytes(b"x")
    no_metadata = framegrid("model", "import", lonely, "--state-dir", tmp_path)
    assert no_metadata.exit_code == 1
    assert "metadata.yaml" in no_metadata.output


def packaged_model() -> Path:
    from framegrid_serve.workshop import PACKAGED_MODELS

    return PACKAGED_MODELS / MODEL
