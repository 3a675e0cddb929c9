"""What a camera's 1080p frame costs on the wire, and what its coding costs in detections.

Frames of a 1080p recording, scaled and coded as ingest does it. Truth for the agreement is what the same
model finds in the same scaled picture before coding; mAP is against coco128's labels, its stored pictures
coded once more. Times are of one thread.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, starmap
from pathlib import Path
from typing import Any

import av
import numpy as np
from framegrid_ingest.pictures import VideoPicture, to_jpeg
from framegrid_serve.bundle import Bundle, load_bundle
from framegrid_serve.dataset import read_dataset, read_picture, truth_of
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.evaluation import Labelled, agreeing_boxes, evaluate
from framegrid_serve.preprocess import decode_and_place, letterbox
from framegrid_serve.wire import DetectRequest, Frame, FrameStatus, encode_request

from framegrid_local import machine
from framegrid_local.bench import inputs
from framegrid_local.bench.codecs import CODECS, Codec, Pixels, scaled
from framegrid_local.bench.unavailable import UnavailableError

WIDTH, HEIGHT = 1920, 1080
RAW_BYTES = WIDTH * HEIGHT * 3
INPUT_SIZE = 640
BATCH = 8  # frames that ingest puts into a request
FRAMES = 20
# The head of ingest's request: POST /v1/detect HTTP/1.1, Host, Content-Type, Content-Length.
HTTP_HEAD_BYTES = 160
SCORE, LEAST_SCORE = 0.25, 0.001
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """One codec on the frames and on the labelled pictures."""

    codec: str
    frame_kb: float
    raw_over_frame: float  # how many times smaller than raw 1080p
    encode_ms: float
    decode_ms: float
    frame_f1: float  # agreement on the frames, 0..1
    coco_f1: float
    map_loss_points: float  # mAP50-95 against labels, in points


def measure_frames() -> dict[str, Any]:
    """frame_bytes_ratio (wire over raw 1080p), transfer_time_ratio (loopback), and every codec's cost."""
    if not inputs.COCO.is_dir():
        raise UnavailableError(f"expected {inputs.COCO} (coco128); set FRAMEGRID_TEST_DATA")
    bundle = load_bundle(inputs.bundle(inputs.weights(), INPUT_SIZE))
    frames = read_frames(inputs.video_1080p(), FRAMES)
    jpegs = [to_jpeg(VideoPicture(frame), INPUT_SIZE).data for frame in frames]
    full = [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in frames]
    transfer = measure_transfer(frames, full, jpegs, bundle)
    detector = Detector(bundle, EngineSettings(threads=machine.usable_cpus(), shapes=16))
    try:
        costs = _costs(detector, [scaled(picture, INPUT_SIZE) for picture in full])
    finally:
        detector.close()
    return {
        "frame_bytes_ratio": round(wire_bytes(jpegs) / RAW_BYTES, 5),
        "transfer_time_ratio": round(transfer["wire_ms"] / transfer["raw_ms"], 3),
        "frames": {"wire_bytes": round(wire_bytes(jpegs)), **transfer, "codecs": costs},
    }


def wire_bytes(jpegs: Sequence[bytes]) -> float:
    """Bytes of a frame on the wire, its share of the request's heads included."""
    bodies = [
        encode_request(DetectRequest(tuple(starmap(_frame, enumerate(jpegs[start : start + BATCH])))))
        for start in range(0, len(jpegs), BATCH)
    ]
    return sum(len(body) + HTTP_HEAD_BYTES for body in bodies) / len(jpegs)


def agreement(found: Sequence[Labelled], truth: Sequence[Labelled]) -> float:
    """F1 of boxes with at least SCORE, IoU 0.5, same class: 1 when every box has its partner."""
    kept, wanted = [_confident(one) for one in found], [_confident(one) for one in truth]
    boxes = sum(len(one.scores) for one in (*kept, *wanted))
    agreeing = sum(agreeing_boxes(one, other) for one, other in zip(kept, wanted, strict=True))
    return 2 * agreeing / boxes if boxes else 1.0


