"""`python -m framegrid_ingest.videos.analysis FOLDER`: analyse one upload; run by the service as a child.

A process of its own, because decoders of strangers' files crash and hang: the service outlives it, and ends
it. Reads FOLDER/job.json and FOLDER/upload; writes the results beside them. Standard output has one JSON
object per line: progress, and at the end `{"done": true}` or `{"error": sentence}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from framegrid_serve.wire import DetectRequest, Frame, FrameResult, FrameStatus

from framegrid_ingest.analysis import CameraAnalysis, Detections
from framegrid_ingest.catalog import ModelFacts, parse_models
from framegrid_ingest.client import ServeClient
from framegrid_ingest.clock import Clock
from framegrid_ingest.errors import FrameError, IngestError, RecordingError
from framegrid_ingest.intake import SourceFrame
from framegrid_ingest.metrics import IngestMetrics
from framegrid_ingest.pictures import to_jpeg
from framegrid_ingest.recordings.camera import RecordingOptions, recording_camera
from framegrid_ingest.recordings.drawing import VideoWriter, draw
from framegrid_ingest.recordings.frames import SampledFrames, to_bgr
from framegrid_ingest.recordings.report import Report, write_report
from framegrid_ingest.videos.job import ANNOTATED, RESULT_CSV, RESULT_JSON, UPLOAD, Wanted

# Below every camera: a recording can wait.
PRIORITY = -10
BATCH_FRAMES = 8
REQUESTS_AHEAD = 2
# For one batch, retries while serve is busy included.
PATIENCE_S = 120.0
PROGRESS_S = 0.5
NICENESS = 10

Detected = tuple[SourceFrame, FrameResult | None]


async def analyse(folder: Path) -> None:
    """Raises IngestError with a sentence for the sender."""
    job = json.loads((folder / "job.json").read_text())
    wanted = Wanted(**job["wanted"])
    upload = folder / UPLOAD
    length_s = _length_s(upload, job["max_video_s"])
    client = ServeClient(job["serve_url"], IngestMetrics(), Clock())
    try:
        model = await _model(client, wanted.model)
        options = RecordingOptions(model.name, wanted.fps, wanted.min_score, wanted.lines, wanted.zones)
        camera = recording_camera(str(upload), options, {}, model.classes)
        analysis = CameraAnalysis(camera)
        frames = SampledFrames(camera, is_recording=True)
        report = Report(wanted.name, camera, model.key, is_image=False, is_tracked=analysis.tracked)
        writer = VideoWriter(folder / ANNOTATED, camera.fps)
        told_s = 0.0
        try:
            async for frame, result in _detected(frames, client, model, analysis.wanted_min_score):
                if frame.captured_at_s > job["max_video_s"]:
                    break  # its header did not say how long it is
                if result is None or result.status is not FrameStatus.OK:
                    report.damaged += 1
                    continue
                detections = _detections(result, model)
                analysed = analysis.process(frame.captured_at_s, detections)
                report.add(frame.captured_at_s, analysed, detections)
                writer.write(draw(to_bgr(frame.picture), analysed, camera, report.totals, None))
                if time.monotonic() - told_s > PROGRESS_S:
                    told_s = time.monotonic()
                    _tell(
                        progress=_share(report.last_s, length_s), frames=report.frames, seconds=report.last_s
                    )
        finally:
            frames.stop()
            writer.close()
    finally:
        client.close()
    report.end(analysis.close(report.last_s), frames.facts, sum(frames.missed.values()))
    if not report.frames:
        raise RecordingError("expected pictures in the video, got none that can be analysed")
    (folder / RESULT_JSON).write_text(json.dumps(report.to_json(), indent=1))
    with (folder / RESULT_CSV).open("w", newline="") as out:
        write_report(report, "csv", out)
    _tell(progress=1.0, frames=report.frames, seconds=report.last_s, done=True)


async def _detected(
    frames: SampledFrames, client: ServeClient, model: ModelFacts, min_score: float
) -> AsyncIterator[Detected]:
    """Frames with what serve found, in order; some requests are always on their way."""
    loop = asyncio.get_running_loop()
    source = iter(frames)
    waiting: deque[asyncio.Task[list[Detected]]] = deque()
    try:
        while True:
            batch = await loop.run_in_executor(None, _encoded, source, frames, model.input_size)
            if batch:
                waiting.append(asyncio.create_task(_ask(client, model, batch, min_score)))
            while waiting and (not batch or len(waiting) > REQUESTS_AHEAD):
                for pair in await waiting.popleft():
                    yield pair
            if not batch:
                return
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _encoded(
    source: Iterator[SourceFrame], frames: SampledFrames, input_size: int
) -> list[tuple[SourceFrame, bytes]]:
    """The next batch; a frame that cannot be encoded has no bytes."""
    batch = []
    for frame in islice(source, BATCH_FRAMES):
        try:
            jpeg = to_jpeg(frame.picture, input_size, frames.camera.jpeg_quality).data
        except FrameError:
            jpeg = b""
        batch.append((frame, jpeg))
    return batch


async def _ask(
    client: ServeClient, model: ModelFacts, batch: list[tuple[SourceFrame, bytes]], min_score: float
) -> list[Detected]:
    sent = [Frame("video", frame.tick.number, jpeg) for frame, jpeg in batch if jpeg]
    results: Iterator[FrameResult] = iter(())
    if sent:

        def request(left_ms: int) -> DetectRequest:
            return DetectRequest(
                tuple(sent), model.name, timeout_ms=left_ms, min_score=min_score, priority=PRIORITY
            )

        response = await client.detect(request, time.monotonic() + PATIENCE_S)
        results = iter(response.results)
    return [(frame, next(results) if jpeg else None) for frame, jpeg in batch]


async def _model(client: ServeClient, name: str) -> ModelFacts:
    body = await client.models()
    models = parse_models(body)
    wanted = name or str(json.loads(body).get("default", ""))
    if wanted not in models:
        raise RecordingError(f"model: expected one of {', '.join(models) or 'none'}, got {wanted[:64]!r}")
    return models[wanted]


def _detections(result: FrameResult, model: ModelFacts) -> Detections:
    names = tuple(model.classes[int(number)] for number in result.class_ids)
    return Detections(np.asarray(result.boxes_xyxy), np.asarray(result.scores), names)


def _length_s(upload: Path, max_video_s: float) -> float:
    """Length by the header, 0 when it does not say. Raises RecordingError: no video, or too long."""
    try:
        with av.open(str(upload)) as container:
            if not container.streams.video:
                raise RecordingError("expected a video, got a file without pictures")
            length_s = float((container.duration or 0) / av.time_base)
    except (av.error.FFmpegError, OSError, ValueError):
        raise RecordingError("expected a video that can be read, got a damaged one") from None
    if length_s > max_video_s:
        raise RecordingError(f"expected at most {max_video_s:g} s of video, got {length_s:.0f} s; cut it")
    return length_s


def _share(at_s: float, length_s: float) -> float:
    return min(0.99, at_s / length_s) if length_s else 0.0


def _tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def main() -> int:
    """Exit status 0 when the results are there."""
    os.nice(NICENESS)
    try:
        asyncio.run(analyse(Path(sys.argv[1])))
    except IngestError as error:
        _tell(error=str(error).replace(sys.argv[1], "").replace(f"/{UPLOAD}", "the video"))
        return 1
    except asyncio.TimeoutError:
        _tell(error="serve was too busy for too long; try again later")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
