"""The peer: the ordinary Ultralytics loop, `YOLO(weights).track(video, stream=True)`, in PyTorch on CPU.

Run as a process of its own. Prints one JSON line: frames per second after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import time


def measure_fps(weights: str, video: str, seconds: float, warm_up_frames: int = 10) -> float:
    """Frames per second of detection and tracking, starting over when the video ends."""
    from ultralytics import YOLO

    model = YOLO(weights)
    frames = -warm_up_frames
    started = time.perf_counter()
    while True:
        for _ in model.track(video, stream=True, verbose=False, imgsz=640, device="cpu"):
            frames += 1
            if frames == 0:
                started = time.perf_counter()
            if frames > 0 and time.perf_counter() - started >= seconds:
                return frames / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--video", required=True)
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    print(json.dumps({"fps": measure_fps(options.weights, options.video, options.seconds)}))


if __name__ == "__main__":
    main()
