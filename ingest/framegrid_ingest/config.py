"""`cameras.yaml`: which cameras there are and what is counted on each.

The schema is closed. `load_cameras` reports every mistake at once, each with file, line, column, key, what
came, what is allowed and the nearest right spelling; it never shows a camera's credentials. A key that a
camera does not set comes from `defaults`, then from the model's own default below.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.types import Strict

from framegrid_ingest.documents import Document, Path_, read_document
from framegrid_ingest.errors import ConfigError, Problem
from framegrid_ingest.schema_errors import NAME_PATTERN, WORD_PATTERN, describe, nearest, show
from framegrid_ingest.urls import (
    SCHEMES,
    CameraUrl,
    absolute_path,
    fill_in,
    kind_of,
    missing_variable,
)

Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Share = Annotated[Number, Field(ge=0.0, le=1.0)]
Point = tuple[Share, Share]
"""x, y relative to the picture: 0..1, x to the right, y down."""
Flag = Annotated[bool, Strict()]
Word = Annotated[str, Field(min_length=1, max_length=64, pattern=WORD_PATTERN)]

_MIN_POLYGON_AREA = 1e-6  # of the picture: less than one pixel of a 1000 x 1000 picture


class _Closed(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True
    )


class ClassGroup(_Closed):
    """Model classes that are counted as one. YAML may give the list alone: `person: [person]`."""

    of: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(min_length=1, max_length=1000)
    # Below 0.4 nano models see ghosts in texture; the tracker needs few of them.
    min_score: Share = 0.4

    @model_validator(mode="before")
    @classmethod
    def _accept_list(cls, value: Any) -> Any:
        return {"of": value} if isinstance(value, (list, tuple)) else value


class Zone(_Closed):
    """A named polygon of the picture. Two zones may overlap."""

    name: Word
    polygon: tuple[Point, ...] = Field(min_length=3, max_length=1000)

    @field_validator("polygon")
    @classmethod
    def _has_area(cls, polygon: tuple[Point, ...]) -> tuple[Point, ...]:
        following = (*polygon[1:], polygon[0])
        area = abs(sum(ax * by - bx * ay for (ax, ay), (bx, by) in zip(polygon, following, strict=True))) / 2
        if area < _MIN_POLYGON_AREA:
            raise ValueError("expected a polygon with an area, got points on one line; move a point")
        return polygon


class Line(_Closed):
    """A directed segment. Walking from `start` to `end`, "in" is from the left hand to the right hand."""

    name: Word
    start: Point
    end: Point

    @model_validator(mode="after")
    def _has_length(self) -> Line:
        if self.start == self.end:
            raise ValueError("expected start and end to differ, got the same point twice; move one")
        return self


DEFAULT_CLASSES = {
    "person": ClassGroup(of=("person",)),
    "vehicle": ClassGroup(of=("bicycle", "car", "motorcycle", "bus", "truck", "van")),
}


class CameraConfig(_Closed):
    """One camera. Equal configurations mean that nothing about the camera has changed."""

    name: str = Field(min_length=1, max_length=63, pattern=NAME_PATTERN)
    url: CameraUrl
    kind: Literal["auto", "rtsp", "mjpeg", "jpeg", "hls", "file", "webcam"] = "auto"
    # Frames sampled per second; 0.2 is one per 5 s. 10 follows walking persons without identity switches.
    fps: Annotated[Number, Field(gt=0.0, le=120.0)] = 10.0
    model: str = Field("street-sim", min_length=1, max_length=128)
    classes: dict[Word, ClassGroup] = Field(
        default_factory=lambda: dict(DEFAULT_CLASSES), min_length=1, max_length=64
    )
    zones: tuple[Zone, ...] = Field((), max_length=64)
    lines: tuple[Line, ...] = Field((), max_length=64)
    site: str = Field("", max_length=128)
    timezone: str = "UTC"
    paused: Flag = False
    loop: Flag = True
    pace: Literal["native", "fast"] = "native"
    # Unix seconds at which a file's media time begins; when it is unset, the moment it is opened.
    start_s: Annotated[Number, Field(ge=0.0)] | None = None
    jpeg_quality: Annotated[int, Strict(), Field(ge=30, le=100)] = 90
    decode: Literal["auto", "all", "keyframes"] = "auto"
    anchor: Literal["bottom", "center"] = "bottom"
    store_detections: Flag = False
    # Seconds without a new picture until the camera counts as stalled and is opened again.
    stall_s: Annotated[Number, Field(ge=0.5, le=3600.0)] = 10.0
    # Many cameras sign their own certificate; false accepts any (encrypted, but not authenticated).
    tls_verify: Flag = True

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        known = zoneinfo.available_timezones()
        if known and value not in known:  # a slim image without the zone database cannot tell
            raise ValueError(
                f"expected an IANA time zone such as Europe/Berlin, got {show(value)}{nearest(value, known)}"
            )
        return value

    @field_validator("zones", "lines")
    @classmethod
    def _unique_names(cls, entries: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        names = [entry.name for entry in entries]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"expected every name once, got {', '.join(doubled)} more than once; rename one")
        return entries

    @model_validator(mode="after")
    def _kind_fits_url(self) -> CameraConfig:
        by_url = self.url.kind
        fitting = {
            "rtsp": {"rtsp"},
            "webcam": {"webcam"},
            "file": {"file"},
            "http": {"mjpeg", "jpeg", "hls", "file"},
            "hls": {"hls"},
            "mjpeg": {"mjpeg", "jpeg"},
        }[by_url]
        if self.kind != "auto" and self.kind not in fitting:
            raise ValueError(
                f"expected kind auto or {' or '.join(sorted(fitting))} for this url, got {self.kind}; "
                f"change the kind or the url"
            )
        return self

    @property
    def source_kind(self) -> str:
        """The kind to open: `kind`, or what the address says; `http` means "ask the server"."""
        return self.url.kind if self.kind == "auto" else self.kind


_SECTIONS: dict[str, type[BaseModel]] = {
    "": CameraConfig,
    "classes": ClassGroup,
    "zones": Zone,
    "lines": Line,
}
_NOT_IN_DEFAULTS = ("name", "url")
_HIDDEN_KEYS = frozenset({"url"})


def load_cameras(path: Path, environ: Mapping[str, str]) -> tuple[CameraConfig, ...]:
    """The cameras of a file, in its order. ${NAME} in a `url` comes from `environ`; relative file paths are
    taken from the folder of `path`. Raises ConfigError that lists every mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([Problem(str(path), 1, 1, "", f"cannot read the file: {reason}")]) from None
    return parse_cameras(text, str(path), environ, path.parent)


