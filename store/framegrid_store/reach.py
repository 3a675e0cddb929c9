"""Waiting for a database that is still starting: said once per reason, and bounded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psycopg

from framegrid_store.connect import connect, describe, sanitised
from framegrid_store.errors import StoreError

logger = logging.getLogger(__name__)

POLL_S = 1.0


def wait_until_reachable(
    database_url: str, wait_s: float, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return once the database takes connections. Logs each new reason for waiting, without credentials.

    Raises `StoreError` with the last reason after `wait_s` seconds.
    """
    deadline_s = time.monotonic() + wait_s
    reason = ""
    while True:
        try:
            connect(database_url, application_name="framegrid-wait").close()
            return
        except psycopg.OperationalError as error:
            latest = sanitised(error, database_url)
        if latest != reason:
            reason = latest
            logger.info("waiting for %s: %s", describe(database_url), reason)
        if time.monotonic() >= deadline_s:
            raise StoreError(
                f"expected {describe(database_url)} to take connections within {wait_s:.0f} s, got: {reason}"
            )
        sleep(POLL_S)
