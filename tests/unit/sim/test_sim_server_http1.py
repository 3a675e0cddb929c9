"""Requests from bytes: whole ones, half ones, several at once, and nonsense."""

import pytest
from framegrid_sim.http1 import MAX_HEAD_BYTES, BadRequestError, Response, error_response, take_request
from framegrid_sim.page import MAX_SHOWN, index_page
from hypothesis import given
from hypothesis import strategies as st


def test_takes_a_request_with_its_query_and_headers() -> None:
    buffer = bytearray(b"GET /cameras/a%20b/truth?from=1.5&to=2 HTTP/1.1\r\nHost: x\r\nX-Long: a: b\r\n\r\n")
    request = take_request(buffer)
    assert request is not None
    assert (request.method, request.path, request.query) == (
        "GET",
        "/cameras/a b/truth",
        {"from": "1.5", "to": "2"},
    )
    assert request.headers == {"host": "x", "x-long": "a: b"}
    assert request.keep_alive
    assert not buffer


def test_waits_for_the_rest_of_a_request() -> None:
    whole = b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    for cut in range(len(whole)):
        assert take_request(bytearray(whole[:cut])) is None
    assert take_request(bytearray(whole)) is not None


def test_takes_one_of_several_requests_and_skips_its_body() -> None:
    buffer = bytearray(b"POST /1 HTTP/1.1\r\nContent-Length: 2\r\n\r\nxxGET /2 HTTP/1.0\r\n\r\n")
    first, second = take_request(buffer), take_request(buffer)
    assert first is not None
    assert second is not None
    assert (first.path, second.path) == ("/1", "/2")
    assert not second.keep_alive  # HTTP/1.0


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\n\r\n", 405),
        (b"GET //[::1 HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"x" * (MAX_HEAD_BYTES + 1), 431),
    ],
)
def test_refuses_what_is_no_request(data: bytes, status: int) -> None:
    with pytest.raises(BadRequestError, match="expected") as error:
        take_request(bytearray(data))
    assert error.value.status == status


@given(st.binary(max_size=300))
def test_never_fails_in_another_way(data: bytes) -> None:
    try:
        take_request(bytearray(data + b"\r\n\r\n"))
    except BadRequestError as error:
        assert 400 <= error.status < 500


def test_an_answer_to_head_has_the_length_and_no_body() -> None:
    data = Response(200, b"hello", "text/plain").encode(head_only=True, keep_alive=False)
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 5\r\n" in data
    assert data.endswith(b"\r\n\r\n")


def test_an_error_is_json_with_its_headers() -> None:
    data = error_response(503, "camera is stopped", **{"Retry-After": "4"}).encode(
        head_only=False, keep_alive=True
    )
    assert b"Retry-After: 4\r\n" in data
    assert data.endswith(b'{"error": "camera is stopped"}')


def test_the_front_page_shows_a_bounded_number_of_cameras() -> None:
    page = index_page([f"camera-{i}" for i in range(200)]).decode()
    assert page.count("<img") == MAX_SHOWN
    assert "200 simulated cameras" in page