def parse_cameras(
    text: str, file: str, environ: Mapping[str, str], base_dir: Path = Path()
) -> tuple[CameraConfig, ...]:
    """As `load_cameras`, from text. `file` is the name shown in messages."""
    return _Parser(read_document(text, file), environ, base_dir).cameras()


def parse_camera(
    values: Mapping[str, Any], secrets: Mapping[str, str], missing: Callable[[str, str], str]
) -> CameraConfig:
    """One camera from plain values. ${NAME} in its `url` comes from `secrets`; `missing` says what they lack.

    Raises ConfigError; the problems' keys are paths inside `values`, their lines mean nothing.
    """
    return _Parser(Document("", dict(values)), secrets, Path("/"), missing).camera()


class _Parser:
    def __init__(
        self,
        document: Document,
        environ: Mapping[str, str],
        base_dir: Path,
        missing: Callable[[str, str], str] = missing_variable,
    ) -> None:
        self._document = document
        self._environ = environ
        self._base_dir = base_dir
        self._missing = missing
        self._problems: list[Problem] = []

    def camera(self) -> CameraConfig:
        """The document is one camera."""
        camera = self._camera(self._document.data, (), {})
        if camera is None or self._problems:
            raise ConfigError(self._problems)
        return camera

    def cameras(self) -> tuple[CameraConfig, ...]:
        top = self._mapping(self._document.data or {}, ())
        for key in top:
            if key not in ("defaults", "cameras"):
                self._report(
                    (key,), f"unknown key{nearest(key, ('defaults', 'cameras'))}; allowed: cameras, defaults"
                )
        defaults = self._defaults(self._mapping(top.get("defaults") or {}, ("defaults",)))
        entries = top.get("cameras") or []
        if not isinstance(entries, list):
            self._report(("cameras",), f"expected a list (lines that start with '-'), got {show(entries)}")
            entries = []
        cameras = [self._camera(entry, ("cameras", index), defaults) for index, entry in enumerate(entries)]
        self._check_unique_names(entries)
        if self._problems:
            raise ConfigError(self._problems)
        return tuple(camera for camera in cameras if camera is not None)

    def _defaults(self, written: dict[str, Any]) -> dict[str, Any]:
        for key in _NOT_IN_DEFAULTS:
            if key in written:
                self._report(
                    ("defaults", key), "expected this key in each camera, got it in defaults; move it"
                )
        shared = {key: value for key, value in written.items() if key not in _NOT_IN_DEFAULTS}
        # `kind` is checked against each camera's url, not against this stand-in.
        trial = {**shared, "name": "defaults", "url": CameraUrl("defaults")}
        if trial.get("kind") in ("rtsp", "mjpeg", "jpeg", "hls", "webcam"):
            trial["kind"] = "auto"
        self._validate(trial, ("defaults",), frozenset())
        return shared

    def _camera(self, entry: Any, path: Path_, defaults: dict[str, Any]) -> CameraConfig | None:
        written = self._mapping(entry, path)
        if not isinstance(entry, dict):
            return None
        merged = {**defaults, **written}
        url_is_wrong = "url" in written and not self._resolve_url(merged, (*path, "url"))
        if url_is_wrong:
            merged["url"] = CameraUrl("unreadable")
            merged["kind"] = "auto"
        return self._validate(merged, path, frozenset(defaults) - frozenset(written))

    def _validate(
        self, values: dict[str, Any], path: Path_, from_defaults: frozenset[str]
    ) -> CameraConfig | None:
        try:
            return CameraConfig.model_validate(values)
        except ValidationError as failure:
            for error in failure.errors(include_url=False):
                if error["loc"] and error["loc"][0] in from_defaults:
                    continue  # reported once, where it is written
                at, message = describe(error, _SECTIONS, _HIDDEN_KEYS)
                self._report((*path, *at), message)
            return None

    def _resolve_url(self, values: dict[str, Any], path: Path_) -> bool:
        template = values["url"]
        if not isinstance(template, str) or not template.strip():
            self._report(
                path,
                f"expected an address ({', '.join(SCHEMES)}), got {'nothing' if not template else 'no text'}",
            )
            return False
        try:
            value, secrets = fill_in(template.strip(), self._environ, self._missing)
        except ValueError as error:
            self._report(path, str(error))
            return False
        kind = kind_of(value)
        if not kind:
            scheme = value.partition("://")[0]
            known = ("rtsp", "rtsps", "http", "https", "file", "webcam")
            shown = (
                "an unknown scheme" if any(secret in scheme for secret in secrets) else f"{scheme[:20]}://"
            )
            self._report(path, f"expected {', '.join(SCHEMES)}, got {shown}{nearest(scheme, known)}")
            return False
        if kind == "webcam" and not value.partition(":")[2].lstrip("/").isdigit():
            self._report(path, "expected webcam:N with the number of the device, such as webcam:0")
            return False
        if kind == "file":
            value = absolute_path(value, self._base_dir)
        elif kind != "webcam" and not _has_host(value):
            self._report(
                path,
                "expected a host name and, if given, a port 1..65535 after '://', got none that can be read",
            )
            return False
        values["url"] = CameraUrl(value, secrets)
        return True

    def _check_unique_names(self, entries: list[Any]) -> None:
        first_at: dict[str, int] = {}
        for index, entry in enumerate(entries):
            name = entry.get("name") if isinstance(entry, dict) else None
            if not isinstance(name, str):
                continue
            if name in first_at:
                line = self._document.positions[("cameras", first_at[name], "name")][0]
                self._report(
                    ("cameras", index, "name"),
                    f"expected a name of its own, got {show(name)} as in line {line}; rename one",
                )
            first_at.setdefault(name, index)

    def _mapping(self, value: Any, path: Path_) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self._report(path, f"expected a mapping (key: value), got {show(value)}")
        return {}

    def _report(self, path: Path_, message: str) -> None:
        self._problems.append(self._document.problem(path, message))


def _has_host(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
