"""The wire format between cameras and serve: JPEG frames in, boxes out.

Little-endian, versioned, no padding but what is named. `serve/README.md` describes every byte, so that
another language can speak it. Needs numpy and the standard library alone, and never copies a frame:
`decode_request` hands out views into the body it was given.

The parser trusts nothing. Every length is checked against a bound and against the bytes that are there
before anything is allocated, so a hostile body costs at most its own size. It raises `WireError` only.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

WIRE_VERSION = 1
CONTENT_TYPE = "application/vnd.framegrid.frames"

# About 2 MB is the size that pays; 8 MiB leaves room for one large still picture.
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_FRAMES = 64
MAX_NAME_BYTES = 128
MAX_DIGEST_BYTES = 128
# YOLO exports keep at most 300 boxes a picture; crowded custom models get room.
MAX_DETECTIONS = 1000
MAX_TIMEOUT_MS = 600_000

_REQUEST_MAGIC = b"FGRQ"
_RESPONSE_MAGIC = b"FGRS"
# magic, version, model bytes, frames, timeout_ms, min_score, priority, offered_frames, dropped_frames
_REQUEST_HEAD = struct.Struct("<4sBBHIfiII")
# seq, JPEG bytes, camera bytes, 3 reserved bytes (zero)
_FRAME_HEAD = struct.Struct("<QIB3s")
# magic, version, model bytes, version bytes, digest bytes, frames, 2 reserved bytes (zero)
_RESPONSE_HEAD = struct.Struct("<4sBBBBH2s")
# status, 1 reserved byte (zero), detections, queue_ms, infer_ms
_RESULT_HEAD = struct.Struct("<BBHff")
_BYTES_PER_DETECTION = 4 * 4 + 4 + 2

Buffer = bytes | bytearray | memoryview


class WireError(ValueError):
    """The bytes (or the values to be sent) are not this wire format; the text says what was expected."""


class FrameStatus(IntEnum):
    """What became of one frame. Only `OK` carries boxes (possibly none)."""

    OK = 0
    STALE = 1  # its time budget was spent before an engine was free; never decoded
    CORRUPT = 2  # not a JPEG, truncated, or too many pixels
    FAILED = 3  # the engine failed on it


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture. `seq` is the camera's own number (u64); the answer keeps the order, not the number."""

    camera: str
    seq: int
    jpeg: Buffer


@dataclass(frozen=True, slots=True)
class DetectRequest:
    """Frames for one model. `timeout_ms` is the budget left, relative, so clocks need not agree.

    `offered_frames` and `dropped_frames` are what the sender's cameras produced and lost since its last
    acknowledged request: the load that serve would otherwise never see.
    """

    frames: tuple[Frame, ...]
    model: str = ""
    timeout_ms: int = 1000
    min_score: float = 0.25
    priority: int = 0
    offered_frames: int = 0
    dropped_frames: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """Boxes of one frame, best score first, relative to the picture (0..1, x right, y down)."""

    status: FrameStatus
    boxes_xyxy: npt.NDArray[np.float32]  # (n, 4)
    scores: npt.NDArray[np.float32]  # (n,)
    class_ids: npt.NDArray[np.int16]  # (n,) index into the model's class list
    queue_ms: float = 0.0
    infer_ms: float = 0.0

    @classmethod
    def without_boxes(cls, status: FrameStatus, queue_ms: float = 0.0, infer_ms: float = 0.0) -> FrameResult:
        """A result that carries no detection, for frames that were not analysed."""
        return cls(
            status=status,
            boxes_xyxy=np.empty((0, 4), np.float32),
            scores=np.empty(0, np.float32),
            class_ids=np.empty(0, np.int16),
            queue_ms=queue_ms,
            infer_ms=infer_ms,
        )


@dataclass(frozen=True, slots=True, eq=False)
class DetectResponse:
    """Results in the order of the request's frames, and which model made them."""

    model: str
    version: str
    digest: str
    results: tuple[FrameResult, ...]


