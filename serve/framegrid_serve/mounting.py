"""Hands a request to another ASGI app, from within Ray Serve's plain `__call__`.

Ray Serve sends a returned Response by calling it as an ASGI app. So the route of frames stays a function of a
request, without a framework's routing and validation, and all other paths get a whole FastAPI app.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class HandedOver(Response):  # type: ignore[misc]  # mypy does not follow Starlette
    """The answer of `app` to the request that this is returned for. `on_status` hears of its status."""

    def __init__(self, app: ASGIApp, on_status: Callable[[int], None]) -> None:
        super().__init__()
        self._app = app
        self._on_status = on_status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._on_status(message["status"])
            await send(message)

        await self._app(scope, receive, counted)
