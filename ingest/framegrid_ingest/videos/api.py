"""The HTTP side of the video service; serve passes its /videos on to it.

POST   /videos                      a video as the body -> 202 with its id
GET    /videos/<id>                 state, progress
GET    /videos/<id>/result.json     and result.csv, annotated.mp4 (with ranges, as players ask for)
DELETE /videos/<id>                 stop and delete
GET    /healthz

Errors are `{"error": sentence}`: 400, 404, 408, 409, 413, 415, 422, 429 with Retry-After.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from framegrid_ingest.errors import RecordingError
from framegrid_ingest.recordings.camera import RecordingOptions, recording_camera
from framegrid_ingest.videos.container import HEAD_BYTES, container_of
from framegrid_ingest.videos.job import DEFAULT_FPS, DEFAULT_MIN_SCORE, RESULTS, UPLOAD, Job, State, Wanted
from framegrid_ingest.videos.settings import VideoSettings
from framegrid_ingest.videos.shelf import FullError, Shelf

_OPTIONS = ("model", "fps", "min_score", "line", "zone", "name")
_MAX_SHAPES = 16
_TYPES = {"result.json": "application/json", "result.csv": "text/csv", "annotated.mp4": "video/mp4"}


class VideoApi:
    """Routes around one shelf."""

    def __init__(self, settings: VideoSettings) -> None:
        self._settings = settings
        self._shelf: Shelf | None = None

    def app(self) -> Starlette:
        """The ASGI app; its lifespan runs the shelf."""
        routes = [
            Route("/videos", self._post, methods=["POST"]),
            Route("/videos/{video}", self._get, methods=["GET"]),
            Route("/videos/{video}", self._delete, methods=["DELETE"]),
            Route("/videos/{video}/{name}", self._result, methods=["GET"]),
            Route("/healthz", self._healthz, methods=["GET"]),
        ]
        handlers: Mapping[Any, Any] = {HTTPException: _http_error, FullError: _full, RecordingError: _wrong}
        return Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._shelf = Shelf(self._settings)
        running = asyncio.create_task(self._shelf.run())
        yield
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    @property
    def shelf(self) -> Shelf:
        assert self._shelf is not None, "the lifespan has begun"
        return self._shelf

    async def _post(self, request: Request) -> Response:
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated[:20]) > self._settings.max_video_bytes:
            raise _too_large(self._settings)
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise HTTPException(415, "expected the video itself as the body (curl -T street.mp4), got a form")
        job = self.shelf.open(self._wanted(request))
        try:
            await self._receive(request, job)
        except BaseException:
            self.shelf.delete(job)
            raise
        self.shelf.submit(job)
        address = f"/videos/{job.id}"
        return JSONResponse(job.view(self._settings.keep_s), 202, {"Location": address})

    async def _receive(self, request: Request, job: Job) -> None:
        """The body to disk. Raises HTTPException for what is too large, too slow, cut off or no video."""
        stream = request.stream().__aiter__()
        head = b""
        with (job.folder / UPLOAD).open("wb") as out:
            while True:
                try:
                    chunk = await asyncio.wait_for(stream.__anext__(), self._settings.upload_silence_s)
                except StopAsyncIteration:
                    break
                except asyncio.TimeoutError:
                    raise HTTPException(408, "expected the rest of the video, got nothing more") from None
                except ClientDisconnect:
                    raise HTTPException(400, "the upload ended before it was whole") from None
                job.size_bytes += len(chunk)
                if job.size_bytes > self._settings.max_video_bytes:
                    raise _too_large(self._settings)
                if self.shelf.stored_bytes > self._settings.max_stored_bytes:
                    raise FullError("the disk space for videos is used up; try again later", 600.0)
                if len(head) < HEAD_BYTES:
                    head += chunk[:HEAD_BYTES]
                    if len(head) >= HEAD_BYTES:
                        _check_container(head)
                out.write(chunk)
        _check_container(head)

    def _wanted(self, request: Request) -> Wanted:
        """The query's options, checked as the analysis will. Raises RecordingError."""
        query = request.query_params
        unknown = [key for key in query if key not in _OPTIONS]
        if unknown:
            raise RecordingError(f"unknown option {unknown[0][:64]!r}; there are {', '.join(_OPTIONS)}")
        lines, zones = query.getlist("line"), query.getlist("zone")
        if len(lines) + len(zones) > _MAX_SHAPES:
            raise RecordingError(
                f"expected at most {_MAX_SHAPES} lines and zones, got {len(lines) + len(zones)}"
            )
        wanted = Wanted(
            name=_printable(query.get("name", "")) or "video",
            model=query.get("model", "")[:128],
            fps=_number(query, "fps", DEFAULT_FPS, 0.01, self._settings.max_fps),
            min_score=_number(query, "min_score", DEFAULT_MIN_SCORE, 0.01, 1.0),
            lines=lines,
            zones=zones,
        )
        options = RecordingOptions("any", wanted.fps, wanted.min_score, lines, zones)
        recording_camera("video.mp4", options, {})
        return wanted

    async def _get(self, request: Request) -> Response:
        return JSONResponse(
            self._job(request).view(self._settings.keep_s), headers={"Cache-Control": "no-store"}
        )

    async def _delete(self, request: Request) -> Response:
        self.shelf.delete(self._job(request))
        return Response(status_code=204)

    async def _result(self, request: Request) -> Response:
        job, name = self._job(request), request.path_params["name"]
        if name not in RESULTS:
            raise HTTPException(404, f"expected one of {', '.join(RESULTS)}")
        if job.state is not State.DONE:
            raise HTTPException(409, f"the video is {job.state.value}; its results come when it is done")
        return FileResponse(
            job.folder / name, media_type=_TYPES[name], headers={"Cache-Control": "private, max-age=3600"}
        )

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"ok": True})

    def _job(self, request: Request) -> Job:
        job = self.shelf.get(request.path_params["video"])
        if job is None:
            raise HTTPException(404, "no such video: it expired, was deleted, or the service was restarted")
        return job


def _check_container(head: bytes) -> None:
    if not container_of(head):
        raise HTTPException(415, "expected an MP4, MOV, MKV, WebM, AVI or MPEG video, got something else")


def _number(query: Mapping[str, str], key: str, default: float, least: float, most: float) -> float:
    text = query.get(key, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise RecordingError(f"{key}: expected a number from {least:g} to {most:g}, got {text[:32]!r}")
    return value


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:120]


def _too_large(settings: VideoSettings) -> HTTPException:
    return HTTPException(
        413, f"expected a video of at most {settings.max_video_bytes} bytes, got more; cut it"
    )


async def _http_error(_: Request, error: HTTPException) -> Response:
    text = {404: "no such path", 405: "expected another method"}
    known = error.detail not in ("Not Found", "Method Not Allowed")
    return JSONResponse(
        {"error": error.detail if known else text[error.status_code]}, error.status_code, error.headers
    )


async def _full(_: Request, error: FullError) -> Response:
    body = {"error": str(error), "retry_after_s": error.retry_after_s}
    return JSONResponse(body, 429, {"Retry-After": str(math.ceil(error.retry_after_s))})


async def _wrong(_: Request, error: RecordingError) -> Response:
    return JSONResponse({"error": str(error)}, 422)
