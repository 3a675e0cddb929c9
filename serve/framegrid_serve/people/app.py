"""The FastAPI app of people: routes, the page, OpenAPI. Everything that is not the wire route comes here.

Errors are JSON `{"error": text}`: 400 malformed, 403 not allowed, 404 unknown path or model, 405 method,
408 too slow, 413 too large, 415 not a picture, 422 damaged or a wrong option, 429 too busy (with
Retry-After), 503 an engine or the video service does not answer.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response

from framegrid_serve.people.access import caller
from framegrid_serve.people.answer import PredictAnswer, Problem
from framegrid_serve.people.options import Annotate, PredictOptions, options_of, problem_of
from framegrid_serve.people.prediction import Predictor
from framegrid_serve.people.refusal import RefusedError
from framegrid_serve.people.remote import fetch_picture
from framegrid_serve.people.settings import PeopleSettings
from framegrid_serve.people.upload import read_upload
from framegrid_serve.people.videos import VideoGate
from framegrid_serve.service import DetectService

STATIC = Path(__file__).with_name("static")
# The page loads nothing from elsewhere and runs nothing written into it.
_PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'"
)
_DESCRIPTION = """Pictures and videos in, boxes and numbers out.

Cameras use `POST /v1/detect` with a compact format of its own; this is for people and scripts.
"""
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                    "required": ["file"],
                }
            },
            **{f"image/{kind}": _PICTURE for kind in ("jpeg", "png", "webp", "bmp", "gif")},
            "application/json": {
                "schema": {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}
            },
        },
    }
}
_VIDEO_BODY = {"requestBody": {"required": True, "content": {"video/mp4": _PICTURE}}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 403, 404, 408, 413, 415, 422, 429, 503)
}
_NUMBER = {"type": "number"}
_TEXT = {"type": "string"}
_VIDEO_ID = {"name": "video", "in": "path", "required": True, "schema": _TEXT}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


_VIDEO_OPTIONS = {
    "parameters": [
        _query("model", _TEXT, "Name of a model; empty: the default"),
        _query("fps", _NUMBER, "Pictures a second to look at"),
        _query("min_score", _NUMBER, "Least score of what is counted"),
        _query("line", {"type": "array", "items": _TEXT}, "NAME:x1,y1,x2,y2 from 0 to 1; may be repeated"),
        _query("zone", {"type": "array", "items": _TEXT}, "NAME:x1,y1,x2,y2,x3,y3,…; may be repeated"),
        _query("name", _TEXT, "What the file is called"),
    ]
}


class PeopleApi:
    """The routes. One per replica; `app` is what requests are handed to."""

    def __init__(self, service: DetectService, settings: PeopleSettings) -> None:
        self._service = service
        self._settings = settings
        self._predictor = Predictor(service, settings)
        self._videos = VideoGate(settings)
        self.app = self._build()

    def close(self) -> None:
        """Take no more pictures."""
        self._predictor.close()

    async def predict(self, request: Request, options: Annotated[PredictOptions, Query()]) -> Response:
        """Detect objects in one or more pictures.

        Send a picture as the body (`curl --data-binary @street.jpg -H 'Content-Type: image/jpeg'`), files
        in a form (`curl -F file=@street.jpg`), or JSON `{"url": "https://…"}` where that is allowed.
        """
        del options  # declared for validation and documentation; the body may have more, so read below
        settings = self._settings
        upload = await read_upload(request, settings, lambda url: fetch_picture(url, settings))
        chosen = options_of(_query_values(request), upload.options)
        if chosen.annotate is Annotate.IMAGE and len(upload.pictures) > 1:
            raise RefusedError(422, "annotate: expected base64 with several pictures, got image")
        answer = await self._predictor.predict(upload.pictures, chosen)
        if chosen.annotate is Annotate.IMAGE:
            jpeg = base64.b64decode(answer.images[0].annotated or "")
            return Response(jpeg, media_type="image/jpeg", headers={"X-Model": answer.model})
        return Response(
            answer.model_dump_json(by_alias=True, exclude_none=True), media_type="application/json"
        )

    async def models(self) -> Response:
        """The models that serve, their classes, versions and licences."""
        return JSONResponse(self._service.registry.describe())

    async def limits(self) -> dict[str, Any]:
        """What may be sent, and what is switched on here."""
        settings = self._settings
        return {
            "max_image_bytes": settings.max_image_bytes,
            "max_pixels": settings.max_pixels,
            "max_images": settings.max_images,
            "url": bool(settings.url_hosts),
            "videos": bool(settings.videos_url),
            "max_video_bytes": settings.max_video_bytes,
        }

    async def pass_on(self, request: Request) -> Response:
        """The video service's answer."""
        return await self._videos.pass_on(request)

    async def page(self) -> Response:
        """The page for people."""
        return FileResponse(
            STATIC / "index.html",
            headers={"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-cache"},
        )

    def _build(self) -> FastAPI:
        app = FastAPIOffline(
            title="Framegrid",
            summary="Object detection on pictures and videos",
            description=_DESCRIPTION,
            version="1",
            redoc_url=None,
            static_url="/docs/assets",
        )
        app.include_router(self._routes())
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
        app.add_exception_handler(RefusedError, _refused)
        app.add_exception_handler(RequestValidationError, _invalid)
        app.add_exception_handler(HTTPException, _http)
        if self._settings.cors_origins:
            app.add_middleware(
                CORSMiddleware,
                allow_origins=list(self._settings.cors_origins),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Content-Type", "Authorization"],
                expose_headers=["Retry-After", "X-Model", "Location"],
            )
        return app

    def _routes(self) -> APIRouter:
        router = APIRouter(dependencies=[Depends(caller)], responses=_PROBLEMS)
        add = router.add_api_route
        add("/", self.page, methods=["GET", "HEAD"], include_in_schema=False)
        add(
            "/predict",
            self.predict,
            methods=["POST"],
            response_model=PredictAnswer,
            openapi_extra=_BODIES,
            tags=["pictures"],
        )
        add("/models", self.models, methods=["GET"], tags=["models"])
        add("/limits", self.limits, methods=["GET"], tags=["models"])
        video = self.pass_on
        tags: list[Any] = ["videos"]
        add(
            "/videos",
            video,
            methods=["POST"],
            status_code=202,
            summary="Upload a video; it is analysed in the background",
            openapi_extra={**_VIDEO_BODY, **_VIDEO_OPTIONS},
            tags=tags,
            operation_id="upload_video",
        )
        for path, method, summary in (
            ("/videos/{video}", "GET", "State and progress of a video"),
            ("/videos/{video}", "DELETE", "Stop its analysis and delete everything of it"),
            ("/videos/{video}/result.json", "GET", "Counts, tracks and crossings"),
            ("/videos/{video}/result.csv", "GET", "Counts per second, zone and class"),
            ("/videos/{video}/annotated.mp4", "GET", "The video with what was found drawn into it"),
        ):
            add(
                path,
                video,
                methods=[method],
                summary=summary,
                tags=tags,
                operation_id=f"{method.lower()}_{path.rsplit('/', 1)[-1].strip('{}').replace('.', '_')}",
                openapi_extra={
                    "parameters": [{"name": "video", "in": "path", "required": True, "schema": _TEXT}]
                },
            )
        return router


def _query_values(request: Request) -> dict[str, Any]:
    """The query's options; `classes` may be repeated."""
    values: dict[str, Any] = dict(request.query_params)
    if "classes" in values:
        values["classes"] = request.query_params.getlist("classes")
    return values


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return error.response()


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return RefusedError(422, problem_of(error.errors()[0])).response()


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = {404: "no such path; see /docs", 405: "expected another method; see /docs"}
    return JSONResponse(
        {"error": text.get(error.status_code, str(error.detail))}, error.status_code, error.headers
    )
