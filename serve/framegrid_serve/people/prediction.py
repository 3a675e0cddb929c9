"""From a person's pictures to boxes: opened and decoded on one thread, detected with priority, answered.

A picture that cannot be used spoils no other of the same request. The number of pictures in the replica is
bounded, so that people cannot crowd out cameras; one decoder thread bounds memory and CPU in the same way.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegrid_serve.people.answer import Box, PictureAnswer, PredictAnswer, Timings
from framegrid_serve.people.drawing import annotated_jpeg
from framegrid_serve.people.options import Annotate, PredictOptions
from framegrid_serve.people.picture import Picture, jpeg_for, open_picture, pixels_of
from framegrid_serve.people.refusal import RefusedError, as_refusals
from framegrid_serve.people.settings import PeopleSettings
from framegrid_serve.people.upload import Named
from framegrid_serve.service import DetectService
from framegrid_serve.wire import DetectRequest, Frame, FrameResult, FrameStatus

if TYPE_CHECKING:
    from framegrid_serve.served import Model

# Above every camera: a person waits. Far from the end of the scale, so that somebody can be put above.
PRIORITY = 1000
_BUSY_RETRY_S = 1.0


@dataclass(slots=True)
class _Work:
    """One picture on its way."""

    named: Named
    picture: Picture | None = None
    jpeg: bytes = b""
    decode_ms: float = 0.0
    error: RefusedError | None = None


class Predictor:
    """One per replica."""

    def __init__(self, service: DetectService, settings: PeopleSettings) -> None:
        self._service = service
        self._settings = settings
        self._pool = ThreadPoolExecutor(1, "pictures")
        self._images = 0

    async def predict(self, pictures: Sequence[Named], options: PredictOptions) -> PredictAnswer:
        """Boxes of each picture, in order.

        Raises RefusedError: 404 no such model, 422 wrong options, 429 too busy, 503 engine failed; with one
        picture, or when none can be used, also why that is.
        """
        with as_refusals():
            model = self._service.registry.get(options.model)
        wanted = self._wanted_classes(model, options)
        if self._images + len(pictures) > self._settings.max_waiting_images:
            raise RefusedError(
                429,
                f"expected at most {self._settings.max_waiting_images} pictures at a time, "
                f"got {self._images} and {len(pictures)} more; retry",
                _BUSY_RETRY_S,
            )
        self._images += len(pictures)
        try:
            return await self._predict(model, pictures, options, wanted)
        finally:
            self._images -= len(pictures)

    def close(self) -> None:
        """End the thread; what it does now is finished first."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _predict(
        self, model: Model, pictures: Sequence[Named], options: PredictOptions, wanted: frozenset[str]
    ) -> PredictAnswer:
        started_s = time.perf_counter()
        manifest = model.detector.bundle.manifest
        loop = asyncio.get_running_loop()
        works = [_Work(named) for named in pictures]
        for work in works:  # one after another: all would hold their pixels at once
            await loop.run_in_executor(
                self._pool, _prepare, work, self._settings.max_pixels, manifest.input_size
            )
        good = [work for work in works if work.error is None]
        if not good and works[0].error is not None:
            raise works[0].error
        min_score = manifest.thresholds.score if options.min_score is None else options.min_score
        results = iter(await self._detect(model, [work.jpeg for work in good], min_score, options.timeout_s))
        answers = []
        for work in works:
            result = None if work.error else next(results)
            try:
                answer = self._answer(work, result, model, wanted)
                if (
                    options.annotate is not Annotate.NONE
                    and work.picture is not None
                    and answer.error is None
                ):
                    await loop.run_in_executor(self._pool, _annotate, work.picture, answer)
            except RefusedError as error:
                if len(works) == 1:
                    raise
                answer = PictureAnswer(name=work.named.name, error=error.text, status=error.status)
            if answer.timings_ms is not None:
                answer.timings_ms.total = _since_ms(started_s)
            answers.append(answer)
        return PredictAnswer(
            model=f"{model.name}@{model.version}", digest=model.digest, min_score=min_score, images=answers
        )

    async def _detect(
        self, model: Model, jpegs: Sequence[bytes], min_score: float, timeout_s: float | None
    ) -> list[FrameResult]:
        timeout_s = min(timeout_s or self._settings.detect_timeout_s, self._settings.detect_timeout_s)
        request = DetectRequest(
            tuple(Frame("people", index, jpeg) for index, jpeg in enumerate(jpegs)),
            model=model.name,
            timeout_ms=max(1, round(timeout_s * 1e3)),
            min_score=min_score,
            priority=PRIORITY,
        )
        try:
            with as_refusals():
                # Their number is bounded above; the queue's own bound is what cameras fill.
                return await self._service.run(
                    model, request, beyond_capacity=self._settings.max_waiting_images
                )
        except asyncio.TimeoutError:
            raise RefusedError(503, "the engine does not answer; retry", _BUSY_RETRY_S) from None

    def _answer(
        self, work: _Work, result: FrameResult | None, model: Model, wanted: frozenset[str]
    ) -> PictureAnswer:
        if work.error is not None:
            raise work.error
        assert work.picture is not None and result is not None
        if result.status is FrameStatus.STALE:
            raise RefusedError(
                429, "no engine was free in time; retry, or allow more timeout_s", _BUSY_RETRY_S
            )
        if result.status is FrameStatus.CORRUPT:
            raise RefusedError(422, "expected a whole picture, got a damaged one; save it again")
        if result.status is not FrameStatus.OK:
            raise RefusedError(
                503, "the engine failed on this picture; retry, or choose another model", _BUSY_RETRY_S
            )
        picture = work.picture
        timings = Timings(
            decode=round(work.decode_ms, 2),
            queue=round(result.queue_ms, 2),
            infer=round(result.infer_ms, 2),
            total=0.0,
        )
        return PictureAnswer(
            name=work.named.name,
            width=picture.width,
            height=picture.height,
            boxes=_boxes(result, picture, model.detector.bundle.manifest.classes, wanted),
            notes=picture.notes,
            timings_ms=timings,
        )

    def _wanted_classes(self, model: Model, options: PredictOptions) -> frozenset[str]:
        known = model.detector.bundle.manifest.classes
        unknown = [name for name in options.classes if name not in known]
        if unknown:
            raise RefusedError(
                422, f"classes: expected some of {', '.join(known)[:1000]}, got {unknown[0][:64]!r}"
            )
        return frozenset(options.classes or known)


