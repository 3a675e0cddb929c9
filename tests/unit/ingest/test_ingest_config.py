"""cameras.yaml: every mistake has its line, its key, what came, what is allowed; secrets are never shown."""

from pathlib import Path

import pytest
from framegrid_ingest.config import CameraConfig, load_cameras, parse_cameras
from framegrid_ingest.errors import ConfigError
from framegrid_ingest.urls import CameraUrl


def problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as failure:
        parse_cameras(text, "cameras.yaml", environ or {})
    return str(failure.value).split("\n")


def one_camera(extra: str = "", url: str = "rtsp://10.0.0.5/s") -> str:
    return f"cameras:\n  - name: a\n    url: {url}\n" + "".join(
        f"    {line}\n" for line in extra.split("\n") if line
    )


def test_one_line_is_a_camera() -> None:
    (camera,) = parse_cameras("cameras: [{name: a, url: 'http://10.0.0.5/video'}]", "f", {})
    assert camera.fps == 10.0
    assert camera.source_kind == "http"
    assert set(camera.classes) == {"person", "vehicle"}
    assert "van" in camera.classes["vehicle"].of


def test_defaults_apply_and_a_camera_overrides_them() -> None:
    text = "defaults: {fps: 5, model: m}\n" + one_camera("fps: 2")
    (camera,) = parse_cameras(text, "f", {})
    assert (camera.fps, camera.model) == (2.0, "m")


def test_an_empty_file_has_no_cameras() -> None:
    assert parse_cameras("", "f", {}) == ()
    assert parse_cameras("cameras:\n", "f", {}) == ()


def test_equal_text_makes_equal_cameras_so_a_reload_touches_nothing() -> None:
    text = one_camera("zones: [{name: z, polygon: [[0,0],[1,0],[1,1]]}]", url="rtsp://u:${P}@h/s")
    assert parse_cameras(text, "f", {"P": "x"}) == parse_cameras(text, "f", {"P": "x"})
    assert parse_cameras(text, "f", {"P": "x"}) != parse_cameras(text, "f", {"P": "y"})


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("fsp: 3", "cameras.yaml:4:5: cameras[0].fsp: unknown key, did you mean 'fps'?; allowed: anchor,"),
        ("fps: '10'", "cameras.yaml:4:5: cameras[0].fps: expected a number, got '10'"),
        ("fps: 0", "cameras[0].fps: expected a number of more than 0, got 0"),
        ("fps: .nan", "cameras[0].fps: expected a finite number, got nan"),
        ("paused: maybe", "cameras[0].paused: expected true or false, got 'maybe'"),
        (
            "kind: rstp",
            "expected one of auto, rtsp, mjpeg, jpeg, hls, file, webcam, got 'rstp', did you mean 'rtsp'?",
        ),
        ("kind: hls", "expected kind auto or rtsp for this url, got hls; change the kind or the url"),
        ("timezone: Europe/Berln", "got 'Europe/Berln', did you mean 'Europe/Berlin'?"),
        ("jpeg_quality: 200", "cameras[0].jpeg_quality: expected a number of at most 100, got 200"),
        (
            "site: no",
            "cameras[0].site: expected text, got false; YAML reads this as no text: put it in quotes",
        ),
        ("classes: {}", "cameras[0].classes: expected at least 1 entries, got 0"),
        (
            "classes: {person: {of: [person], min_scor: 1}}",
            "min_scor: unknown key, did you mean 'min_score'?",
        ),
        ("classes: {'a/b': [x]}", "classes.a/b: expected letters, digits, spaces, '_', '.' and '-'"),
        ("zones: [{name: z, polygon: [[0,0],[1,1]]}]", "polygon: expected at least 3 entries, got 2"),
        ("zones: [{name: z, polygon: [[0,0],[.5,.5],[1,1]]}]", "expected a polygon with an area"),
        (
            "zones: [{name: z, polygon: [[0,0],[1,2],[1,1]]}]",
            "polygon[1][1]: expected a number of at most 1, got 2",
        ),
        ("lines: [{name: l, start: [0,0], end: [0,0]}]", "expected start and end to differ"),
        ("lines: [{name: l, start: [0], end: [1,0]}]", "start: expected two numbers, x and y, got fewer"),
        (
            "lines: [{name: l, start: [0,0], end: [1,0]}, {name: l, start: [0,0], end: [1,1]}]",
            "expected every name once, got l more than once",
        ),
        ("name: b", "cameras[0].name: the key was already given in line 2; keep one of them"),
    ],
)
def test_a_mistake_is_told_exactly(extra: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(one_camera(extra))), problems(one_camera(extra))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rstp://10.0.0.5/s", "got rstp://, did you mean 'rtsp'?"),
        ("http://", "expected a host name"),
        ("http://h:99999/", "expected a host name and, if given, a port 1..65535"),
        ("webcam:front", "expected webcam:N with the number of the device"),
        ("''", "expected an address"),
        (
            "rtsp://u:${MISSING}@h/s",
            "the environment variable MISSING is not set; set it for the ingest process",
        ),
        ("rtsp://u:${not a name}@h/s", "expected ${NAME} with letters, digits and _"),
    ],
)
def test_a_wrong_url_is_told_without_showing_it(url: str, expected: str) -> None:
    (problem,) = problems(one_camera(url=url))
    assert problem.startswith("cameras.yaml:3:5: cameras[0].url: ")
    assert expected in problem


