"""The page's modules lie next to `app.py`, and Streamlit puts their folder on the path; so do its tests."""

from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "dashboards" / "streamlit"


@pytest.fixture(autouse=True)
def page_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PAGE))
