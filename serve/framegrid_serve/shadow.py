"""A candidate sees a share of the live frames; its answers are compared with the live ones and thrown away.

The live path goes first: a frame is shadowed only when nothing waits for an engine and no other shadow runs,
one frame at a time, at the lowest priority. What can still happen to a live frame is to arrive while the
candidate has the engine.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np

from framegrid_serve.batcher import Batcher
from framegrid_serve.errors import OverloadError
from framegrid_serve.evaluation import Labelled, agreeing_boxes
from framegrid_serve.served import Model, Shadowing
from framegrid_serve.wire import Buffer, FrameResult, FrameStatus

# Below every priority that the wire format can carry, which is a signed 32-bit number.
_PRIORITY = -(2**31) - 1
# A shadow that has to wait longer than this is in the way: live frames came first.
_TIMEOUT_S = 1.0


class Shadow:
    """One per replica; `offer` from one thread."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._idle = threading.Event()  # the last comparison is over
        self._idle.set()
        self._credit: dict[str, float] = {}

    def offer(
        self,
        live: Model,
        shadowing: Shadowing,
        jpegs: Sequence[Buffer],
        results: Sequence[FrameResult],
        min_score: float = 0.0,
    ) -> bool:
        """Frames of `live`, answered with boxes from `min_score` on; one of them may be run again.

        Never blocks. True when one is.
        """
        credit = min(1.0, self._credit.get(live.name, 0.0) + shadowing.share * len(results))
        self._credit[live.name] = credit
        if credit < 1.0 or not self._idle.is_set():
            return False
        if self._batcher.stats().queued_frames:
            return False
        index = next((i for i, result in enumerate(results) if result.status is FrameStatus.OK), None)
        if index is None:
            return False
        # Boxes that both models would report on their own, and that the live answer holds.
        least = max(
            min_score, *(m.detector.bundle.manifest.thresholds.score for m in (live, shadowing.other))
        )
        try:
            future = self._batcher.submit(
                shadowing.other.detector,
                [jpegs[index]],
                min_score=least,
                timeout_s=_TIMEOUT_S,
                priority=_PRIORITY,
            )
        except OverloadError:
            return False
        self._credit[live.name] = 0.0
        self._idle.clear()

        def compare(done: Future[list[FrameResult]]) -> None:
            try:
                _compare(live, results[index], shadowing.other, done, least)
            finally:
                self._idle.set()

        future.add_done_callback(compare)
        return True

    def settle(self, timeout_s: float) -> bool:
        """Wait until nothing is being compared. False when it takes longer."""
        return self._idle.wait(timeout_s)


def _compare(
    live: Model, result: FrameResult, other: Model, done: Future[list[FrameResult]], least: float
) -> None:
    """In the engine's thread: a tenth of a millisecond."""
    if done.cancelled():
        return
    (shadowed,) = done.result()
    if shadowed.status not in (FrameStatus.OK, FrameStatus.FAILED):
        return
    other.shadow_seen.add(shadowed.infer_ms / 1e3, shadowed.status is FrameStatus.FAILED)
    if shadowed.status is FrameStatus.FAILED:
        return
    names = {name: number for number, name in enumerate(dict.fromkeys(live.classes + other.classes))}
    first, second = _labelled(result, live, names, least), _labelled(shadowed, other, names, least)
    boxes = len(first.scores) + len(second.scores)
    agreeing = 2 * agreeing_boxes(first, second)
    for seen in (other.shadow_seen, live.seen):
        seen.compared_boxes += boxes
        seen.agreeing_boxes += agreeing


def _labelled(result: FrameResult, model: Model, names: dict[str, int], least: float) -> Labelled:
    """Boxes of either model under one numbering of class names, so that other class lists compare too."""
    sure = result.scores >= least
    numbers = [names[model.classes[number]] for number in result.class_ids[sure]]
    return Labelled(result.boxes_xyxy[sure], np.array(numbers, np.int64), result.scores[sure])
