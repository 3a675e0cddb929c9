"""Settings of the store: a closed schema, and retention that never loses what is not settled."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from framegrid_store.errors import StoreError
from framegrid_store.reconcile import KINDS_KEPT, keep_of
from framegrid_store.settings import RetentionDays, StoreSettings, load_settings, parse_settings


def test_every_key_has_a_default_and_null_keeps_for_ever() -> None:
    found = parse_settings({"retention_days": {"raw": None, "minutes": None, "hours": None}})
    assert found.retention_days.raw is None
    assert keep_of(found, "raw") is None
    assert keep_of(StoreSettings(), "raw") == timedelta(days=7)
    assert load_settings(None) == parse_settings({}) == StoreSettings()


def test_every_kind_of_row_has_a_retention() -> None:
    assert set(KINDS_KEPT.values()) == set(RetentionDays.model_fields)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"retention_days": {"raw": 1}}, r"retention_days\.raw of more than 1\.04167 .* got 1"),
        (
            {"late_horizon_hours": 200, "compress_after_hours": 300},
            r"retention_days\.raw of more than 8\.375",
        ),
        (
            {"retention_days": {"minutes": 3}},
            r"retention_days\.minutes of at least retention_days\.raw \(7\), got 3",
        ),
        (
            {"retention_days": {"minutes": None}},
            r"retention_days\.hours of at least .*minutes \(null\), got 1095",
        ),
        (
            {"retention_days": {"days": 30}},
            r"retention_days\.days of at least retention_days\.hours \(1095\)",
        ),
        (
            {"compress_after_hours": 24},
            r"compress_after_hours of more than late_horizon_hours \(24\), got 24",
        ),
        (
            {"retention_days": {"ledger": 2}},
            r"retention_days\.ledger of more than 7 .*, got 2: .* stored twice",
        ),
        ({"retention_days": {"raw": -1}}, r"retention_days\.raw: Input should be greater than 0, got '-1'"),
        (
            {"retention_days": {"weeks": 1}},
            r"retention_days\.weeks: unknown key; expected one of raw, minutes",
        ),
        ({"retain": 1}, r"retain: unknown key; expected one of retention_days"),
        ({"cameras": "many"}, r"cameras: Input should be a valid integer.*, got 'many'"),
        ([1], "expected keys and values, got list"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_is_allowed(values: object, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        parse_settings(values)


def test_without_a_columnstore_nothing_is_said_about_compression() -> None:
    assert parse_settings({"columnstore": False, "compress_after_hours": 1}).compress_after_hours == 1


def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "store.yaml"
    path.write_text("retention_days: {raw: 3, tracks: 30}\n")
    assert load_settings(path).retention_days.tracks == 30
    path.write_text("retention_days: {raw: 3\n")
    with pytest.raises(StoreError, match=r"store\.yaml: not readable as YAML"):
        load_settings(path)
    with pytest.raises(StoreError, match=r"other\.yaml: cannot be read"):
        load_settings(tmp_path / "other.yaml")
    path.write_text("")
    assert load_settings(path) == StoreSettings()


def test_the_readme_shows_the_defaults() -> None:
    readme = (Path(__file__).parents[3] / "store" / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(retention_days:.*?)```", readme, re.DOTALL)
    values = yaml.safe_load(shown)
    assert parse_settings(values) == StoreSettings()
    assert set(values) == set(StoreSettings.model_fields)
    assert set(values["retention_days"]) == set(RetentionDays.model_fields)