def _prepare(work: _Work, max_pixels: int, input_size: int) -> None:
    started_s = time.perf_counter()
    try:
        work.picture = open_picture(work.named.data, max_pixels)
        work.jpeg = jpeg_for(work.picture, input_size)
    except RefusedError as error:
        work.error = error
    work.decode_ms = _since_ms(started_s)


def _annotate(picture: Picture, answer: PictureAnswer) -> None:
    started_s = time.perf_counter()
    jpeg = annotated_jpeg(pixels_of(picture), answer.boxes)
    answer.annotated = base64.b64encode(jpeg).decode()
    if answer.timings_ms is not None:
        answer.timings_ms.annotate = _since_ms(started_s)


def _boxes(
    result: FrameResult, picture: Picture, classes: Sequence[str], wanted: frozenset[str]
) -> list[Box]:
    found = []
    for box, score, class_id in zip(
        result.boxes_xyxy.tolist(), result.scores.tolist(), result.class_ids.tolist(), strict=True
    ):
        if classes[class_id] not in wanted:
            continue
        inside = [min(1.0, max(0.0, value)) for value in box]
        sides = (picture.width, picture.height) * 2
        found.append(
            Box(
                class_name=classes[class_id],
                class_id=class_id,
                score=round(score, 4),
                box_xyxy=[round(value * side, 1) for value, side in zip(inside, sides, strict=True)],
                box_xyxy_relative=[round(value, 6) for value in inside],
            )
        )
    return found


def _since_ms(started_s: float) -> float:
    return round((time.perf_counter() - started_s) * 1e3, 2)
