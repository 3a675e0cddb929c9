"""Which frame a camera shows, what its faults make of it, and the truth of any window."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import simplejpeg
from framegrid_sim.clip import Clip, SceneSettings
from framegrid_sim.faults import MAX_SECONDS, Fault, FaultError, FaultKind, FaultLog, parse_fault
from framegrid_sim.feed import NEXT_PART, CameraSpec, Feed
from framegrid_sim.report import MAX_WINDOW_S, WindowError, camera_json, parse_window, truth_json
from framegrid_sim.truth import ClipTruth, CrossingTruth, FrameTruth, ObjectTruth, SeenTruth

EPOCH_S = 1_800_000_000.0
FPS = 10.0
WIDTH, HEIGHT = 160, 90


def walker(i: int) -> ObjectTruth:
    """A person who walks through the picture in every pass."""
    return ObjectTruth(1, "person", (i / 60, 0.2, i / 60 + 0.1, 0.6), 1.0, 120.0)


def grey_clip(frames: int = 50) -> Clip:
    """A clip whose grey level is 4 * frame, with one person who crosses the line `gate` at frame 20.5."""
    jpegs = [
        simplejpeg.encode_jpeg(np.full((HEIGHT, WIDTH, 3), 4 * i, np.uint8), quality=90)
        for i in range(frames)
    ]
    truth = ClipTruth(
        fps=FPS,
        frames=tuple(FrameTruth(i, (walker(i),) if 10 <= i < 40 else ()) for i in range(frames)),
        lines=(("gate", (0.5, 0.0), (0.5, 1.0)),),
        zones=(),
        crossings=(CrossingTruth(20.5, "gate", "person", "in", 1),),
        seen=(SeenTruth(1, "person", 10, 39),),
        ids_per_pass=1,
    )
    return Clip(SceneSettings(width=WIDTH, height=HEIGHT, fps=FPS, duration_s=frames / FPS), jpegs, truth)


CLIP = grey_clip()


def feed(phase_frames: int = 0) -> Feed:
    return Feed(CameraSpec("north", CLIP, phase_frames), EPOCH_S)


def grey_level(jpeg: bytes) -> float:
    return float(simplejpeg.decode_jpeg(jpeg, colorspace="GRAY").mean())


def jpeg_of(part: bytes) -> tuple[dict[str, str], bytes]:
    head, _, rest = part.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    assert rest.endswith(NEXT_PART)
    return headers, rest[: -len(NEXT_PART)]


def test_the_frame_shown_is_a_function_of_the_time_alone() -> None:
    one, two = feed(), feed()
    for time_s in (EPOCH_S, EPOCH_S + 0.05, EPOCH_S + 12.34, EPOCH_S + 86_400):
        assert one.frame_at(time_s) == two.frame_at(time_s)
    assert one.frame_at(EPOCH_S + 0.0999) == 0
    assert one.frame_at(EPOCH_S + 0.1) == 1
    assert one.frame_at(EPOCH_S + 5.0) == 50  # loop-aware: the second pass


def test_every_frame_begins_exactly_at_its_own_time() -> None:
    north = feed(phase_frames=7)
    assert all(north.frame_at(north.time_of(k)) == k for k in range(0, 2_000_000, 997))


def test_a_phase_moves_the_camera_into_its_clip() -> None:
    assert feed(phase_frames=12).frame_at(EPOCH_S) == 12


def test_a_part_says_its_length_time_and_number() -> None:
    part = feed().part(73, None)
    assert part is not None
    headers, jpeg = jpeg_of(part)
    assert jpeg == CLIP.jpegs[23]
    assert headers == {
        "Content-Type": "image/jpeg",
        "Content-Length": str(len(jpeg)),
        "X-Timestamp": f"{EPOCH_S + 7.3:.6f}",
        "X-Frame": "73",
    }


def test_a_frozen_camera_repeats_its_picture_with_new_timestamps() -> None:
    fault = Fault(FaultKind.FREEZE, EPOCH_S + 1.0, EPOCH_S + 9)
    headers, jpeg = jpeg_of(feed().part(33, fault) or b"")
    assert jpeg == CLIP.jpegs[10]
    assert headers["X-Timestamp"] == f"{EPOCH_S + 3.3:.6f}"


@pytest.mark.parametrize(
    ("kind", "shape", "level"),
    [(FaultKind.BLACK, (HEIGHT, WIDTH), 0), (FaultKind.RESIZE, (HEIGHT // 2, WIDTH // 2), 80)],
    ids=["black", "resize"],
)
def test_a_broken_picture_is_a_jpeg_of_the_kind(
    kind: FaultKind, shape: tuple[int, int], level: float
) -> None:
    _, jpeg = jpeg_of(feed().part(20, Fault(kind, EPOCH_S, EPOCH_S + 9)) or b"")
    assert simplejpeg.decode_jpeg(jpeg, colorspace="GRAY").shape[:2] == shape
    assert grey_level(jpeg) == pytest.approx(level, abs=2)


def test_a_truncated_picture_cannot_be_decoded_but_the_stream_stays_in_step() -> None:
    headers, jpeg = jpeg_of(feed().part(20, Fault(FaultKind.TRUNCATED, EPOCH_S, EPOCH_S + 9)) or b"")
    assert int(headers["Content-Length"]) == len(jpeg) == len(CLIP.jpegs[20]) // 2
    with pytest.raises(ValueError, match="JPEG"):
        simplejpeg.decode_jpeg(jpeg)


def test_a_huge_picture_claims_268_million_pixels_in_a_few_bytes() -> None:
    _, jpeg = jpeg_of(feed().part(20, Fault(FaultKind.HUGE, EPOCH_S, EPOCH_S + 9)) or b"")
    height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    assert (width, height) == (16_384, 16_384)
    assert len(jpeg) == len(CLIP.jpegs[20])


def test_garbage_is_no_part_and_as_long_as_a_picture() -> None:
    noise = feed().part(20, Fault(FaultKind.GARBAGE, EPOCH_S, EPOCH_S + 9))
    assert noise is not None
    assert len(noise) == len(CLIP.jpegs[20])
    assert b"X-Frame" not in noise
    assert cv2.imdecode(np.frombuffer(noise, np.uint8), cv2.IMREAD_COLOR) is None


def test_a_slow_camera_sends_every_tenth_frame() -> None:
    north, fault = feed(), Fault(FaultKind.SLOW, EPOCH_S, EPOCH_S + 9)
    assert [k for k in range(40) if north.part(k, fault) is not None] == [0, 10, 20, 30]
    assert north.picture(29, fault) == CLIP.jpegs[20]


def test_a_stalled_camera_sends_nothing() -> None:
    assert feed().part(20, Fault(FaultKind.STALL, EPOCH_S, EPOCH_S + 9)) is None


@pytest.mark.parametrize("name", ["", "North", "a b", "-a", "a-", "a/b", "x" * 64])
def test_refuses_a_camera_name_that_is_no_part_of_a_url(name: str) -> None:
    with pytest.raises(ValueError, match="expected a camera name"):
        CameraSpec(name, CLIP)


def test_credentials_are_in_no_message() -> None:
    assert "hunter2" not in repr(CameraSpec("north", CLIP, auth="bob:hunter2"))
    with pytest.raises(ValueError, match="expected auth of camera north") as error:
        CameraSpec("north", CLIP, auth="hunter2")
    assert "hunter2" not in str(error.value)


def test_truth_of_a_window_over_the_seam_counts_every_pass() -> None:
    report = truth_json(
        feed(), EPOCH_S, EPOCH_S + 12.0
    )  # passes at 0, 5 and 10 s; crossings at 2.05 s of each
    assert report["crossed"] == {"gate": {"person": {"in": 2, "out": 0}, "vehicle": {"in": 0, "out": 0}}}
    assert [c["time_s"] for c in report["crossings"]] == [EPOCH_S + 2.05, EPOCH_S + 7.05]
    assert report["uniques"] == {"person": 3, "vehicle": 0}
    assert report["present"] == {"person": 1, "vehicle": 0}


def test_truths_of_windows_that_touch_add_up() -> None:
    north, edges = feed(3), np.linspace(0, 40, 14)
    windows = [truth_json(north, EPOCH_S + a, EPOCH_S + b) for a, b in pairwise(edges)]
    whole = truth_json(north, EPOCH_S, EPOCH_S + 40)
    assert sum(len(w["crossings"]) for w in windows) == len(whole["crossings"]) == 8
    assert sum(w["new_uniques"]["person"] for w in windows) == whole["new_uniques"]["person"]


def test_truth_tells_boxes_when_asked() -> None:
    [person] = truth_json(feed(), EPOCH_S, EPOCH_S + 1.5, objects=True)["objects"]
    assert person["class"] == "person"
    assert person["box_xyxy"] == walker(15).box_xyxy


def test_truth_lists_the_faults_of_the_window() -> None:
    north = feed()
    north.faults.begin(Fault(FaultKind.BLACK, EPOCH_S + 2, EPOCH_S + 4))
    assert truth_json(north, EPOCH_S, EPOCH_S + 2)["faults"] == []
    assert truth_json(north, EPOCH_S + 3, EPOCH_S + 9)["faults"] == [
        {"kind": "black", "from_s": EPOCH_S + 2, "until_s": EPOCH_S + 4}
    ]


def test_a_camera_tells_what_cameras_yaml_wants_to_know() -> None:
    told = camera_json(feed(), EPOCH_S + 1, viewers=2, rtsp_url=None)
    assert told["stream"] == "/cameras/north/stream.mjpg"
    assert told["lines"] == [{"name": "gate", "start": (0.5, 0.0), "end": (0.5, 1.0)}]
    assert (told["frame_now"], told["viewers"], told["active_fault"]) == (10, 2, None)


@pytest.mark.parametrize(
    ("from_text", "to_text"),
    [("x", None), (None, "nan"), ("20", "10"), ("0", str(MAX_WINDOW_S + 1)), ("1e400", None), ("-1", "5")],
)
def test_refuses_a_window_that_has_no_truth(from_text: str | None, to_text: str | None) -> None:
    with pytest.raises(WindowError, match="expected"):
        parse_window(from_text, to_text, EPOCH_S, EPOCH_S - 10)


def test_a_window_is_by_default_from_the_start_to_now() -> None:
    assert parse_window(None, None, EPOCH_S, EPOCH_S - 10) == (EPOCH_S - 10, EPOCH_S)


def test_a_fault_ends_by_itself_and_a_new_one_ends_the_one_before() -> None:
    log = FaultLog()
    log.begin(Fault(FaultKind.STOP, 10, 20))
    assert log.active(9.9) is None
    log.begin(Fault(FaultKind.BLACK, 15, 18))
    assert [(f.kind, f.until_s) for f in log.between(0, 30)] == [(FaultKind.STOP, 15), (FaultKind.BLACK, 18)]
    assert log.active(18) is None
    log.begin(Fault(FaultKind.SLOW, 30, 40))
    log.clear(33)
    assert log.active(33) is None


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        ("explode", "1"),
        ("", "1"),
        ("stop", "0"),
        ("stop", "x"),
        ("stop", "nan"),
        ("stop", str(MAX_SECONDS + 1)),
    ],
)
def test_refuses_a_fault_that_does_not_exist(kind: str, seconds: str) -> None:
    with pytest.raises(FaultError, match="expected"):
        parse_fault(kind, seconds, EPOCH_S)


def test_the_kind_none_ends_a_fault() -> None:
    assert parse_fault("none", "5", EPOCH_S) is None
