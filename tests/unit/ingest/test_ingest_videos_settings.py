"""The video service's settings as ingest's README states them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from framegrid_ingest.errors import ConfigError
from framegrid_ingest.videos.settings import VideoSettings, load_settings

README = Path(__file__).parents[3] / "ingest" / "README.md"


def test_the_readme_states_every_key_with_its_default() -> None:
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## Videos that people upload") :]
    stated = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", section, flags=re.DOTALL)[0])
    settings = VideoSettings.model_validate(stated)
    assert set(stated) | {"http_host"} == set(VideoSettings.model_fields)
    defaults = VideoSettings(serve_url=settings.serve_url, folder=settings.folder)
    assert settings == defaults


def test_a_wrong_file_names_every_key_that_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "videos.yaml"
    config.write_text("serve_url: http://x\nfolder: v\nworkers: 0\nsurprise: 1\n")
    with pytest.raises(ConfigError) as error:
        load_settings(config)
    assert {problem.key for problem in error.value.problems} == {"workers", "surprise"}
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "missing.yaml")
