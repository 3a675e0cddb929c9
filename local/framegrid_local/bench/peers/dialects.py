"""How each server is asked, and what it answers: one picture's boxes, whoever found them.

A dialect makes the body of a request from pictures as they lie on disk, and reads boxes out of the answer.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from framegrid_serve.evaluation import Labelled
from framegrid_serve.wire import (
    CONTENT_TYPE,
    DetectRequest,
    Frame,
    FrameStatus,
    decode_response,
    encode_request,
)

NMS_IOU = 0.7
Size = tuple[int, int]  # width, height


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, ready to send."""

    path: str
    content_type: str
    body: bytes


class Dialect(Protocol):
    """See the module."""

    batch: int  # pictures in a request
    connections: int  # requests in flight that keep the server busy

    def ask(self, jpegs: Sequence[bytes], min_score: float) -> Ask:
        """The request for these pictures."""
        ...

    def found(self, answer: bytes, sizes: Sequence[Size]) -> list[Labelled]:
        """Boxes relative to the picture (0..1), picture by picture. Raises ValueError when one failed."""
        ...


class Wire:
    """Framegrid's `POST /v1/detect`, as ingest asks: 8 frames in a request."""

    batch, connections = 8, 4

    def ask(self, jpegs: Sequence[bytes], min_score: float) -> Ask:
        """See Dialect."""
        frames = tuple(Frame("bench", index, jpeg) for index, jpeg in enumerate(jpegs))
        request = DetectRequest(frames, timeout_ms=30_000, min_score=min_score)
        return Ask("/v1/detect", CONTENT_TYPE, encode_request(request))

    def found(self, answer: bytes, sizes: Sequence[Size]) -> list[Labelled]:
        """See Dialect."""
        results = decode_response(answer).results
        if len(results) != len(sizes) or any(result.status is not FrameStatus.OK for result in results):
            raise ValueError(f"expected {len(sizes)} results OK, got {[one.status.name for one in results]}")
        return [Labelled(one.boxes_xyxy, one.class_ids, one.scores) for one in results]


class Predict:
    """Framegrid's `POST /predict`: one picture as the body, JSON back."""

    batch, connections = 1, 8

    def ask(self, jpegs: Sequence[bytes], min_score: float) -> Ask:
        """See Dialect."""
        (jpeg,) = jpegs
        return Ask(f"/predict?min_score={min_score}", "image/jpeg", jpeg)

    def found(self, answer: bytes, sizes: Sequence[Size]) -> list[Labelled]:
        """See Dialect."""
        boxes = json.loads(answer)["images"][0]["boxes"]
        return [
            labelled(
                [box["box_xyxy_relative"] for box in boxes],
                [box["class_id"] for box in boxes],
                [box["score"] for box in boxes],
                (1, 1),
            )
        ]


class LitServe:
    """The server in `litserve_server.py`."""

    batch, connections = 1, 8

    def ask(self, jpegs: Sequence[bytes], min_score: float) -> Ask:
        """See Dialect."""
        (jpeg,) = jpegs
        body = {"image_data": base64.b64encode(jpeg).decode(), "min_score": min_score}
        return Ask("/predict", "application/json", json.dumps(body).encode())

    def found(self, answer: bytes, sizes: Sequence[Size]) -> list[Labelled]:
        """See Dialect."""
        told = json.loads(answer)
        return [labelled(told["boxes"], told["classes"], told["scores"], sizes[0])]


class Roboflow:
    """Roboflow Inference's `POST /infer/object_detection`, as its SDK asks."""

    connections = 8

    def __init__(self, model: str, batch: int = 1) -> None:
        self._model = model
        self.batch = batch

    def ask(self, jpegs: Sequence[bytes], min_score: float) -> Ask:
        """See Dialect."""
        body = {
            "model_id": self._model,
            "api_key": "none",  # required, and not looked at for a local model
            "image": [{"type": "base64", "value": base64.b64encode(jpeg).decode()} for jpeg in jpegs],
            "confidence": min_score,
            "iou_threshold": NMS_IOU,
        }
        return Ask("/infer/object_detection", "application/json", json.dumps(body).encode())

    def found(self, answer: bytes, sizes: Sequence[Size]) -> list[Labelled]:
        """See Dialect."""
        told = json.loads(answer)
        pictures = told if isinstance(told, list) else [told]
        if len(pictures) != len(sizes):
            raise ValueError(f"expected {len(sizes)} answers, got {len(pictures)}")
        return [
            labelled(
                [_corners(box) for box in picture["predictions"]],
                [box["class_id"] for box in picture["predictions"]],
                [box["confidence"] for box in picture["predictions"]],
                size,
            )
            for picture, size in zip(pictures, sizes, strict=True)
        ]


def labelled(
    boxes: Sequence[Sequence[float]], classes: Sequence[int], scores: Sequence[float], size: Size
) -> Labelled:
    """Boxes x1 y1 x2 y2 in units of which `size` (width, height) is the whole picture."""
    pixels = np.asarray(boxes, np.float64).reshape(-1, 4)
    return Labelled(
        pixels / np.array([*size, *size]), np.asarray(classes, np.int64), np.asarray(scores, float)
    )


def _corners(box: dict[str, Any]) -> list[float]:
    """Roboflow tells centre and size."""
    half_width, half_height = box["width"] / 2, box["height"] / 2
    return [box["x"] - half_width, box["y"] - half_height, box["x"] + half_width, box["y"] + half_height]
