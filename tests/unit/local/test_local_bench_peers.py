"""What the comparison with other servers computes, and that each server is asked and read as it speaks."""

from __future__ import annotations

import base64
import json
import urllib.parse

import numpy as np
import pytest
from framegrid_local.bench.peers.compare import figures
from framegrid_local.bench.peers.dialects import LitServe, Predict, Roboflow, Wire, labelled
from framegrid_serve.wire import (
    DetectResponse,
    FrameResult,
    FrameStatus,
    decode_request,
    encode_response,
)

# Left, top, right, bottom of the one box, from 0 to 1 of a picture of 640 x 320.
BOX = [0.25, 0.5, 0.75, 1.0]
SIZE = (640, 320)
PIXELS = [160.0, 160.0, 480.0, 320.0]


def test_ratios_are_medians_of_each_rounds_own_ratio() -> None:
    rounds = [
        {"wire": 90.0, "predict": 60.0, "litserve": 30.0, "litserve_openvino": 45.0, "roboflow": 20.0},
        {"wire": 80.0, "predict": 40.0, "litserve": 20.0, "litserve_openvino": 40.0, "roboflow": 10.0},
        {"wire": 10.0, "predict": 10.0, "litserve": 10.0, "litserve_openvino": 10.0, "roboflow": 10.0},
    ]
    points = {"wire": 44.0, "predict": 43.5, "litserve": 45.0, "litserve_openvino": 43.0, "roboflow": 43.5}
    told = figures(rounds, points)
    assert told["vs_litserve"] == 3.0 and told["predict_vs_litserve"] == 2.0
    assert told["vs_roboflow"] == 4.5 and told["predict_vs_roboflow"] == 3.0
    assert told["vs_litserve_openvino"] == 2.0
    # Points that the worse of our two routes has less than the peer; negative where it has more.
    assert told["vs_litserve_map_loss"] == 1.5
    assert told["vs_litserve_openvino_map_loss"] == -0.5


def wire_answer(status: FrameStatus = FrameStatus.OK) -> bytes:
    boxes = np.array([BOX], np.float32)
    result = FrameResult(status, boxes, np.array([0.5], np.float32), np.array([7], np.int16), 0.0, 1.0)
    if status is not FrameStatus.OK:
        result = FrameResult.without_boxes(status)
    return encode_response(DetectResponse("m", "1", "d", (result,)))


ROBOFLOW = {
    "predictions": [{"x": 320, "y": 240, "width": 320, "height": 160, "confidence": 0.5, "class_id": 7}]
}
ANSWERS = {
    "wire": (Wire(), wire_answer()),
    "predict": (
        Predict(),
        json.dumps(
            {"images": [{"boxes": [{"box_xyxy_relative": BOX, "class_id": 7, "score": 0.5}]}]}
        ).encode(),
    ),
    "litserve": (LitServe(), json.dumps({"boxes": [PIXELS], "scores": [0.5], "classes": [7]}).encode()),
    "roboflow": (Roboflow("m"), json.dumps(ROBOFLOW).encode()),
    "roboflow-list": (Roboflow("m"), json.dumps([ROBOFLOW]).encode()),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_same_box_is_read_out_of_every_servers_answer(name: str) -> None:
    dialect, answer = ANSWERS[name]
    (found,) = dialect.found(answer, [SIZE])
    np.testing.assert_allclose(found.boxes_xyxy, [BOX], atol=1e-6)
    assert found.class_ids.tolist() == [7] and found.scores.tolist() == [0.5]


def test_every_server_gets_the_pictures_bytes_and_the_least_score() -> None:
    jpeg = b"\xff\xd8 picture"
    wire = decode_request(Wire().ask([jpeg, jpeg], 0.25).body)
    assert [bytes(frame.jpeg) for frame in wire.frames] == [jpeg, jpeg] and wire.min_score == 0.25
    predict = Predict().ask([jpeg], 0.25)
    assert predict.body == jpeg
    assert urllib.parse.parse_qs(predict.path.partition("?")[2]) == {"min_score": ["0.25"]}
    litserve = json.loads(LitServe().ask([jpeg], 0.25).body)
    assert base64.b64decode(litserve["image_data"]) == jpeg and litserve["min_score"] == 0.25
    roboflow = json.loads(Roboflow("/model").ask([jpeg], 0.25).body)
    assert base64.b64decode(roboflow["image"][0]["value"]) == jpeg
    assert roboflow["confidence"] == 0.25 and roboflow["model_id"] == "/model"


def test_a_frame_that_failed_is_no_answer() -> None:
    with pytest.raises(ValueError, match="expected 1 results OK"):
        Wire().found(wire_answer(FrameStatus.FAILED), [SIZE])


def test_pictures_without_boxes_are_answers_too() -> None:
    empty = labelled([], [], [], SIZE)
    assert empty.boxes_xyxy.shape == (0, 4) and len(empty.scores) == 0
