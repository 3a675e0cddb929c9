"""The detector: JPEG in, boxes out. A plain class; no Ray, no HTTP.

Thread-safe for `streams` callers, each with at most `max_batch` pictures. It never raises for a picture:
a damaged one comes back CORRUPT, a failing engine FAILED, and the others of the batch are answered.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import cv2
import numpy as np

from framegrid_serve.bundle import Bundle
from framegrid_serve.engines.base import USUAL_PICTURE, EngineSettings, Floats
from framegrid_serve.engines.choice import open_engine
from framegrid_serve.errors import CorruptImageError, ModelError
from framegrid_serve.postprocess import boxes_of
from framegrid_serve.preprocess import Image, Letterbox, decode_and_place, place
from framegrid_serve.wire import Buffer, FrameResult, FrameStatus

logger = logging.getLogger(__name__)


class Detector:
    """One model, loaded. Raises ModelError when the bundle cannot be served."""

    def __init__(self, bundle: Bundle, settings: EngineSettings | None = None) -> None:
        # OpenCV would otherwise start a thread per core of the host for every resize.
        cv2.setNumThreads(1)
        self.bundle = bundle
        self.engine = open_engine(bundle, settings or EngineSettings())
        self._warm_up()

    @property
    def streams(self) -> int:
        """How many threads may call `detect` at a time to use the engine fully."""
        return self.engine.streams

    @property
    def max_batch(self) -> int:
        """How many pictures one call takes at most to use the engine fully."""
        return self.engine.max_batch

    def detect(
        self, jpegs: Sequence[Buffer], min_scores: float | Sequence[float] | None = None
    ) -> list[FrameResult]:
        """Boxes of each JPEG, in order. `min_scores`: one for all, one each, or the model's own (None)."""
        placed: list[Letterbox | None] = []
        for jpeg in jpegs:
            try:
                placed.append(decode_and_place(jpeg, self.bundle))
            except CorruptImageError:
                placed.append(None)
        return self._results(placed, min_scores)

    def detect_images(
        self, images: Sequence[Image], min_scores: float | Sequence[float] | None = None
    ) -> list[FrameResult]:
        """The same for pictures already decoded: BGR uint8 (H, W, 3). Raises ValueError for other arrays."""
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ValueError(f"expected BGR uint8 (H, W, 3), got {image.dtype} {image.shape}")
        return self._results([place(image, self.bundle) for image in images], min_scores)

    def close(self) -> None:
        """Free the engine. Nothing may be in flight."""
        self.engine.close()

    def _results(
        self, pictures: Sequence[Letterbox | None], min_scores: float | Sequence[float] | None
    ) -> list[FrameResult]:
        if min_scores is None:
            min_scores = self.bundle.manifest.thresholds.score
        if not isinstance(min_scores, Sequence):
            min_scores = [min_scores] * len(pictures)
        results = [FrameResult.without_boxes(FrameStatus.CORRUPT)] * len(pictures)
        by_shape: dict[tuple[int, ...], list[tuple[int, Letterbox]]] = {}
        for index, placed in enumerate(pictures):
            if placed is not None:
                by_shape.setdefault(placed.image.shape, []).append((index, placed))
        for members in by_shape.values():
            for start in range(0, len(members), self.max_batch):
                chunk = members[start : start + self.max_batch]
                answers = self._run(
                    [placed for _, placed in chunk], [min_scores[index] for index, _ in chunk]
                )
                for (index, _), answer in zip(chunk, answers, strict=True):
                    results[index] = answer
        return results

    def _run(self, placed: Sequence[Letterbox], min_scores: Sequence[float]) -> list[FrameResult]:
        """Infer pictures of one shape. The engine's failure is theirs alone."""
        started_s = time.perf_counter()

        def read(outputs: Floats) -> list[FrameResult]:
            infer_ms = (time.perf_counter() - started_s) * 1e3
            found = [
                boxes_of(output, picture, self.bundle, min_score)
                for output, picture, min_score in zip(outputs, placed, min_scores, strict=True)
            ]
            return [
                FrameResult(FrameStatus.OK, item.boxes_xyxy, item.scores, item.class_ids, 0.0, infer_ms)
                for item in found
            ]

        try:
            return self.engine.infer([picture.image for picture in placed], read)
        except Exception:  # engines fail with many types; the replica must live on
            logger.exception("engine failed", extra={"model": self.bundle.name, "frames": len(placed)})
            return [FrameResult.without_boxes(FrameStatus.FAILED)] * len(placed)

    def _warm_up(self) -> None:
        """One picture of the usual shape: compiles it, and shows that the outputs are numbers."""
        size = self.bundle.manifest.input_size
        height, width = (size * side // max(USUAL_PICTURE) for side in USUAL_PICTURE)
        placed = place(np.full((height, width, 3), 114, np.uint8), self.bundle)
        finite, shape = self.engine.infer(
            [placed.image], lambda outputs: (bool(np.isfinite(outputs).all()), outputs.shape)
        )
        if not finite:
            raise ModelError(
                f"{self.bundle.weights_path}: expected numbers from the model, got NaN or infinity"
            )
        if len(shape) != 3 or shape[0] != 1:
            raise ModelError(
                f"{self.bundle.weights_path}: expected an output of (1, ., .), got {list(shape)}"
            )
