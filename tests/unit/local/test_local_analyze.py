"""`framegrid analyze` on a drawn video, with a detector that sees bright rectangles."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from framegrid_ingest.errors import RecordingError
from framegrid_ingest.recordings.drawing import VideoWriter, write_image
from framegrid_ingest.recordings.report import CSV_COLUMNS
from framegrid_local import analyze
from framegrid_local.analyze import AnalyzeRequest, camera_of, run_analyze
from framegrid_local.errors import LocalError
from framegrid_serve.wire import FrameResult, FrameStatus

WIDTH, HEIGHT, FPS, SECONDS = 320, 240, 10, 6


class BrightSpots:
    """Finds what is white: one person."""

    streams = 2
    bundle = SimpleNamespace(
        name="bright", version="1", classes=("person", "car"), manifest=SimpleNamespace(input_size=320)
    )

    def __init__(self, *_: Any) -> None:
        self.closed = False

    def detect(self, jpegs: Sequence[bytes], min_score: float) -> list[FrameResult]:
        pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in jpegs]
        return self.detect_images([picture for picture in pictures if picture is not None], min_score)

    def detect_images(self, images: Sequence[Any], min_score: float) -> list[FrameResult]:
        return [self._find(image) for image in images]

    def close(self) -> None:
        self.closed = True

    def _find(self, image: Any) -> FrameResult:
        ys, xs = np.nonzero(image[:, :, 1] > 180)
        if len(xs) < 50:
            return FrameResult.without_boxes(FrameStatus.OK)
        height, width = image.shape[:2]
        box = [xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height]
        return FrameResult(
            FrameStatus.OK,
            np.array([box], np.float32),
            np.array([0.9], np.float32),
            np.array([0], np.int16),
            0,
            0,
        )


@pytest.fixture(autouse=True)
def bright_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyze, "Detector", BrightSpots)
    monkeypatch.setattr(analyze, "load_bundle", lambda _: BrightSpots.bundle)
    monkeypatch.setattr(analyze, "resolve", lambda *_: Path("bright"))


def picture(x: int) -> Any:
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    cv2.rectangle(image, (x, 100), (x + 30, 180), (255, 255, 255), -1)
    return image


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """Somebody walks from left to right through the picture."""
    path = tmp_path / "walk.mp4"
    writer = VideoWriter(path, FPS)
    for i in range(FPS * SECONDS):
        writer.write(picture(10 + i * 4))
    writer.close()
    return path


def request(source: Path | str, tmp_path: Path, **changes: Any) -> AnalyzeRequest:
    values: dict[str, Any] = {
        "source": str(source),
        "model": "bright",
        "fps": float(FPS),
        "lines": ("middle:0.5,0,0.5,1",),
        "zones": ("right:0.5,0,1,0,1,1,0.5,1",),
        "min_score": 0.4,
        "seconds": 0.0,
        "output": "json",
        "annotate": None,
        "state_dir": tmp_path,
    }
    return AnalyzeRequest(**{**values, **changes})


def test_counts_a_walker_once_and_the_crossing_with_its_direction(
    walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_analyze(request(walk, tmp_path)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["frames"] == FPS * SECONDS
    assert found["uniques"] == {"person": 1, "vehicle": 0}
    assert len(found["tracks"]) == 1
    # Walking down the line from (0.5, 0) to (0.5, 1) the left hand is on the right of the picture.
    assert found["lines"]["middle"]["person"] == {"in": 0, "out": 1}
    (crossing,) = found["crossings"]
    assert crossing["time_s"] == pytest.approx((160 - 25) / 40, abs=0.2)
    assert found["counts"][""]["person"] == {"mean": 1.0, "max": 1}
    assert 0.3 < found["counts"]["right"]["person"]["mean"] < 0.6


def test_csv_has_a_row_per_second_zone_and_class(
    walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_analyze(request(walk, tmp_path, output="csv"))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == SECONDS * 2 * 2
    whole = [row for row in rows if row["zone"] == "" and row["class"] == "person"]
    assert sum(int(row["uniques"]) for row in whole) == 1
    assert sum(int(row["out"]) for row in whole) == 1


def test_text_says_it_in_words(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_analyze(request(walk, tmp_path, output="text"))
    shown = capsys.readouterr().out
    assert "1 different, 1.00 on average, 1 at most, in the picture" in shown
    assert "crossed middle: 0 in, 1 out" in shown


def test_slower_sampling_analyses_fewer_frames(
    walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_analyze(request(walk, tmp_path, fps=2.0))
    assert json.loads(capsys.readouterr().out)["frames"] == pytest.approx(2 * SECONDS, abs=1)


def test_frames_too_far_apart_say_nothing_of_visits(
    walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_analyze(request(walk, tmp_path, fps=0.4))
    found = json.loads(capsys.readouterr().out)
    assert found["frames"] >= 1
    assert found["uniques"] == {"person": None, "vehicle": None}
    assert found["lines"] is None
    run_analyze(request(walk, tmp_path, fps=0.4, output="text"))
    assert "too few frames a second to follow anybody" in capsys.readouterr().out


def test_stops_after_the_seconds_asked_for(
    walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_analyze(request(walk, tmp_path, seconds=2.0))
    assert json.loads(capsys.readouterr().out)["frames"] == 2 * FPS


def test_the_annotated_video_has_every_analysed_frame_and_is_drawn(walk: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    run_analyze(request(walk, tmp_path, annotate=target))
    video = cv2.VideoCapture(str(target))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    assert len(frames) == FPS * SECONDS
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(FPS)
    # The line is yellow where the source is grey.
    blue, green, red = (int(v) for v in frames[-1][220, WIDTH // 2])
    assert min(green, red) - blue > 60


def test_an_image_gives_boxes_and_an_annotated_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    cv2.imwrite(str(source), picture(200))
    run_analyze(request(source, tmp_path, annotate=target))
    found = json.loads(capsys.readouterr().out)
    (box,) = found["boxes"]
    assert box["class"] == "person"
    assert box["box_xyxy"] == pytest.approx([200 / WIDTH, 100 / HEIGHT, 231 / WIDTH, 181 / HEIGHT], abs=0.01)
    assert found["counts"] == {"": {"person": 1, "vehicle": 0}, "right": {"person": 1, "vehicle": 0}}
    assert cv2.imread(str(target)) is not None


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 40], ids=["empty", "text"])
def test_a_file_that_is_no_video_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(Exception, match=r"broken\.mp4"):
        run_analyze(request(path, tmp_path))


def test_a_file_that_is_no_image_says_so(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"nothing")
    with pytest.raises(LocalError, match="expected an image"):
        run_analyze(request(path, tmp_path))


def test_paths_that_cannot_be_written_are_refused(walk: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"ending in \.mp4"):
        run_analyze(request(walk, tmp_path, annotate=tmp_path / "out.txt"))
    with pytest.raises(RecordingError, match="cannot be written"):
        run_analyze(request(walk, tmp_path, annotate=tmp_path / "nowhere" / "out.mp4"))
    with pytest.raises(RecordingError, match=r"ending in \.jpg or \.png"):
        write_image(tmp_path / "out.nothing", picture(0))


def test_the_command_line_follows_the_rules_of_cameras_yaml(tmp_path: Path) -> None:
    camera = camera_of(request("rtsp://user:geheim@host/x", tmp_path))
    assert camera.lines[0].name == "middle"
    with pytest.raises(RecordingError, match="fps") as failure:
        camera_of(request("rtsp://user:geheim@host/x", tmp_path, fps=1000.0))
    assert "geheim" not in str(failure.value)
