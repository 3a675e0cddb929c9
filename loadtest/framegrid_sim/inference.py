"""Detections of an exported network, for measuring it right after training.

Small on purpose and independent of the serving code, so that a mistake there cannot hide one here.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from framegrid_sim.dataset import INPUT_SIZE, letterbox
from framegrid_sim.score import Found

_STRIDE = 32


class OnnxDetector:
    """Runs an ONNX file of the YOLOv8 layout through OpenVINO on the CPU, at the picture's own shape."""

    def __init__(self, weights: Path, score: float = 0.01, iou: float = 0.7) -> None:
        import openvino

        core = openvino.Core()
        # f32: the figures are those of the weights, whatever the machine's fast formats are.
        self._model = core.compile_model(weights, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._score, self._iou = score, iou

    def detect(self, jpeg: bytes) -> Found:
        image = simplejpeg.decode_jpeg(jpeg, colorspace="RGB")
        h, w = image.shape[:2]
        fit = min(1.0, INPUT_SIZE / max(h, w))
        width, height = (-(-round(side * fit) // _STRIDE) * _STRIDE for side in (w, h))
        padded, scale, left, top = letterbox(image, width, height)
        blob = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32) / 255
        out = self._model(blob)[0][0]  # (4 + classes, candidates)
        scores = out[4:].max(axis=0)
        kept = np.flatnonzero(scores >= self._score)
        ids = out[4:, kept].argmax(axis=0)
        centre, size = out[:2, kept].T, out[2:4, kept].T
        low = centre - size / 2
        boxes = np.concatenate([low, size], axis=1)
        chosen = np.array(
            cv2.dnn.NMSBoxesBatched(
                boxes.tolist(), scores[kept].tolist(), ids.tolist(), self._score, self._iou
            ),
            int,
        )
        corners = np.concatenate([low, low + size], axis=1)[chosen].reshape(-1, 4)
        relative = np.clip((corners - (left, top, left, top)) / scale / (w, h, w, h), 0, 1)
        return Found(
            relative.astype(np.float32), scores[kept][chosen].astype(np.float32), ids[chosen].astype(np.int64)
        )
