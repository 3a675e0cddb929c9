"""What the `bi` views must say, worked out from the rows that were sent, in Python and without any SQL.

Whole numbers throughout; local days by zoneinfo. A bucket's key is its start in UTC, or the local date.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from decimal import Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from framegrid_store.rows import CountRow, CoverageRow, Row

VIEWS = {"counts_5s": 5, "counts_minute": 60, "counts_hour": 3600, "counts_day": 0}
DROPS = ("dropped_no_frame", "dropped_overload", "dropped_stale", "dropped_refused", "dropped_corrupt")
Facts = dict[str, Any]


def expected(rows: Iterable[Row], zones: Mapping[str, str], view: str) -> dict[tuple[Any, ...], Facts]:
    """By bucket, camera, class and zone: all that the view says of whole numbers, means and deviations."""
    rows = list(rows)
    counts: dict[tuple[Any, ...], list[CountRow]] = defaultdict(list)
    seen: dict[tuple[Any, ...], list[CoverageRow]] = defaultdict(list)
    series: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        if isinstance(row, CountRow):
            counts[_bucket(row, zones, view), row.camera, row.cls, row.zone].append(row)
            series[row.camera].add((row.cls, row.zone))
        elif isinstance(row, CoverageRow):
            seen[_bucket(row, zones, view), row.camera].append(row)
    keys = set(counts) | {(*key, *one) for key in seen for one in series[key[1]]}
    return {key: {**_count(counts[key]), **_coverage(seen[key[:2]])} for key in keys}


def found(connection: psycopg.Connection, view: str) -> dict[tuple[Any, ...], Facts]:
    """The same from the view."""
    columns = (
        'samples, n_sum, n_sumsq, "min", "max", uniques, mean, stddev, score_mean, observed_s, expected,'
        f" processed, dropped, {', '.join(DROPS)}"
    )
    names = [name.strip().strip('"') for name in columns.split(",")]
    query = f"SELECT time, local_time, camera, class, zone, {columns} FROM bi.{view}"
    rows = connection.execute(query).fetchall()  # type: ignore[arg-type]
    told = {
        (row[1][:10] if view == "counts_day" else row[0].astimezone(timezone.utc), *row[2:5]): dict(
            zip(names, row[5:], strict=True)
        )
        for row in rows
    }
    assert len(told) == len(rows), f"bi.{view} has a bucket twice"
    return told


def _bucket(row: CountRow | CoverageRow, zones: Mapping[str, str], view: str) -> datetime | str:
    at = datetime.fromtimestamp(row.time_s, timezone.utc)
    if width_s := VIEWS[view]:
        return datetime.fromtimestamp(row.time_s // width_s * width_s, timezone.utc)
    return f"{at.astimezone(ZoneInfo(zones[row.camera])):%Y-%m-%d}"


def _count(rows: list[CountRow]) -> Facts:
    looked = [row for row in rows if row.samples]
    samples, n_sum, n_sumsq = (
        sum(getattr(row, name) for row in rows) for name in ("samples", "n_sum", "n_sumsq")
    )
    score_milli_sum = sum(round(row.score_mean * row.n_sum * 1000) for row in rows)
    return {
        "samples": samples,
        "n_sum": n_sum,
        "n_sumsq": n_sumsq,
        "min": min((row.n_min for row in looked), default=None),
        "max": max((row.n_max for row in looked), default=None),
        "uniques": sum(row.uniques for row in rows),
        "mean": n_sum / samples if samples else None,
        "stddev": _stddev(samples, n_sum, n_sumsq) if samples > 1 else None,
        "score_mean": score_milli_sum / 1000 / n_sum if n_sum else None,
    }


def _stddev(samples: int, n_sum: int, n_sumsq: int) -> float:
    with localcontext(prec=60):
        over = Decimal(n_sumsq * samples - n_sum * n_sum) / (samples * (samples - 1))
        return float(over.sqrt())


def _coverage(rows: list[CoverageRow]) -> Facts:
    observed_ms = sum(round(row.observed_s * 1000) for row in rows)
    facts: Facts = {"observed_s": observed_ms / 1000}
    for name in ("expected", "processed", *DROPS):
        facts[name] = sum(getattr(row, name) for row in rows)
    facts["dropped"] = facts["expected"] - facts["processed"]
    return facts


def differences(said: Mapping[Any, Facts], true: Mapping[Any, Facts]) -> list[str]:
    """What differs, as sentences. A deviation may differ in a float's last digit, nothing else in any."""
    problems = [f"missing {key}" for key in true.keys() - said.keys()]
    problems += [f"too many {key}: {said[key]}" for key in said.keys() - true.keys()]
    for key in said.keys() & true.keys():
        for name, value in true[key].items():
            got = said[key][name]
            close = name == "stddev" and None not in (got, value) and math.isclose(got, value, rel_tol=4e-16)
            if got != value and not close:
                problems.append(f"{key} {name}: expected {value!r}, got {got!r}")
    return problems
