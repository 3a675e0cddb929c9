"""Pictures by URL: what may be fetched, from a real server on loopback, and what is never asked."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from framegrid_serve.people.refusal import RefusedError
from framegrid_serve.people.remote import check_url, fetch_picture, is_public
from framegrid_serve.people.settings import PeopleSettings


class Handler(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
        elif self.path == "/round":
            self.send_response(302)
            self.send_header("Location", "/round")
            self.end_headers()
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            size = 300_000 if self.path == "/large" else 4
            if self.path == "/slow":
                threading.Event().wait(1.0)
            try:
                self.wfile.write(b"\xff\xd8ab" * (size // 4))
            except OSError:
                self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[int]:
    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def settings(port: int, **changes: Any) -> PeopleSettings:
    values: dict[str, Any] = {
        "url_hosts": (f"127.0.0.1:{port}", f"localhost:{port}"),
        "url_schemes": ("http",),
        "url_private": True,
        "max_image_bytes": 100_000,
        "url_timeout_s": 5.0,
        **changes,
    }
    return PeopleSettings(**values)


def refused(url: str, given: PeopleSettings) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        asyncio.run(fetch_picture(url, given))
    return error.value.status, error.value.text


def test_a_picture_of_an_allowed_host_is_fetched(server: int) -> None:
    assert asyncio.run(fetch_picture(f"http://127.0.0.1:{server}/a.jpg", settings(server))) == b"\xff\xd8ab"
    assert (
        asyncio.run(fetch_picture(f"http://localhost:{server}/to//a.jpg", settings(server))) == b"\xff\xd8ab"
    )


def test_private_addresses_are_refused_by_number_and_by_name(server: int) -> None:
    public_only = settings(server, url_private=False)
    assert refused(f"http://127.0.0.1:{server}/a.jpg", public_only)[0] == 403
    assert refused(f"http://localhost:{server}/a.jpg", public_only) == (
        403,
        "expected a host with public addresses, got a private one",
    )
    assert Handler.asked == []


def test_a_redirect_is_checked_like_the_first_url(server: int) -> None:
    status, text = refused(f"http://127.0.0.1:{server}/to/http://169.254.169.254/latest", settings(server))
    assert (status, "169.254.169.254" in text) == (403, True)
    assert refused(f"http://127.0.0.1:{server}/to/file:///etc/passwd", settings(server))[0] == 422
    assert refused(f"http://127.0.0.1:{server}/to/ftp://127.0.0.1/x", settings(server))[0] == 403
    assert (
        refused(f"http://127.0.0.1:{server}/round", settings(server))[1]
        == "expected at most 3 redirects, got more"
    )


def test_bytes_time_and_status_are_bounded(server: int) -> None:
    assert refused(f"http://127.0.0.1:{server}/large", settings(server))[0] == 413
    assert refused(f"http://127.0.0.1:{server}/missing", settings(server))[1].endswith("got 404")
    assert (
        "within 0.2 s" in refused(f"http://127.0.0.1:{server}/slow", settings(server, url_timeout_s=0.2))[1]
    )
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert refused(f"http://127.0.0.1:{port}/", settings(port))[0] == 422


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://media.example.org/a.jpg", None),
        ("https://a.b.example.org/a.jpg", None),
        ("https://media.example.org:443/a.jpg", None),
        ("https://example.org.evil.example/a.jpg", 403),
        ("https://evilexample.org/a.jpg", 403),
        ("https://media.example.org:8443/a.jpg", 403),
        ("http://media.example.org/a.jpg", 403),
        ("file:///etc/passwd", 422),
        ("https://user:secret@media.example.org/", 422),
        ("https://media.example.org\\@evil.example/", 422),
        ("https://media.example.org /a", 422),
        ("https://[::1/", 422),
        ("https://media.example.org:99999/", 422),
        ("", 422),
        ("x" * 3000, 422),
    ],
)
def test_only_named_hosts_schemes_and_ports_pass(url: str, status: int | None) -> None:
    given = PeopleSettings(url_hosts=("media.example.org", "*.example.org"))
    if status is None:
        check_url(url, given)
        return
    with pytest.raises(RefusedError) as error:
        check_url(url, given)
    assert error.value.status == status
    assert "secret" not in error.value.text


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
     "224.0.0.1", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::",
     "64:ff9b::7f00:1", "nonsense"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_public_addresses() -> None:
    assert is_public("1.1.1.1")
    assert is_public("2606:4700:4700::1111")


@pytest.mark.parametrize(
    ("key", "value"),
    [("url_hosts", ["https://x"]), ("cors_origins", ["x.example"]), ("url_schemes", ["file"]),
     ("videos_url", "x"), ("max_image_bytes", 0), ("surprise", 1)],
)  # fmt: skip
def test_wrong_settings_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        PeopleSettings.model_validate({key: value})
