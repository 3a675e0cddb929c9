"""`chart(...)` renders the chart with helm and answers questions about its objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from chart.rendering import Rendered, find_tool, render


@pytest.fixture(scope="session")
def helm() -> str:
    """Path of helm; without it these tests are left out, and say how to get it."""
    found = find_tool("helm")
    if found is None:
        pytest.skip("needs helm: make chart-tools (Go), or put it on PATH")
    return found


@pytest.fixture
def chart(helm: str) -> Iterator[Callable[..., Rendered]]:
    """Render with values: `chart("ray.mode=static", example="edge")`."""
    yield lambda *values, **options: render(helm, *values, **options)
