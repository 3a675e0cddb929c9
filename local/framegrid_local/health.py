"""Small HTTP questions to our own children on 127.0.0.1, with the standard library alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

from framegrid_local import ports

TIMEOUT_S = 2.0
MAX_BODY_BYTES = 16 << 20


def get(port: int, path: str, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
    """Status and body; status 0 when nobody answers in time."""
    connection = http.client.HTTPConnection(ports.LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(MAX_BODY_BYTES)
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def get_json(port: int, path: str, timeout_s: float = TIMEOUT_S) -> Any | None:
    """The parsed answer; None when there was none, or it was not a 200 with JSON."""
    status, body = get(port, path, timeout_s)
    if status != http.client.OK:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None


def answers(port: int, path: str) -> Callable[[], bool]:
    """A readiness check: GET path gives 200."""
    return lambda: get(port, path)[0] == http.client.OK
