"""What the store keeps, for how long and how it is cut: one closed YAML section, checked as a whole.

    retention_days: {raw: 7, minutes: 90, hours: 1095, days: null}   # null keeps for ever
    late_horizon_hours: 24

Every key has a default. `maintain` and `upgrade` apply the settings; nothing in them needs a migration.
Retention that would lose numbers before they are settled is refused here, with the key, the value and what
is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from framegrid_store.errors import StoreError

Days = Annotated[float, Field(gt=0, le=36_500)]
ROLL_UP_WINDOW = timedelta(hours=1)
"""What maintenance may be behind before the operator is told; raw rows stay at least that much longer."""
LONGEST_SPOOL = timedelta(days=7)
"""A batch may wait this long in a writer's spool; the ledger must still know it when it is sent again."""


class RetentionDays(BaseModel):
    """How long rows stay, in days, by kind; null: for ever. Raw rows pass through every coarser kind
    before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Counts and coverage as ingest sent them (bi.counts_5s). 1,000 cameras make 30 GB a day of them.
    raw: Days | None = 7
    # Roll-ups (bi.counts_minute, bi.coverage). 1,000 cameras: 1 GB a day. A changed time zone re-cuts days
    # as far back as minutes reach.
    minutes: Days | None = 90
    # bi.counts_hour. 1,000 cameras: 4 GB a year.
    hours: Days | None = 1095
    # bi.counts_day. 1,000 cameras: 0.2 GB a year.
    days: Days | None = None
    # One row per object followed: about persons, so not kept longer than asked for.
    tracks: Days | None = 90
    crossings: Days | None = 365
    events: Days | None = 365
    # Single boxes, off by default; 20,000 a second are 280 GB a day.
    detections: Days | None = 2
    # Ids of stored batches: what recognises a batch that is sent twice.
    ledger: Days | None = 14
    # The notes about late rows and rows from the future.
    skewed: Days | None = 90


class StoreSettings(BaseModel):
    """The store's own settings; the database's address is not among them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retention_days: RetentionDays = RetentionDays()
    # Rows older than this when they arrive are noted as late. They count all the same.
    late_horizon_hours: Annotated[float, Field(gt=0, le=8760)] = 24
    # Rows further ahead than this are noted: a clock is wrong. They count all the same.
    future_limit_s: Annotated[float, Field(ge=1, le=86_400)] = 300
    # TimescaleDB Community: chunks older than this go to the columnstore. After the late horizon: late rows
    # in compressed chunks work, and cost.
    columnstore: bool = True
    compress_after_hours: Annotated[float, Field(gt=0, le=87_600)] = 48
    # Planned; the more of this and of what is there decides how long a chunk is.
    cameras: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    # One row a second for each of two classes.
    rows_per_s_per_camera: Annotated[float, Field(gt=0, le=1000)] = 2.0
    # Raw rows of a minute are rolled up this long after its end; what comes later is added by the next round.
    settle_s: Annotated[float, Field(ge=0, le=3600)] = 15
    # Between two rounds of roll-ups. Readers see everything anyhow; a long pause makes them read more raw
    # rows.
    roll_up_every_s: Annotated[float, Field(ge=0.1, le=3600)] = 15
    # Between two looks at chunks and retention.
    retention_every_s: Annotated[float, Field(ge=1, le=86_400)] = 600

    @model_validator(mode="after")
    def _keeps_what_is_not_settled(self) -> StoreSettings:
        keep, late = self.retention_days, timedelta(hours=self.late_horizon_hours)
        least = (late + ROLL_UP_WINDOW) / timedelta(days=1)
        if keep.raw is not None and keep.raw <= least:
            raise ValueError(
                f"expected retention_days.raw of more than {least:g} (late_horizon_hours and an hour"
                f" to roll up), got {keep.raw:g}: late rows would be dropped as they come"
            )
        finer, finer_days = "raw", keep.raw
        for name in ("minutes", "hours", "days"):
            days = getattr(keep, name)
            if days is not None and (finer_days is None or days < finer_days):
                shown = "null" if finer_days is None else f"{finer_days:g}"
                raise ValueError(
                    f"expected retention_days.{name} of at least retention_days.{finer} ({shown}),"
                    f" got {days:g}: coarse numbers outlive fine ones"
                )
            finer, finer_days = name, days
        return self._compresses_what_is_settled(late)._knows_spooled_batches()

    def _compresses_what_is_settled(self, late: timedelta) -> StoreSettings:
        if self.columnstore and timedelta(hours=self.compress_after_hours) <= late:
            raise ValueError(
                "expected compress_after_hours of more than late_horizon_hours"
                f" ({self.late_horizon_hours:g}), got {self.compress_after_hours:g}:"
                " late rows would go into compressed chunks"
            )
        return self

    def _knows_spooled_batches(self) -> StoreSettings:
        ledger = self.retention_days.ledger
        least = LONGEST_SPOOL / timedelta(days=1)
        if ledger is not None and ledger <= least:
            raise ValueError(
                f"expected retention_days.ledger of more than {least:g} (how long a writer may keep a batch),"
                f" got {ledger:g}: a batch sent again would be stored twice"
            )
        return self


def load_settings(path: Path | None) -> StoreSettings:
    """The settings in a YAML file, or the defaults. Raises `StoreError` that names every mistake."""
    if path is None:
        return StoreSettings()
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise StoreError(f"{path}: not readable as YAML: {' '.join(str(error).split())[:200]}") from error
    return parse_settings({} if values is None else values, str(path))


def parse_settings(values: Any, where: str = "store settings") -> StoreSettings:
    """Settings from a mapping, e.g. a section of another file that `where` names. Raises `StoreError`."""
    if not isinstance(values, Mapping):
        raise StoreError(f"{where}: expected keys and values, got {type(values).__name__}")
    try:
        return StoreSettings.model_validate(dict(values))
    except ValidationError as error:
        problems = "; ".join(_problem(found) for found in error.errors(include_url=False))
        raise StoreError(f"{where}: {problems}") from error


def _problem(error: Any) -> str:
    at = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        section = RetentionDays if len(error["loc"]) > 1 else StoreSettings
        return f"{at}: unknown key; expected one of {', '.join(section.model_fields)}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{at}: {message}, got {str(error['input'])[:64]!r}" if at else message
