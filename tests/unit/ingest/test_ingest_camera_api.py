"""Cameras over HTTP, in cameras.yaml: comments stay, mistakes change nothing, passwords stay hidden."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from framegrid_ingest.camera_api import CameraApi, only_loopback_changes
from framegrid_ingest.camera_file import CameraFile
from framegrid_ingest.config import load_cameras
from framegrid_ingest.http_server import MAX_BODY_BYTES, Answer, HttpServer, Request, json_answer
from framegrid_ingest.urls import shown_template

TEXT = """\
# Cameras of the north site
defaults: {fps: 5}
cameras:
  # The gate, mounted in May
  - name: gate
    url: "rtsp://viewer:${GATE_PASSWORD}@192.0.2.5/stream"  # channel 1
    zones:
      - {name: door, polygon: [[0.1, 0.1], [0.5, 0.1], [0.5, 0.9]]}
  - {name: yard, url: "rtsp://viewer:geheim@192.0.2.6/stream", fps: 2}  # to be replaced
"""
ENVIRON = {"GATE_PASSWORD": "secret-1"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cameras.yaml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


def ask(file: Path, method: str, path: str, body: Any = None, **changes: Any) -> tuple[int, Any]:
    api = CameraApi(CameraFile(file, ENVIRON))
    data = b"" if body is None else json.dumps(body).encode()
    request = Request(method, path, {"content-type": "application/json"}, data, "127.0.0.1")
    answer = asyncio.run(api.answer(request._replace(**changes)))
    return answer.status, json.loads(answer.body) if answer.body else None


def test_lists_cameras_without_passwords(file: Path) -> None:
    status, answer = ask(file, "GET", "/v1/cameras")
    assert status == 200
    assert [camera["name"] for camera in answer["cameras"]] == ["gate", "yard"]
    assert answer["cameras"][0]["url"] == "rtsp://viewer:${GATE_PASSWORD}@192.0.2.5/stream"
    assert answer["cameras"][1]["url"] == "rtsp://***@192.0.2.6/stream"
    assert "geheim" not in json.dumps(answer) and "secret-1" not in json.dumps(answer)


def test_adds_a_camera_and_keeps_every_comment(file: Path) -> None:
    status, made = ask(file, "POST", "/v1/cameras", {"name": "door", "url": "rtsp://192.0.2.7/s", "fps": 1})
    assert (status, made) == (201, {"name": "door", "url": "rtsp://192.0.2.7/s", "fps": 1})
    text = file.read_text()
    for comment in (
        "# Cameras of the north site",
        "# The gate, mounted in May",
        "# channel 1",
        "# to be replaced",
    ):
        assert comment in text
    assert [camera.name for camera in load_cameras(file, ENVIRON)] == ["gate", "yard", "door"]
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(file.parent.iterdir()) == [file]


def test_changes_one_camera_and_leaves_the_others_as_they_were(file: Path) -> None:
    before = load_cameras(file, ENVIRON)
    _, gate = ask(file, "GET", "/v1/cameras/gate")
    status, answer = ask(file, "PUT", "/v1/cameras/gate", {**gate, "paused": True})
    assert status == 200 and answer["paused"] is True
    after = load_cameras(file, ENVIRON)
    assert after[0] == before[0].model_copy(update={"paused": True})
    assert after[1] == before[1]
    assert "# channel 1" in file.read_text()


def test_an_address_sent_back_as_it_was_shown_stays_as_it_is(file: Path) -> None:
    _, yard = ask(file, "GET", "/v1/cameras/yard")
    assert ask(file, "PUT", "/v1/cameras/yard", {**yard, "fps": 3})[0] == 200
    assert "viewer:geheim@192.0.2.6" in file.read_text()


def test_a_put_removes_keys_that_it_does_not_have(file: Path) -> None:
    assert ask(file, "PUT", "/v1/cameras/yard", {"url": "rtsp://192.0.2.8/s"})[0] == 200
    yard = load_cameras(file, ENVIRON)[1]
    assert (yard.url.reveal(), yard.fps) == ("rtsp://192.0.2.8/s", 5.0)


def test_deletes_a_camera(file: Path) -> None:
    assert ask(file, "DELETE", "/v1/cameras/yard") == (204, None)
    assert [camera.name for camera in load_cameras(file, ENVIRON)] == ["gate"]
    assert ask(file, "DELETE", "/v1/cameras/yard")[0] == 404
    assert ask(file, "DELETE", "/v1/cameras/gate")[0] == 204
    assert load_cameras(file, ENVIRON) == ()
    assert ask(file, "POST", "/v1/cameras", {"name": "a", "url": "rtsp://h/s"})[0] == 201


@pytest.mark.parametrize(
    ("body", "key", "message"),
    [
        ({"name": "door", "url": "rtsp://h/s", "fsp": 3}, "fsp", "unknown key, did you mean 'fps'?"),
        ({"name": "door", "url": "rtsp://h/s", "fps": 0}, "fps", "expected a number of more than 0, got 0"),
        ({"name": "Door", "url": "rtsp://h/s"}, "name", "expected small letters, digits and '-'"),
        ({"name": "door"}, "url", "expected this key, got nothing; add it"),
        (
            {"name": "door", "url": "rtsp://u:${NOBODY}@h/s"},
            "url",
            "the environment variable NOBODY is not set",
        ),
    ],
)
def test_a_wrong_camera_changes_nothing_and_says_why(
    file: Path, body: dict[str, Any], key: str, message: str
) -> None:
    status, answer = ask(file, "POST", "/v1/cameras", body)
    assert status == 422
    assert answer["problems"][0]["key"] == key
    assert answer["problems"][0]["message"].startswith(message)
    assert file.read_text() == TEXT


def test_a_name_that_is_there_is_a_conflict(file: Path) -> None:
    status, answer = ask(file, "POST", "/v1/cameras", {"name": "gate", "url": "rtsp://h/s"})
    assert status == 409
    assert answer["error"] == "there is a camera 'gate' already; change it with PUT"


def test_a_file_with_mistakes_is_not_changed(file: Path) -> None:
    file.write_text(TEXT + "  - {name: gate}\n")
    status, answer = ask(file, "POST", "/v1/cameras", {"name": "a", "url": "rtsp://h/s"})
    assert status == 409
    assert "mend it first" in answer["error"]
    assert "geheim" not in answer["error"]


@pytest.mark.parametrize("peer", ["192.0.2.9", "::2", "", "nonsense"])
def test_only_this_machine_may_change(file: Path, peer: str) -> None:
    assert ask(file, "DELETE", "/v1/cameras/gate", peer=peer)[0] == 403
    assert ask(file, "GET", "/v1/cameras", peer=peer)[0] == 200
    assert file.read_text() == TEXT


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
def test_loopback_may(peer: str) -> None:
    assert only_loopback_changes(Request("DELETE", "/v1/cameras/a", {}, b"", peer)) is None


def test_who_may_is_one_function(file: Path) -> None:
    api = CameraApi(CameraFile(file, ENVIRON), lambda request: json_answer({"error": "token"}, 403))
    answer = asyncio.run(api.answer(Request("GET", "/v1/cameras", {}, b"", "127.0.0.1")))
    assert answer.status == 403


def test_a_web_pages_form_cannot_change_cameras(file: Path) -> None:
    form = {"content-type": "text/plain"}
    body = {"name": "a", "url": "rtsp://h/s"}
    assert ask(file, "POST", "/v1/cameras", body, headers=form)[0] == 415


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PATCH", "/v1/cameras", {}, 405),
        ("POST", "/v1/cameras/gate", {}, 405),
        ("PUT", "/v1/cameras/gate", [], 422),
        ("PUT", "/v1/cameras/gate", {"name": "other", "url": "rtsp://h/s"}, 422),
        ("PUT", "/v1/cameras/nobody", {"url": "rtsp://h/s"}, 404),
        ("GET", "/v1/cameras/nobody", None, 404),
    ],
)
def test_other_requests(file: Path, method: str, path: str, body: Any, status: int) -> None:
    assert ask(file, method, path, body)[0] == status
    assert file.read_text() == TEXT


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("rtsp://h/s", "rtsp://h/s"),
        ("rtsp://viewer:${P}@h/s", "rtsp://viewer:${P}@h/s"),
        ("rtsp://${U}:${P}@h/s?token=abc", "rtsp://${U}:${P}@h/s?token=***"),
        ("rtsp://viewer:x${P}@h/s", "rtsp://***@h/s"),
        ("rtsp://viewer:geheim@h/s", "rtsp://***@h/s"),
        ("rtsp://viewer:ge@heim@h/s", "rtsp://***@h/s"),
        ("rtsp://viewer:${P}@x:geheim@h/s", "rtsp://***@h/s"),
        ("/videos/a.mp4", "/videos/a.mp4"),
    ],
)
def test_addresses_are_shown_as_written_unless_they_hold_a_secret(template: str, shown: str) -> None:
    assert shown_template(template) == shown


async def exchange(server: HttpServer, text: bytes) -> bytes:
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    answer = await reader.read()
    writer.close()
    server.close()
    return answer


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (b"POST /v1/x HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 200 OK"),
        (b"POST /v1/x/y HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi", b"HTTP/1.1 200 OK"),
        (b"POST /v1/xy HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 405"),
        (b"POST /v1/x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 400"),
        (b"POST /v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"HTTP/1.1 400"),
        (b"POST /v1/x HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), b"HTTP/1.1 413"),
        (b"POST /v1/broken HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 500"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400"),
    ],
)
def test_the_server_reads_bodies_and_refuses_what_it_cannot(text: bytes, first: bytes) -> None:
    async def echo(request: Request) -> Answer:
        assert request.body == b"hi"
        return json_answer({"path": request.path})

    async def broken(request: Request) -> Answer:
        raise RuntimeError("mine")

    server = HttpServer({}, {"/v1/x": echo, "/v1/broken": broken})
    assert asyncio.run(exchange(server, text)).startswith(first)
