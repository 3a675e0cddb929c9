"""The peer LitServe: its own example of an image server, with Ultralytics as the model.

Run by the interpreter of LitServe's environment, never by ours. As in LitServe's guide "Speed up serving by
200x": JSON with the picture in base64, `max_batch_size`, `batch_timeout`, `workers_per_device`.
"""

from __future__ import annotations

import argparse
import base64
from typing import Any

import cv2
import litserve as ls
import numpy as np
import torch
from ultralytics import YOLO


class DetectApi(ls.LitAPI):  # type: ignore[misc]  # not installed where mypy runs
    """POST /predict {"image_data": base64, "min_score": 0.25} -> {"boxes", "scores", "classes"}."""

    def __init__(self, weights: str, threads: int, **options: Any) -> None:
        super().__init__(**options)
        self._weights, self._threads = weights, threads

    def setup(self, device: str) -> None:
        """Once in each worker."""
        torch.set_num_threads(self._threads)
        cv2.setNumThreads(1)
        self.model = YOLO(self._weights, task="detect")

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # an annotation is a schema to LitServe
        """BGR picture and least score."""
        data = np.frombuffer(base64.b64decode(request["image_data"]), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR), float(request["min_score"])

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Pictures differ in size: a list, which Ultralytics letterboxes to one shape."""
        return list(inputs)

    def predict(self, x: Any) -> Any:
        """One picture, or a batch of them; all of a batch ask for the same least score."""
        batch = x if isinstance(x, list) else [x]
        found = self.model.predict(
            [image for image, _ in batch], imgsz=640, conf=batch[0][1], iou=0.7, device="cpu", verbose=False
        )
        return [one.boxes for one in found] if isinstance(x, list) else found[0].boxes

    def unbatch(self, output: Any) -> Any:
        """One answer for each request."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Pixels of the picture."""
        return {
            "boxes": output.xyxy.tolist(),
            "scores": output.conf.tolist(),
            "classes": output.cls.int().tolist(),
        }


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()
    api = DetectApi(options.weights, options.threads, max_batch_size=options.batch, batch_timeout=0.01)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=options.workers, timeout=60)
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