def read_frames(video: Path, count: int) -> list[Any]:
    """The first frames, as PyAV decodes them. Raises UnavailableError unless they are 1080p."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        if (stream.width, stream.height) != (WIDTH, HEIGHT):
            raise UnavailableError(f"expected a recording of 1920x1080, got {stream.width}x{stream.height}")
        return [frame for _, frame in zip(range(count), container.decode(video=0), strict=False)]


def measure_transfer(
    frames: Sequence[Any], full: Sequence[Pixels], jpegs: Sequence[bytes], bundle: Bundle
) -> dict[str, float]:
    """Camera's picture to the model's input across a TCP connection of this machine, milliseconds a frame.

    Raw: 6.2 MB are sent, and scaled in serve. Wire: scaled and coded, sent, decoded. What a slower link would
    add is the bytes over its rate; told for 1 Gbit/s.
    """

    def raw(index: int, link: Link) -> None:
        received = link.carry(full[index].data.cast("B"))
        picture = np.frombuffer(received, np.uint8).reshape(HEIGHT, WIDTH, 3)
        letterbox(picture, 384, INPUT_SIZE)

    def wire(index: int, link: Link) -> None:
        decode_and_place(link.carry(to_jpeg(VideoPicture(frames[index]), INPUT_SIZE).data), bundle)

    times_ms: dict[str, list[float]] = {"raw_ms": [], "wire_ms": []}
    with Link() as link:
        for turn in range(_ROUNDS):
            order = (("raw_ms", raw), ("wire_ms", wire))
            for key, carry in order if turn % 2 == 0 else order[::-1]:
                times_ms[key].append(_per_frame_ms(carry, link, len(frames)))
    found = {key: round(statistics.median(values), 3) for key, values in times_ms.items()}
    jpeg_bytes = statistics.mean(map(len, jpegs))
    for key, size_bytes in (("raw", RAW_BYTES), ("wire", jpeg_bytes)):
        found[f"{key}_ms_at_1_gbit"] = round(found[f"{key}_ms"] + size_bytes * 8 / 1e9 * 1e3, 3)
    return found


class Link:
    """A TCP connection of this machine with both its ends."""

    def __enter__(self) -> Link:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sender = socket.create_connection(self._listener.getsockname())
        self._receiver, _ = self._listener.accept()
        return self

    def __exit__(self, *error: object) -> None:
        for end in (self._sender, self._receiver, self._listener):
            end.close()

    def carry(self, data: bytes | memoryview) -> bytearray:
        """What arrived at the other end."""
        sending = threading.Thread(target=self._sender.sendall, args=(data,))
        sending.start()
        buffer = bytearray(len(data))
        view, received = memoryview(buffer), 0
        while received < len(data):
            received += self._receiver.recv_into(view[received:])
        sending.join()
        return buffer


def _costs(detector: Detector, frames: Sequence[Pixels]) -> list[dict[str, Any]]:
    dataset = read_dataset(inputs.COCO, "val")
    numbers = {number: number for number in range(len(detector.bundle.classes))}
    labels = [truth_of(picture, numbers) for picture in dataset.pictures]
    pictures = [scaled(read_picture(path), INPUT_SIZE) for path in dataset.pictures]
    frame_truth, coco_truth = _found(detector, frames), _found(detector, pictures)
    best = evaluate(coco_truth, labels).map50_95
    told = []
    for codec in CODECS:
        times = _timed(codec, frames)
        coded = [_through(codec, picture) for picture in pictures]
        found = _found(detector, coded)
        frame_found = _found(detector, [_through(codec, frame) for frame in frames])
        told.append(
            Cost(
                codec=codec.name,
                frame_kb=round(times["bytes"] / 1e3, 1),
                raw_over_frame=round(RAW_BYTES / times["bytes"], 1),
                encode_ms=round(times["encode_ms"], 2),
                decode_ms=round(times["decode_ms"], 2),
                frame_f1=round(agreement(frame_found, frame_truth), 4),
                coco_f1=round(agreement(found, coco_truth), 4),
                map_loss_points=round(100 * (best - evaluate(found, labels).map50_95), 3),
            )
        )
    return [{name: getattr(one, name) for name in Cost.__slots__} for one in told]


def _through(codec: Codec, picture: Pixels) -> Pixels:
    """Coded and decoded, its own size."""
    height, width = picture.shape[:2]
    return np.ascontiguousarray(codec.decode(codec.encode(picture))[:height, :width])


def _timed(codec: Codec, frames: Sequence[Pixels]) -> dict[str, float]:
    encode_ms, decode_ms, sizes = [], [], []
    for frame in frames:
        at_s = [time.perf_counter()]
        data = codec.encode(frame)
        at_s.append(time.perf_counter())
        codec.decode(data)
        at_s.append(time.perf_counter())
        spent_ms = [(after - before) * 1e3 for before, after in pairwise(at_s)]
        encode_ms.append(spent_ms[0])
        decode_ms.append(spent_ms[1])
        sizes.append(len(data))
    return {
        "encode_ms": statistics.median(encode_ms),
        "decode_ms": statistics.median(decode_ms),
        "bytes": statistics.mean(sizes),
    }


def _found(detector: Detector, pictures: Sequence[Pixels]) -> list[Labelled]:
    def one(picture: Pixels) -> Labelled:
        (result,) = detector.detect_images([picture], LEAST_SCORE)
        if result.status is not FrameStatus.OK:
            raise RuntimeError(f"expected boxes, got {result.status.name}")
        return Labelled(result.boxes_xyxy, result.class_ids, result.scores)

    with ThreadPoolExecutor(detector.streams) as pool:
        return list(pool.map(one, pictures))


def _confident(one: Labelled) -> Labelled:
    kept = one.scores >= SCORE
    return Labelled(one.boxes_xyxy[kept], one.class_ids[kept], one.scores[kept])


def _frame(index: int, jpeg: bytes) -> Frame:
    return Frame("camera-1", index, jpeg)


def _per_frame_ms(carry: Callable[[int, Link], None], link: Link, count: int) -> float:
    started_s = time.perf_counter()
    for index in range(count):
        carry(index, link)
    return (time.perf_counter() - started_s) / count * 1e3
