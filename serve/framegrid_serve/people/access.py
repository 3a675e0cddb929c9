"""Who is asking: the one place where tokens will be checked.

Every route of the API for people depends on `caller`. Today everybody is let in as `anonymous`; a check of a
bearer token replaces the body of this function (raise RefusedError(401, …)) and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may ask."""

    name: str


async def caller(request: Request) -> Caller:
    """The dependency of every route."""
    del request  # a token would be in its headers
    return Caller("anonymous")
