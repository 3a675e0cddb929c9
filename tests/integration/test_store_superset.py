"""Apache Superset over a day of simulated cameras: database, dataset and charts by its API, true numbers."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest
from databases.day import simulated
from databases.editions import Database
from databases.superset import Superset, missing
from framegrid_store.logins import set_password

pytestmark = [
    pytest.mark.integration,
    pytest.mark.tools,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

PASSWORD = "a percent sign is lost on Superset".replace(" ", "-")


@pytest.fixture(scope="module")
def superset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Superset]:
    with Superset(tmp_path_factory.mktemp("superset")) as running:
        yield running


@pytest.fixture
def database_id(superset: Superset, day: Database) -> Iterator[int]:
    """The day's database, registered as role bi. DML is allowed, so that it is PostgreSQL that refuses."""
    set_password(day.url, "bi", PASSWORD)
    uri = day.as_role("bi", PASSWORD).replace("postgresql://", "postgresql+psycopg2://")
    body = {"database_name": day.url.rpartition("/")[2], "sqlalchemy_uri": uri, "expose_in_sqllab": True}
    made = superset.post("/database/", {**body, "allow_dml": True, "allow_ctas": True})["id"]
    yield int(made)
    assert superset.api.delete(f"/database/{made}").is_success


@pytest.fixture
def dataset_id(superset: Superset, database_id: int) -> Iterator[int]:
    body = {"database": database_id, "schema": "bi", "table_name": "counts_minute"}
    made = superset.post("/dataset/", body)["id"]
    yield int(made)
    # With its metadata in SQLite, Superset takes one dataset of a name at a time.
    assert superset.api.delete(f"/dataset/{made}").is_success


def chart(superset: Superset, dataset_id: int, query: dict[str, Any]) -> list[dict[str, Any]]:
    answer = superset.post(
        "/chart/data",
        {
            "datasource": {"id": dataset_id, "type": "table"},
            "queries": [{"row_limit": 50_000, "time_range": "No filter", **query}],
            "result_format": "json",
            "result_type": "full",
        },
    )
    (result,) = answer["result"]
    assert result["error"] is None
    rows: list[dict[str, Any]] = result["data"]
    return rows


def metric(expression: str, label: str) -> dict[str, str]:
    return {"expressionType": "SQL", "sqlExpression": expression, "label": label}


def when(row: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(row["time"] / 1000, timezone.utc)


METRICS = [
    metric("SUM(samples)", "samples"),
    metric("SUM(n_sum)", "objects"),
    metric("SUM(n_sum) / NULLIF(SUM(samples), 0)::float8", "mean"),
    metric('MAX("max")', "most"),
    metric("SUM(observed_s)", "seen_s"),
]


def test_the_dataset_has_the_columns_with_their_types(superset: Superset, dataset_id: int) -> None:
    answer = superset.api.get(f"/dataset/{dataset_id}")
    columns = {column["column_name"]: column for column in answer.json()["result"]["columns"]}
    assert columns["time"]["is_dttm"] is True
    assert columns["time"]["type"] == "TIMESTAMP WITH TIME ZONE"
    assert (columns["mean"]["type"], columns["n_sum"]["type"]) == ("DOUBLE PRECISION", "BIGINT")


def test_a_chart_per_hour_shows_the_true_numbers(superset: Superset, dataset_id: int) -> None:
    hour = {
        "timeGrain": "PT1H",
        "columnType": "BASE_AXIS",
        "sqlExpression": "time",
        "label": "time",
        "expressionType": "SQL",
    }
    rows = chart(
        superset,
        dataset_id,
        {"columns": [hour, "camera", "class", "zone"], "metrics": METRICS, "orderby": [["camera", True]]},
    )
    found = {
        (when(row), row["camera"], row["class"], row["zone"]): (
            int(row["samples"]), int(row["objects"]), row["mean"], row["most"], row["seen_s"],
        )
        for row in rows
    }  # fmt: skip
    true = {
        key: (b.samples, sum(b.values), b.mean, max(b.values, default=None), b.observed_s)
        for key, b in simulated().hours.items()
    }
    assert found == true


def test_a_filtered_chart_by_camera_shows_the_true_numbers(superset: Superset, dataset_id: int) -> None:
    filters = [
        {"col": "class", "op": "==", "val": "person"},
        {"col": "zone", "op": "==", "val": ""},
    ]
    rows = chart(
        superset,
        dataset_id,
        {
            "columns": ["camera"],
            "metrics": METRICS[:2],
            "filters": filters,
            "time_range": "2026-10-25T08:00:00 : 2026-10-25T12:00:00",
            "granularity": "time",
            "orderby": [["camera", True]],
        },
    )
    true: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (at, camera, cls, zone), bucket in simulated().minutes.items():
        if (cls, zone) == ("person", "") and at.day == 25 and 8 <= at.hour < 12:
            true[camera][0] += bucket.samples
            true[camera][1] += sum(bucket.values)
    assert {row["camera"]: [int(row["samples"]), int(row["objects"])] for row in rows} == dict(true)


REFUSED = {
    "DELETE FROM bi.models": "permission denied for view models",
    "CREATE TABLE bi.mine AS SELECT 1 AS a": "read-only transaction",
    "SELECT count(*) FROM framegrid.camera": "permission denied for schema framegrid",
}


def test_sql_lab_reads_and_is_refused_the_rest_by_the_database(superset: Superset, database_id: int) -> None:
    def lab(statement: str) -> httpx.Response:
        body = {"database_id": database_id, "sql": statement, "schema": "bi", "runAsync": False}
        return superset.api.post("/sqllab/execute/", json=body)

    allowed = lab("SELECT count(*) AS cameras FROM cameras")
    assert allowed.is_success and allowed.json()["data"] == [{"cameras": 4}], allowed.text
    for statement, refusal in REFUSED.items():
        answer = lab(statement)
        assert not answer.is_success
        assert refusal in answer.text
