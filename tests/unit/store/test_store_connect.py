"""URLs in, no secrets out."""

import pytest
from framegrid_store.__main__ import main
from framegrid_store.connect import describe, parameters, sanitised
from framegrid_store.errors import StoreError
from framegrid_store.writer import StoreWriter


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_usual_spelling_of_a_url_is_taken(scheme: str) -> None:
    url = f"{scheme}://alice:s%40cret@db.example:5433/numbers?sslmode=require"
    assert parameters(url)["password"] == "s@cret"
    assert describe(url) == "alice@db.example:5433/numbers"


@pytest.mark.parametrize(
    "url", ["postgresql:/alice:secret@host/x", "host secret", "mysql://a:secret@h/x", ""]
)
def test_a_url_that_cannot_be_read_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(StoreError) as raised:
        StoreWriter(url)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_messages_lose_passwords_and_grow_no_longer_than_a_line() -> None:
    url = "postgresql://alice:secret@host/x"
    assert "secret" not in sanitised(f"could not use {url}", url)
    assert "secret" not in sanitised("password=secret host=x")
    assert "secret" not in sanitised("the word secret alone", url)
    assert "hunter2" not in sanitised("rtsp://bob:hunter2@10.0.0.5/stream is gone")
    assert len(sanitised("x" * 1000)) == 256
    assert sanitised(ValueError("first\nsecond")) == "first"


def test_the_command_says_which_variable_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FRAMEGRID_DATABASE_URL", raising=False)
    assert main(["status"]) == 1
    assert "FRAMEGRID_DATABASE_URL" in capsys.readouterr().err
