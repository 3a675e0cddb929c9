"""Waiting for a database: bounded, told once, without credentials."""

from __future__ import annotations

import logging

import psycopg
import pytest
from framegrid_store import reach
from framegrid_store.errors import StoreError

URL = "postgresql://writer:hunter2@database.example:5432/framegrid"


class Server:
    """Refuses `refusals` times, then takes connections."""

    def __init__(self, refusals: int, reason: str = "connection refused") -> None:
        self.refusals = refusals
        self.reason = reason
        self.attempts = 0

    def connect(self, _url: str, *, application_name: str) -> Server:
        self.attempts += 1
        if self.attempts <= self.refusals:
            raise psycopg.OperationalError(f"{self.reason} for hunter2")
        return self

    def close(self) -> None:
        pass


def test_returns_as_soon_as_the_database_takes_connections(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, waits = Server(refusals=3), []
    monkeypatch.setattr(reach, "connect", server.connect)
    with caplog.at_level(logging.INFO, logger="framegrid_store"):
        reach.wait_until_reachable(URL, 60, sleep=waits.append)
    assert server.attempts == 4
    assert waits == [reach.POLL_S] * 3
    assert len(caplog.records) == 1, "the same reason is told once"
    assert "hunter2" not in caplog.text


def test_gives_up_with_the_reason_and_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "connect", Server(refusals=99, reason="no route").connect)
    with pytest.raises(StoreError, match=r"writer@database.example:5432/framegrid .*no route") as failure:
        reach.wait_until_reachable(URL, 0, sleep=lambda _s: None)
    assert "hunter2" not in str(failure.value)
