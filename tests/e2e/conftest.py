"""Tests marked `cluster` need root and 15 minutes: `make test-cluster` runs them.

Else the end of the run says that they did not run.
"""

from __future__ import annotations

import pytest

LEFT_OUT = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "cluster" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("cluster")]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] = len(left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.stash.get(LEFT_OUT, 0)
    if count:
        terminalreporter.write_line(
            f"NOT RUN: {count} tests on a real Kubernetes cluster; `make test-cluster` runs them", yellow=True
        )
