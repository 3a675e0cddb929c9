"""The chart's README is true: its table is values.yaml's, its commands name what is there."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest
import yaml
from chart.rendering import CHART, EXAMPLES, ROOT

README = (CHART / "README.md").read_text(encoding="utf-8")
VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def values_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("values_table", ROOT / "charts" / "values_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_values_is_current(values_table: ModuleType) -> None:
    assert values_table.page(README, VALUES) == README, "run `make chart-docs`"


def test_a_value_without_a_description_is_an_error(values_table: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"a\.c: expected a comment"):
        list(values_table.rows("a:\n  # -- Told.\n  b: 1\n  c: 2\n"))


def test_a_description_stands_for_all_below_it_and_may_take_two_lines(values_table: ModuleType) -> None:
    rows = list(values_table.rows("# -- One\n# two.\na:\n  b: 1\n  c: {d: 2}\n"))
    assert rows == [("a", '{"b": 1, "c": {"d": 2}}', "One two.")]


def test_every_example_is_in_the_readme_and_every_one_named_there_exists() -> None:
    assert sorted(set(re.findall(r"examples/(\w+)\.yaml", README))) == EXAMPLES


def test_every_make_target_named_in_the_readmes_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for path in (CHART / "README.md", ROOT / "k8s" / "README.md", ROOT / "README.md"):
        named = set(re.findall(r"`?make ([a-z-]+)", path.read_text(encoding="utf-8")))
        assert named <= targets, path


def test_the_camera_of_the_readme_has_keys_that_the_resource_has() -> None:
    (text,) = re.findall(r"```yaml\n(apiVersion: v1\nkind: Secret.*?)```", README, re.S)
    camera = next(o for o in yaml.safe_load_all(text) if o["kind"] == "Camera")
    crd = yaml.safe_load((CHART / "crds" / "cameras.framegrid.io.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    known = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert camera["apiVersion"] == f"{crd['spec']['group']}/{version['name']}"
    assert set(camera["spec"]) <= set(known)
