"""One database URL, and what may be said about it.

`postgresql://user:password@host:port/name` is taken as libpq takes it (`postgres://` and SQLAlchemy's
`postgresql+psycopg://` too). Nothing here, and nothing that goes through `sanitised`, ever shows the
password.
"""

from __future__ import annotations

import os
import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from framegrid_store.errors import StoreError

DATABASE_URL_VARIABLE = "FRAMEGRID_DATABASE_URL"
CONNECT_TIMEOUT_S = 10
# A peer that vanished without a word is noticed within about half a minute instead of the kernel's two hours.
KEEPALIVE = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

# Bounded: a long text without a scheme would take time by its square.
_USERINFO = re.compile(r"(\w{1,24}(?:\+\w{1,24})?://)[^/@\s]*@")
_PASSWORD_WORD = re.compile(r"(password\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)


def database_url_from_environment() -> str:
    """The URL in FRAMEGRID_DATABASE_URL. Raises `StoreError` when it is not set."""
    url = os.environ.get(DATABASE_URL_VARIABLE, "")
    if not url:
        raise StoreError(
            f"expected a database URL in {DATABASE_URL_VARIABLE}, got nothing; "
            "set it to postgresql://user:password@host:5432/database"
        )
    return url


def parameters(database_url: str) -> dict[str, Any]:
    """libpq's connection parameters of a URL. Raises `StoreError`, without the URL, when it cannot be
    read."""
    url = re.sub(r"^(postgres|postgresql)\+\w+://", "postgresql://", database_url.strip())
    try:
        found = dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:
        # libpq quotes the text that it could not read, password and all: so not chained and not shown.
        found = None
    if not found:
        raise StoreError(
            "expected a database URL like postgresql://user:password@host:5432/database, got one that "
            "PostgreSQL's client cannot read; percent-encode special characters in the password"
        )
    return found


def connect(
    database_url: str,
    *,
    application_name: str,
    autocommit: bool = False,
    connect_timeout_s: int = CONNECT_TIMEOUT_S,
) -> psycopg.Connection:
    """Open one connection that works behind PgBouncer (no prepared statements, no startup options)."""
    settings = {"connect_timeout": connect_timeout_s, "application_name": application_name, **KEEPALIVE}
    return psycopg.connect(
        **{**settings, **parameters(database_url)}, autocommit=autocommit, prepare_threshold=None
    )


def describe(database_url: str) -> str:
    """`user@host:port/name`, for messages."""
    found = parameters(database_url)
    user, host = found.get("user", ""), found.get("host", "localhost")
    return f"{user + '@' if user else ''}{host}:{found.get('port', 5432)}/{found.get('dbname', '')}"


def sanitised(error: BaseException | str, database_url: str = "") -> str:
    """The first line of an error, at most 256 characters, with every credential taken out."""
    text = str(error).strip() or type(error).__name__
    return redacted(next(iter(text.splitlines()), ""), database_url)[:256]


def redacted(text: str, database_url: str = "") -> str:
    """The text with every credential taken out: of this database, and of any URL in it."""
    if database_url:
        text = text.replace(database_url, "postgresql://…")
        try:
            password = parameters(database_url).get("password")
        except StoreError:
            password = None
        if password:
            text = text.replace(str(password), "***")
    return _PASSWORD_WORD.sub(r"\1***", _USERINFO.sub(r"\1***@", text))
