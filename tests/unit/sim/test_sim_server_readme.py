"""The README's program runs, and its table of faults is whole."""

import re
from pathlib import Path

import pytest
from framegrid_sim.faults import FaultKind

README = (Path(__file__).parents[3] / "loadtest" / "README.md").read_text(encoding="utf-8")


def test_the_program_in_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [program] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(program, "README.md", "exec"), {})
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/cameras/north/stream\.mjpg\n", capsys.readouterr().out)


def test_the_readme_lists_every_fault() -> None:
    assert re.findall(r"^\| `(\w+)` \|", README.split("## Faults")[1].split("##")[0], re.MULTILINE) == [
        kind.value for kind in FaultKind
    ]
