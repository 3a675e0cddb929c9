"""What a Ray worker imports before it has work, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

pytest.importorskip("pandas", reason="needs pandas (the extra `dashboards`)")


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_ray_serve_comes_without_pandas_which_stays_importable() -> None:
    code = """
import sys
import framegrid_serve.worker_preload
assert "ray.serve" in sys.modules
print("pandas" in sys.modules)
import pandas
print(len(pandas.DataFrame({"a": [1, 2]})))
"""
    assert run(code).splitlines() == ["False", "2"]


def test_a_process_that_is_no_worker_imports_no_application_and_starts_no_ray() -> None:
    code = """
import sys
import framegrid_serve.worker_preload as preload
preload._IDLE_AFTER_S = 0.0
preload.import_application_when_idle()
import ray
print("framegrid_serve.app" in sys.modules, ray.is_initialized())
"""
    assert run(code) == "False False"


def test_pandas_that_is_there_already_stays() -> None:
    code = """
import pandas
import framegrid_serve.worker_preload
import sys
print(sys.modules["pandas"] is pandas)
"""
    assert run(code) == "True"
