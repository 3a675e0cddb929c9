"""serve/MODELS.md, followed command by command on tiny data, with real weights and the real workshop."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from framegrid_local.cli import app
from framegrid_serve.bundle import load_bundle
from framegrid_serve.gate import Thresholds, read_thresholds
from framegrid_serve.spec import ServingConfig
from framegrid_serve.watch import WatchSettings
from typer.testing import CliRunner

pytestmark = [
    pytest.mark.workshop,
    pytest.mark.integration,
    # Ultralytics and NNCF use what torch has announced to drop.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

PAGE = Path(__file__).parents[2] / "serve" / "MODELS.md"
DATA = Path(os.environ.get("FRAMEGRID_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
WEIGHTS = DATA / "weights" / "yolo11n-rebuilt.pt"
FIELD = DATA / "urban_picnic_elephants.jpg"
# What makes the page's commands quick; the page itself works on everything.
TINY = {
    "import": ["--input-size", "320"],
    "evaluate": ["--pictures", "8"],
    "compare": ["--pictures", "8"],
    "gate": ["--pictures", "8"],
    "quantize": ["--pictures", "8", "--calibration", "16", "--max-loss", "100"],
    "activate": ["--watch", "0"],
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("framegrid ")]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the reader of the page has: weights, a data set, a picture, thresholds."""
    pytest.importorskip("ultralytics", reason="needs the extra `workshop` (Ultralytics, torch)")
    if not WEIGHTS.is_file():
        pytest.skip(f"needs {WEIGHTS}; set FRAMEGRID_TEST_DATA")
    from ultralytics import YOLO

    shutil.copyfile(WEIGHTS, tmp_path / "best.pt")
    shutil.copyfile(FIELD, tmp_path / "field.jpg")
    data = {
        "path": str(DATA / "coco128"),
        "train": "images/train2017",
        "val": "images/val2017",
        "names": YOLO(str(WEIGHTS)).names,
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    # Eight pictures decide nothing: what is tried here is that the commands fit together.
    lenient = {"min_pictures": 1, "max_map50_95_loss": 1, "max_class_loss": 1, "max_latency_ratio": 100}
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump({**lenient, "max_memory_ratio": 100}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: list[str]) -> str:
    _, group, name, *rest = command
    arguments = [group, name, *rest, *TINY.get(name, [])]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"{shlex.join(arguments)}: {done.output}\n{done.exception!r}"
    return done.output


def test_every_command_of_the_page_does_what_it_says(desk: Path) -> None:
    told: dict[str, list[str]] = {}
    for command in commands():
        told.setdefault(command[2], []).append(run(command))
    models = desk / ".framegrid" / "models"
    one, two = load_bundle(models / "goats@1"), load_bundle(models / "goats@2")
    assert "goats 1: in " in told["import"][0]
    assert "use it by `model: goats`" in told["import"][0]
    assert one.manifest.licence == "AGPL-3.0"
    assert one.manifest.golden is not None
    assert {box.label for box in one.manifest.golden.boxes} >= {"elephant"}
    assert "mAP50-95" in told["evaluate"][0]
    assert two.int8_path is not None
    assert float(two.manifest.metrics["int8_size_ratio"]) < 0.36
    assert two.manifest.golden == one.manifest.golden
    assert told["gate"][0].startswith("deploy: goats 2")
    root = ElementTree.parse(desk / "report" / "gate.svg").getroot()
    assert root.tag.endswith("svg")
    assert "goats: 2 sees 10% of the frames" in told["shadow"][0]
    assert "goats: 1 -> 2" in told["activate"][0]
    assert "goats: 2 -> 1" in told["rollback"][0]
    assert "misses goats that lie" in told["history"][0]
    assert re.search(r"^goats +1 +\*", told["list"][0], re.M)
    address = told["publish"][0].strip()
    assert re.fullmatch(r"shelf/goats-2\.tar#sha256=[0-9a-f]{64}", address)
    assert load_bundle(models / "farm").digest == two.digest


def test_the_settings_on_the_page_are_those_of_the_code(tmp_path: Path) -> None:
    gate, watch, values = blocks("yaml")
    (tmp_path / "gate.yaml").write_text(gate)
    assert read_thresholds(tmp_path / "gate.yaml") == Thresholds()  # "these are the defaults"
    commented = [line.removeprefix("# ") for line in gate.splitlines() if line.startswith("# ")]
    for line in (line for line in commented if ": " in line):
        text = line.split("   #")[0]
        values_of = yaml.safe_load(text if text.startswith("classes") else f"{{{text}}}")
        Thresholds.model_validate(values_of)
    assert WatchSettings.model_validate(yaml.safe_load(watch)["watch"]) == WatchSettings()
    config = yaml.safe_load(re.sub(r"([0-9a-f]{4,})…", lambda found: found[1].ljust(64, "0"), values))
    ServingConfig.model_validate(config["serve"]["deployment"]["user_config"])
