"""The drivers that BI tools connect by: psycopg (Python), psqlODBC (Excel, Tableau, Power BI by ODBC), JDBC.

Each answers with plain tuples (aware datetimes, int, float, str, None), and gives the SQLSTATE of a refusal.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import psycopg
from databases.timescale import CACHE

ODBC_DRIVERS = (
    Path("/usr/lib/x86_64-linux-gnu/odbc/psqlodbcw.so"),
    Path("/usr/lib/aarch64-linux-gnu/odbc/psqlodbcw.so"),
)
JDBC_VERSION = "42.7.14"
JDBC_URL = (
    f"https://repo1.maven.org/maven2/org/postgresql/postgresql/{JDBC_VERSION}/postgresql-{JDBC_VERSION}.jar"
)
JDBC_SHA256 = "73914527305a40cce504b0d3d90b23caf565136912d607ae8ae7c5895512332c"
QUERY_PROGRAM = Path(__file__).with_name("Query.java")

Answer = list[tuple[Any, ...]]


class RefusedError(Exception):
    """The server said no; `args[0]` is the SQLSTATE."""


class Driver(Protocol):
    """One connection as role bi."""

    def run(self, *statements: str) -> list[Answer | RefusedError]:
        """The answer, or the refusal, of each statement, in one session."""


def missing_odbc() -> str:
    """Why ODBC cannot be tried; empty when it can."""
    if not any(path.exists() for path in ODBC_DRIVERS):
        return "needs psqlODBC: apt-get install unixodbc odbc-postgresql"
    return ""


def missing_jdbc() -> str:
    """Why JDBC cannot be tried; empty when it can."""
    return "" if shutil.which("java") else "needs Java: apt-get install default-jre-headless"


class Psycopg:
    """psycopg 3, as Python programs connect."""

    def __init__(self, url: str) -> None:
        self._url = url

    def run(self, *statements: str) -> list[Answer | RefusedError]:
        answers: list[Answer | RefusedError] = []
        with psycopg.connect(self._url, autocommit=True) as connection:
            for statement in statements:
                try:
                    cursor = connection.execute(statement)  # type: ignore[arg-type]
                    answers.append(cursor.fetchall() if cursor.description else [])
                except psycopg.Error as error:
                    answers.append(RefusedError(error.sqlstate))
        return answers


class Odbc:
    """psqlODBC through unixODBC, with no entry in odbc.ini."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        driver = next(path for path in ODBC_DRIVERS if path.exists())
        self._connection = (
            f"DRIVER={driver};SERVER={parts.hostname};PORT={parts.port};DATABASE={parts.path[1:]};"
            f"UID={parts.username};PWD={{{unquote(parts.password or '')}}}"
        )

    def run(self, *statements: str) -> list[Answer | RefusedError]:
        import pyodbc

        answers: list[Answer | RefusedError] = []
        connection = pyodbc.connect(self._connection, autocommit=True)
        try:
            for statement in statements:
                try:
                    cursor = connection.execute(statement)
                    answers.append([_utc(row) for row in cursor.fetchall()] if cursor.description else [])
                except pyodbc.Error as error:
                    answers.append(RefusedError(error.args[0]))
        finally:
            connection.close()
        return answers


class Jdbc:
    """PostgreSQL's JDBC driver, in a Java machine whose own time zone is far away."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = f"jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}"
        self._password = unquote(parts.password or "")

    def run(self, *statements: str) -> list[Answer | RefusedError]:
        command = ["java", "-Duser.timezone=Asia/Tokyo", "-cp", str(jdbc_jar()), str(QUERY_PROGRAM)]
        lines = [self._address, self._password, *(" ".join(text.split()) for text in statements)]
        done = subprocess.run(
            command, input="\n".join(lines), capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        answers: list[Answer | RefusedError] = []
        rows: Answer = []
        for line in done.stdout.splitlines():
            kind, *values = line.split("\t")
            if kind == "row":
                rows.append(tuple(_from_java(value) for value in values))
            else:
                answers.append(RefusedError(values[0]) if kind == "error" else rows)
                rows = []
        return answers


def jdbc_jar() -> Path:
    """The driver from Maven Central, fetched once and checked by its sha256."""
    jar = CACHE / f"postgresql-{JDBC_VERSION}.jar"
    if not jar.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(JDBC_URL, timeout=60) as answer:
            content = answer.read()
        found = hashlib.sha256(content).hexdigest()
        assert found == JDBC_SHA256, f"expected sha256 {JDBC_SHA256} of {JDBC_URL}, got {found}"
        partial = jar.with_suffix(f".{os.getpid()}")
        partial.write_bytes(content)
        partial.rename(jar)
    return jar


def _utc(row: Sequence[Any]) -> tuple[Any, ...]:
    # ODBC has no time zones: psqlODBC hands timestamptz over in the session's, which is UTC for role bi.
    return tuple(
        value.replace(tzinfo=timezone.utc) if isinstance(value, datetime) else value for value in row
    )


def _from_java(text: str) -> Any:
    if text == "null":
        return None
    kind, _, value = text.partition(":")
    if kind == "Instant":
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    return {"String": str, "Integer": int, "Long": int, "Double": float, "Boolean": "true".__eq__}[kind](
        value
    )
