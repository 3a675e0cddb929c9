"""Schema `bi_site`: the views of `bi` again, for logins that may see the cameras of some sites alone.

Each view is a security barrier: a condition that a reader writes is tried on that reader's rows only, so that
not even an error message tells of others. The price is that a comparison of `time` with a timestamp without
zone is tried late; with a timestamptz the indexes serve as in `bi`. That is why schema `bi` has none.
Whose rows they are follows from `session_user`, which SET ROLE does not change. Row security on the tables
themselves would end TimescaleDB's compression.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import psycopg
from psycopg import sql

SCHEMA = "bi_site"
_OWN_SITES = "ARRAY(SELECT s.site FROM framegrid.site_reader s WHERE s.role = session_user)"


class CommentedView(Protocol):
    """What is needed of a view of schema bi."""

    @property
    def name(self) -> str: ...
    @property
    def comment(self) -> str: ...
    @property
    def columns(self) -> Mapping[str, str]: ...


def drop_views(connection: psycopg.Connection) -> None:
    """Drop the schema's views: those of `bi` are about to change under them."""
    found = connection.execute(
        "SELECT viewname FROM pg_views WHERE schemaname = %s ORDER BY 1", (SCHEMA,)
    ).fetchall()
    if found:
        names = sql.SQL(", ").join(sql.Identifier(SCHEMA, name) for (name,) in found)
        connection.execute(sql.SQL("DROP VIEW {}").format(names))


def create_views(connection: psycopg.Connection, views: Iterable[CommentedView]) -> None:
    """Create the schema and a view in it for each of `bi`, comments included."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    for view in views:
        name = sql.Identifier(SCHEMA, view.name)
        columns = sql.SQL(", ").join(map(sql.Identifier, view.columns))
        mine = f"WHERE site = ANY ({_OWN_SITES})" if "site" in view.columns else ""
        connection.execute(
            sql.SQL("CREATE VIEW {name} WITH (security_barrier) AS SELECT {columns} FROM {source} ").format(
                name=name, columns=columns, source=sql.Identifier("bi", view.name)
            )
            + sql.SQL(mine)  # type: ignore[arg-type]
        )
        comment = sql.SQL("COMMENT ON {kind} {place} IS {words}")
        connection.execute(comment.format(kind=sql.SQL("VIEW"), place=name, words=sql.Literal(view.comment)))
        for column, words in view.columns.items():
            place = sql.Identifier(SCHEMA, view.name, column)
            connection.execute(comment.format(kind=sql.SQL("COLUMN"), place=place, words=sql.Literal(words)))
