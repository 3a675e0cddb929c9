"""The `framegrid` command: what it prints and how it ends when something is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from framegrid_local.cli import app
from typer.testing import CliRunner, Result

HEAVY = ("ray", "openvino", "onnxruntime", "cv2", "av", "numpy", "psycopg", "sqlalchemy", "streamlit")


def framegrid(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", ["demo", "up", "analyze", "camera", "sim", "model", "db", "doctor"])
def test_help_names_every_command(command: str) -> None:
    result = framegrid("--help")
    assert result.exit_code == 0
    assert command in result.output


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; import framegrid_local.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not set(HEAVY) & set(loaded.split())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("up", "missing.yaml"), 2, "missing.yaml: no such file; a first one is two lines"),
        (("analyze", "missing.mp4"), 2, "missing.mp4: no such file"),
        (("analyze", "a.mp4", "--line", "door"), 2, "line: expected NAME:x1,y1,x2,y2"),
        (("analyze", "a.mp4", "--line", "door:0,0,1"), 2, "line door: expected 4 numbers"),
        (("analyze", "a.mp4", "--zone", "z:0,0,1,1"), 2, "zone z: expected 3 or more points"),
        (("analyze", "a.mp4", "--line", "door:0,0,2,1"), 2, "lines"),
        (("analyze", "ftp://host/x"), 2, "ftp"),
        (("db", "url"), 1, "no framegrid runs in"),
        (("model", "info", "nonsense"), 1, "model 'nonsense': not found"),
        (("model", "import", "missing.pt"), 2, "missing.pt: no such file"),
        (("demo", "--cameras", "0"), 2, "greater than or equal to 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_give_one_clear_line_and_no_traceback(
    arguments: tuple[str, ...], status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FRAMEGRID_DATABASE_URL", raising=False)
    result = framegrid(*arguments)
    assert result.exit_code == status
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_broken_cameras_file_is_explained_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text("cameras:\n  - name: north\n    url: rtsp://user:geheim@host/x\n    fsp: 3\n")
    result = framegrid("up", str(path), "--state-dir", str(tmp_path / "state"))
    assert result.exit_code == 2
    assert "cameras.yaml:4:5" in result.output
    assert "geheim" not in result.output


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr("framegrid_local.doctor.run_doctor", broken)
    result = framegrid("doctor")
    assert isinstance(result.exception, RuntimeError)


def test_the_database_address_of_a_running_framegrid_is_printed(tmp_path: Path) -> None:
    (tmp_path / "database-url").write_text("postgresql://framegrid:pw@127.0.0.1:5/framegrid\n")
    result = framegrid("db", "url", "--state-dir", str(tmp_path))
    assert result.output == "postgresql://framegrid:pw@127.0.0.1:5/framegrid\n"