def encode_request(request: DetectRequest) -> bytes:
    """Bytes of a request. Raises WireError for values the format cannot carry."""
    model = _encode_name(request.model, "model", may_be_empty=True)
    _check_range("frames", len(request.frames), 1, MAX_FRAMES)
    _check_request_values(request.timeout_ms, request.min_score)
    _check_range("priority", request.priority, -(2**31), 2**31 - 1)
    _check_range("offered_frames", request.offered_frames, 0, 2**32 - 1)
    _check_range("dropped_frames", request.dropped_frames, 0, 2**32 - 1)
    head = _REQUEST_HEAD.pack(
        _REQUEST_MAGIC,
        WIRE_VERSION,
        len(model),
        len(request.frames),
        request.timeout_ms,
        request.min_score,
        request.priority,
        request.offered_frames,
        request.dropped_frames,
    )
    parts: list[Buffer] = [head, model]
    size_bytes = len(head) + len(model)
    for frame in request.frames:
        camera = _encode_name(frame.camera, "camera")
        _check_range("seq", frame.seq, 0, 2**64 - 1)
        jpeg_bytes = _byte_size(frame.jpeg)
        size_bytes += _FRAME_HEAD.size + len(camera) + jpeg_bytes
        if size_bytes > MAX_BODY_BYTES:
            raise WireError(
                f"expected a body of at most {MAX_BODY_BYTES} bytes, got more at frame {frame.seq}; "
                f"send fewer or smaller frames"
            )
        if jpeg_bytes == 0:
            raise WireError(f"expected JPEG bytes for frame {frame.seq}, got none; drop the frame instead")
        parts += [_FRAME_HEAD.pack(frame.seq, jpeg_bytes, len(camera), b"\0\0\0"), camera, frame.jpeg]
    return b"".join(parts)


def decode_request(body: Buffer) -> DetectRequest:
    """The request in `body`. Frames are views into it. Raises WireError, nothing else."""
    reader = _Reader(body)
    head = reader.unpack(_REQUEST_HEAD, "request head")
    magic, version, model_bytes, frame_count, timeout_ms, min_score, priority, offered, dropped = head
    _check_magic(magic, _REQUEST_MAGIC, version)
    _check_range("frames", frame_count, 1, MAX_FRAMES)
    _check_request_values(timeout_ms, min_score)
    model = reader.name(model_bytes, "model", may_be_empty=True)
    frames = tuple(_decode_frame(reader, index) for index in range(frame_count))
    reader.finish()
    return DetectRequest(
        frames=frames,
        model=model,
        timeout_ms=timeout_ms,
        min_score=min_score,
        priority=priority,
        offered_frames=offered,
        dropped_frames=dropped,
    )


def encode_response(response: DetectResponse) -> bytes:
    """Bytes of a response. Raises WireError for values the format cannot carry."""
    model = _encode_name(response.model, "model")
    version = _encode_name(response.version, "version")
    digest = _encode_name(response.digest, "digest", may_be_empty=True, limit=MAX_DIGEST_BYTES)
    _check_range("results", len(response.results), 1, MAX_FRAMES)
    head = _RESPONSE_HEAD.pack(
        _RESPONSE_MAGIC,
        WIRE_VERSION,
        len(model),
        len(version),
        len(digest),
        len(response.results),
        b"\0\0",
    )
    parts: list[bytes] = [head, model, version, digest]
    for result in response.results:
        parts += _encode_result(result)
    return b"".join(parts)


def decode_response(body: Buffer) -> DetectResponse:
    """The response in `body`; its arrays are copies. Raises WireError, nothing else."""
    reader = _Reader(body)
    head = reader.unpack(_RESPONSE_HEAD, "response head")
    magic, wire_version, model_bytes, version_bytes, digest_bytes, count, reserved = head
    _check_magic(magic, _RESPONSE_MAGIC, wire_version)
    _check_zero(reserved, "response head")
    _check_range("results", count, 1, MAX_FRAMES)
    model = reader.name(model_bytes, "model")
    version = reader.name(version_bytes, "version")
    digest = reader.name(digest_bytes, "digest", may_be_empty=True, limit=MAX_DIGEST_BYTES)
    results = tuple(_decode_result(reader, index) for index in range(count))
    reader.finish()
    return DetectResponse(model=model, version=version, digest=digest, results=results)


class _Reader:
    """A cursor over the body that never reads past its end."""

    __slots__ = ("_at", "_view")

    def __init__(self, body: Buffer) -> None:
        try:
            view = memoryview(body).cast("B")
        except (TypeError, ValueError) as error:
            raise WireError(f"expected contiguous bytes, got {type(body).__name__}") from error
        if len(view) > MAX_BODY_BYTES:
            raise WireError(f"expected a body of at most {MAX_BODY_BYTES} bytes, got {len(view)}")
        self._view = view
        self._at = 0

    def take(self, size_bytes: int, what: str) -> memoryview:
        left = len(self._view) - self._at
        if size_bytes > left:
            raise WireError(
                f"expected {size_bytes} bytes of {what} at byte {self._at}, got {left}: truncated"
            )
        start = self._at
        self._at += size_bytes
        return self._view[start : self._at]

    def unpack(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size, what))

    def name(
        self, size_bytes: int, what: str, *, may_be_empty: bool = False, limit: int = MAX_NAME_BYTES
    ) -> str:
        _check_range(f"{what} bytes", size_bytes, 0 if may_be_empty else 1, limit)
        raw = bytes(self.take(size_bytes, what))
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise WireError(f"expected {what} in UTF-8, got bytes that are not") from error
        _check_printable(text, what)
        return text

    def finish(self) -> None:
        left = len(self._view) - self._at
        if left:
            raise WireError(f"expected the body to end at byte {self._at}, got {left} bytes more")


