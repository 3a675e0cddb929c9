"""What a person may ask for besides the picture: in the query, as form fields, or as keys of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from framegrid_serve.people.refusal import RefusedError


class Annotate(str, Enum):
    """How the picture with its boxes comes back."""

    NONE = "none"
    IMAGE = "image"  # instead of JSON: a JPEG
    BASE64 = "base64"  # inside the JSON


class PredictOptions(BaseModel):
    """Options of POST /predict. Unknown ones are refused, so that a misspelling is not silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        default="", max_length=128, description="Name of a model of GET /models; empty: the default"
    )
    min_score: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description="Leave out boxes below this score; without it the model's own",
    )
    classes: list[str] = Field(
        default=[], max_length=200, description="Only these classes; repeated or separated by commas"
    )
    annotate: Annotate = Field(
        default=Annotate.NONE,
        description="`image`: answer with the picture and its boxes (JPEG); `base64`: put that into the JSON",
    )
    timeout_s: float | None = Field(
        default=None, gt=0.0, le=60.0, description="Answer 429 when no engine was free for so long"
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
            return value
        return [name.strip() for part in parts for name in part.split(",") if name.strip()]


def options_of(*sources: Mapping[str, Any]) -> PredictOptions:
    """The options in these mappings, later ones first. Raises RefusedError 422 naming the option."""
    values: dict[str, Any] = {}
    for source in sources:
        values.update(source)
    try:
        return PredictOptions.model_validate(values)
    except ValidationError as error:
        raise RefusedError(422, problem_of(error.errors(include_url=False)[0])) from None


def problem_of(problem: Mapping[str, Any]) -> str:
    """One sentence for one of pydantic's problems."""
    key = ".".join(str(part) for part in problem["loc"] if part not in ("query", "body", "path"))
    if problem["type"] == "extra_forbidden":
        return f"unknown option {key[:64]!r}; there are {', '.join(PredictOptions.model_fields)}"
    got = repr(problem.get("input"))
    text = str(problem["msg"])
    return f"{key}: {text[:1].lower()}{text[1:]}, got {got[:64]}"
