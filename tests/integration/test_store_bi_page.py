"""Every query of store/BI.md runs as role bi over a day of simulated cameras: rows, of plain types."""

import re
from pathlib import Path

import psycopg
import pytest
from databases.day import HOURS, START
from databases.editions import Database

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "store" / "BI.md"
FROM, TO = f"'{START:%Y-%m-%dT%H:%M:%SZ}'", "'2026-10-25T23:00:00Z'"
# What the tools put in place of their own words before the database sees a query.
REPLACED = (
    (r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {FROM} AND {TO}"),
    (r"\$__timeGroupAlias\((\w+), *'1h'\)", r'floor(extract(epoch from \1)/3600)*3600 AS "time"'),
    (r"\{\{camera\}\}", "'north-gate'"),
    (r"\{\{since\}\}", f"timestamp with time zone {FROM}"),
)
PLAIN = {"timestamptz", "int4", "int8", "float8", "text", "bool"}
# Grafana's own macro makes a number of seconds of it.
PLAIN_FOR_GRAFANA = PLAIN | {"numeric"}


def queries() -> list[tuple[str, str]]:
    found, tool = [], ""
    for part in re.split(r"^(## .+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        if part.startswith("## "):
            tool = part[3:]
        else:
            blocks = re.findall(r"^```sql\n(.*?)^```$", part, flags=re.MULTILINE | re.DOTALL)
            found += [(f"{tool} {place}", block) for place, block in enumerate(blocks, start=1)]
    return found


def test_every_tool_has_a_connection_and_three_queries() -> None:
    tools = [name.rpartition(" ")[0] for name, _ in queries()]
    for tool in ("Superset", "Power BI", "Excel", "Tableau", "Metabase", "Grafana"):
        assert tools.count(tool) == 3, tool


def test_every_query_on_the_page_gives_rows_of_plain_types(day: Database) -> None:
    with psycopg.connect(day.bi_url, autocommit=True) as reader:
        for name, query in queries():
            statement = query
            for pattern, text in REPLACED:
                statement = re.sub(pattern, text, statement)
            cursor = reader.execute(statement)
            assert cursor.fetchone() is not None, f"{name}: no rows"
            assert cursor.description is not None
            types = {column.type_display.partition("(")[0] for column in cursor.description}
            assert types <= (PLAIN_FOR_GRAFANA if "$__timeGroup" in query else PLAIN), f"{name}: {types}"
    assert HOURS == 25, "the range above is the day's"