def test_all_mistakes_are_told_at_once_in_the_order_of_lines() -> None:
    text = "defaults: {fbs: 1}\ncamera: []\ncameras:\n  - {name: A, url: x.mp4}\n  - {name: b}\n  - 7\n"
    found = problems(text)
    assert [problem.split(":")[1] for problem in found] == ["1", "2", "4", "5", "6"]


def test_a_mistake_in_defaults_is_told_once_not_for_each_camera() -> None:
    text = "defaults: {fps: fast}\ncameras: [{name: a, url: x.mp4}, {name: b, url: y.mp4}]\n"
    assert problems(text) == ["cameras.yaml:1:12: defaults.fps: expected a number, got 'fast'"]


def test_two_cameras_of_one_name_are_refused() -> None:
    text = "cameras:\n  - {name: a, url: x.mp4}\n  - {name: a, url: y.mp4}\n"
    (problem,) = problems(text)
    assert problem.startswith("cameras.yaml:3:6: cameras[1].name: ")
    assert "'a' as in line 2" in problem


@pytest.mark.parametrize(
    "text", ["cameras: [", "a: b: c", "- \t- x", "cameras: *none", "\x00", "!!python/object:os.x {}"]
)
def test_what_is_no_yaml_is_told_with_its_place(text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("cameras.yaml:1:")


def test_aliases_that_explode_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (problem,) = problems("\n".join(lines))
    assert "more than" in problem


def test_secrets_are_filled_in_and_never_shown() -> None:
    password = "p@ss/w:rd#1"
    (camera,) = parse_cameras(
        one_camera(url="rtsp://admin:${PW}@10.0.0.5/s?token=${PW}"), "f", {"PW": password}
    )
    assert camera.url.reveal() == f"rtsp://admin:p%40ss%2Fw%3Ard%231@10.0.0.5/s?token={password}"
    for shown in (
        repr(camera),
        str(camera.url),
        camera.url.hide(f"cannot open {camera.url.reveal()}: {password}"),
    ):
        assert "ss/w" not in shown
        assert "p%40ss" not in shown


def test_a_mistake_beside_a_secret_does_not_show_it() -> None:
    text = one_camera("fps: -1\nkind: mjpeg", url="rtsp://admin:${PW}@10.0.0.5/s")
    assert "hunter2" not in "\n".join(problems(text, {"PW": "hunter2"}))


def test_relative_files_are_taken_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text("cameras: [{name: a, url: clips/a.mp4}]")
    (camera,) = load_cameras(path, {})
    assert camera.url.reveal() == str(tmp_path / "clips/a.mp4")


def test_a_missing_file_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml:1:1: cannot read the file: No such file"):
        load_cameras(tmp_path / "no.yaml", {})


def test_a_model_made_in_code_is_checked_too() -> None:
    camera = CameraConfig.model_validate({"name": "a", "url": CameraUrl("x.mp4"), "fps": 0.01})
    assert camera.source_kind == "file"
