"""What `helm install` prints at its end: commands that name what the chart made."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chart.rendering import CHART, Rendered

Chart = Callable[..., Rendered]


def notes(chart: Chart, folder: Path, *values: str) -> tuple[str, Rendered]:
    """The notes, by way of an object that holds them: `helm template` leaves them out."""
    copy = folder / "framegrid"
    shutil.copytree(CHART, copy)
    text = (copy / "templates" / "NOTES.txt").read_text()
    holder = (
        '{{- define "notes" -}}\n'
        + text
        + "{{- end }}\napiVersion: v1\nkind: Notes\nmetadata: {name: notes}\n"
    )
    (copy / "templates" / "notes.yaml").write_text(holder + 'text: {{ include "notes" . | quote }}\n')
    rendered = chart(*values, chart=copy)
    return rendered.one("Notes")["text"], rendered


@pytest.mark.parametrize("mode", ["static", "kuberay"])
def test_five_commands_each_name_an_object_that_is_there(chart: Chart, tmp_path: Path, mode: str) -> None:
    text, rendered = notes(chart, tmp_path, f"ray.mode={mode}", "sim.enabled=true")
    commands = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    assert len(commands) == 5
    assert all("cameras" in command for command in commands), "each names its namespace"
    made = {f"{o['kind'].lower()}/{o['metadata']['name']}" for o in rendered.objects}
    named = re.findall(r"\b((?:deployment|rayservice|service)/\S+)", text)
    assert len(named) == 2
    assert set(named) <= made
    secret = rendered.one("Secret", "-database")
    assert f"get secret {secret['metadata']['name']} " in text
    assert '{{ index .data "bi-url" | base64decode }}' in text


def test_without_a_camera_the_next_step_is_a_camera(chart: Chart, tmp_path: Path) -> None:
    text, _ = notes(chart, tmp_path, "ray.mode=static")
    assert "There is no camera yet" in text
