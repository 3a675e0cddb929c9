"""The JSON that people get, as models, so that the OpenAPI document says it too."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Box(BaseModel):
    """One detection, best score first."""

    class_name: str = Field(serialization_alias="class")
    class_id: int
    score: float
    box_xyxy: list[float] = Field(description="Left, top, right, bottom in pixels of the upright picture")
    box_xyxy_relative: list[float] = Field(description="The same from 0 to 1")


class Timings(BaseModel):
    """Milliseconds of the server."""

    decode: float = Field(description="Opening, and decoding what is no plain JPEG")
    queue: float = Field(description="Waiting for an engine")
    infer: float = Field(description="The engine")
    annotate: float = 0.0
    total: float


class PictureAnswer(BaseModel):
    """One picture. With several in a request, one that cannot be used has `error` and `status` alone."""

    name: str = ""
    width: int = 0
    height: int = 0
    boxes: list[Box] = []
    notes: list[str] = Field(default=[], description="What was done to the picture first")
    timings_ms: Timings | None = None
    annotated: str | None = Field(default=None, description="JPEG as base64, with annotate=base64")
    error: str | None = None
    status: int | None = None


class PredictAnswer(BaseModel):
    """The answer of POST /predict."""

    model: str = Field(description="name@version")
    digest: str
    min_score: float
    images: list[PictureAnswer]


class Problem(BaseModel):
    """Every answer that is not a success."""

    error: str
    retry_after_s: float | None = None
