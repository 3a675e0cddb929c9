"""Addresses hide their secrets whatever these look like."""

import pickle
import string

import pytest
from framegrid_ingest.urls import CameraUrl, fill_in, kind_of, sanitise
from hypothesis import given
from hypothesis import strategies as st

SECRETS = st.text(string.ascii_letters + string.digits + "@:/#?&%+ ", max_size=20).map(
    lambda text: f"Q7{text}Z"
)


@given(SECRETS)
def test_a_password_from_the_environment_is_never_shown(password: str) -> None:
    value, secrets = fill_in("rtsp://admin:${PW}@camera.example/stream", {"PW": password})
    url = CameraUrl(value, secrets)
    assert password not in str(url)
    assert password not in repr(url)
    assert password not in url.hide(f"error at {value}: {password}")
    assert "camera.example" in str(url)


@given(SECRETS)
def test_a_password_written_in_plain_is_not_shown(password: str) -> None:
    shown = sanitise(f"rtsp://admin:{password}@camera.example/stream")
    assert password not in shown


def test_tokens_in_the_query_are_hidden_and_channels_are_not() -> None:
    assert sanitise("http://h/v?channel=2&auth=abc&x") == "http://h/v?channel=2&auth=***&x"


def test_a_url_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="holds credentials"):
        pickle.dumps(CameraUrl("rtsp://u:p@h/s"))


def test_a_dollar_brace_can_be_written() -> None:
    assert fill_in("http://h/$${x}", {}) == ("http://h/${x}", ())


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("rtsp://h/s", "rtsp"),
        ("RTSPS://h/s", "rtsp"),
        ("http://h/a.m3u8?x=1", "hls"),
        ("https://h/a.MJPG", "mjpeg"),
        ("http://h/video", "http"),
        ("webcam:1", "webcam"),
        ("clip.mp4", "file"),
        ("file:///a/clip.mp4", "file"),
        ("ftp://h/x", ""),
    ],
)
def test_the_kind_is_read_from_the_address(address: str, kind: str) -> None:
    assert kind_of(address) == kind