def _decode_frame(reader: _Reader, index: int) -> Frame:
    seq, jpeg_bytes, camera_bytes, reserved = reader.unpack(_FRAME_HEAD, f"head of frame {index}")
    _check_zero(reserved, f"head of frame {index}")
    camera = reader.name(camera_bytes, "camera")
    _check_range(f"JPEG bytes of frame {index}", jpeg_bytes, 1, MAX_BODY_BYTES)
    return Frame(camera=camera, seq=seq, jpeg=reader.take(jpeg_bytes, f"JPEG of frame {index}"))


def _encode_result(result: FrameResult) -> list[bytes]:
    count = len(result.scores)
    _check_range("detections", count, 0, MAX_DETECTIONS)
    if result.boxes_xyxy.shape != (count, 4) or result.class_ids.shape != (count,):
        raise WireError(
            f"expected boxes ({count}, 4) and class_ids ({count},) to match {count} scores, "
            f"got {result.boxes_xyxy.shape} and {result.class_ids.shape}"
        )
    if count and result.status is not FrameStatus.OK:
        raise WireError(f"expected no boxes with status {result.status.name}, got {count}")
    _check_finite("queue_ms", result.queue_ms)
    _check_finite("infer_ms", result.infer_ms)
    head = _RESULT_HEAD.pack(int(result.status), 0, count, result.queue_ms, result.infer_ms)
    return [
        head,
        np.ascontiguousarray(result.boxes_xyxy, "<f4").tobytes(),
        np.ascontiguousarray(result.scores, "<f4").tobytes(),
        np.ascontiguousarray(result.class_ids, "<i2").tobytes(),
    ]


def _decode_result(reader: _Reader, index: int) -> FrameResult:
    what = f"result {index}"
    status_code, reserved, count, queue_ms, infer_ms = reader.unpack(_RESULT_HEAD, f"head of {what}")
    if reserved:
        raise WireError(f"expected reserved bytes of {what} to be zero, got {reserved}")
    try:
        status = FrameStatus(status_code)
    except ValueError as error:
        raise WireError(f"expected a status 0..3 in {what}, got {status_code}") from error
    _check_range(f"detections of {what}", count, 0, MAX_DETECTIONS if status is FrameStatus.OK else 0)
    _check_finite("queue_ms", queue_ms)
    _check_finite("infer_ms", infer_ms)
    raw = reader.take(count * _BYTES_PER_DETECTION, f"detections of {what}")
    boxes = np.frombuffer(raw, "<f4", count * 4).reshape(count, 4).astype(np.float32)
    scores = np.frombuffer(raw, "<f4", count, offset=count * 16).astype(np.float32)
    class_ids = np.frombuffer(raw, "<i2", count, offset=count * 20).astype(np.int16)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise WireError(f"expected finite boxes and scores in {what}, got NaN or infinity")
    return FrameResult(status, boxes, scores, class_ids, queue_ms, infer_ms)


def _encode_name(text: str, what: str, *, may_be_empty: bool = False, limit: int = MAX_NAME_BYTES) -> bytes:
    _check_printable(text, what)
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise WireError(f"expected {what} that UTF-8 can carry, got lone surrogates") from error
    _check_range(f"{what} bytes", len(raw), 0 if may_be_empty else 1, limit)
    return raw


def _byte_size(data: Buffer) -> int:
    return data.nbytes if isinstance(data, memoryview) else len(data)


def _check_printable(text: str, what: str) -> None:
    # Names reach logs and metrics labels: no line breaks or control characters.
    if not text.isprintable():
        raise WireError(f"expected {what} of printable characters, got control characters")


def _check_magic(magic: bytes, expected: bytes, version: int) -> None:
    if magic != expected:
        raise WireError(f"expected the body to start with {expected!r}, got {magic!r}")
    if version != WIRE_VERSION:
        raise WireError(f"expected wire version {WIRE_VERSION}, got {version}; update the older side")


def _check_zero(reserved: bytes, what: str) -> None:
    if any(reserved):
        raise WireError(f"expected reserved bytes of {what} to be zero, got {reserved.hex()}")


def _check_request_values(timeout_ms: int, min_score: float) -> None:
    _check_range("timeout_ms", timeout_ms, 1, MAX_TIMEOUT_MS)
    if not 0.0 <= min_score <= 1.0:  # also refuses NaN
        raise WireError(f"expected min_score in 0..1, got {min_score}")


def _check_finite(what: str, value: float) -> None:
    if not math.isfinite(value):
        raise WireError(f"expected a finite {what}, got {value}")


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise WireError(f"expected {what} in {low}..{high}, got {value}")
