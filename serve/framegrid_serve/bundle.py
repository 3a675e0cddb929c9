"""A model bundle: a folder with `model.yaml` and the weights it names.

`load_bundle` reads and verifies: closed keys, sha256 of every weights file, no path out of the folder. It
opens no engine. Every failure is a ModelError that says which file and what to do.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from framegrid_serve.errors import ModelError
from framegrid_serve.golden import Golden

MANIFEST = "model.yaml"
WEIGHTS_SUFFIXES = (".onnx", ".xml", ".pt")
# Grid steps of the three detection heads; inputs are multiples of the largest.
STRIDES = (8, 16, 32)
_MANIFEST_LIMIT_BYTES = 1_000_000
_WEIGHTS_LIMIT_BYTES = 2 * 1024**3
_READ_BYTES = 1 << 20


class Layout(str, Enum):
    """How a model's output is laid out. `nc` = number of classes, `n` = number of candidates.

    yolov8         (1, 4+nc, n): centre x y, width, height, class scores. YOLOv8, YOLO11, YOLO12. RGB, 0..1.
    yolo26         (1, n, 6): x1 y1 x2 y2 score class, no NMS needed. YOLO26, YOLOv10. RGB, 0..1.
    yolox          (1, n, 5+nc): raw grid offsets, objectness, class scores. BGR, 0..255, padded bottom right.
    yolox-decoded  the same with boxes already in pixels (exported with `--decode_in_inference`).
    """

    YOLOV8 = "yolov8"
    YOLO26 = "yolo26"
    YOLOX = "yolox"
    YOLOX_DECODED = "yolox-decoded"


class Thresholds(BaseModel):
    """Defaults of the model: `score` when a caller names none, `iou` for suppressing doubles."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    score: float = Field(default=0.25, ge=0.0, le=1.0)
    iou: float = Field(default=0.7, gt=0.0, le=1.0)  # Ultralytics' default


class Manifest(BaseModel):
    """The keys of `model.yaml`. Unknown keys are refused, so that a misspelling is not silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    version: str = Field(min_length=1, max_length=64)
    licence: str = Field(min_length=1)
    layout: Layout
    classes: tuple[str, ...] = Field(min_length=1, max_length=2000)
    input_size: int = Field(ge=32, le=4096)  # longer side of the network's input, pixels
    dynamic: bool = False  # True: takes any height and width that are multiples of 32
    weights: str = Field(min_length=1)
    int8: str = ""  # the same model quantised (OpenVINO's .xml); taken where the processor runs it faster
    # Of the weights file; with several files (OpenVINO's .xml and .bin) a mapping of file name to digest.
    sha256: str | dict[str, str]
    size_bytes: int = Field(default=0, ge=0)  # of the weights files together; 0 = not stated
    thresholds: Thresholds = Thresholds()
    golden: Golden | None = None  # a picture with what the model finds in it; see golden.py
    source: str = ""  # where the weights came from
    engine: str = ""  # openvino | onnxruntime | ultralytics; empty = chosen by what the machine has
    precision: str = ""  # of the stored weights: fp32, fp16, int8
    metrics: dict[str, float | str] = {}  # what was measured when it was made

    @field_validator("version", mode="before")
    @classmethod
    def _version_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) else value

    @field_validator("input_size")
    @classmethod
    def _multiple_of_stride(cls, value: int) -> int:
        if value % max(STRIDES):
            raise ValueError(f"expected a multiple of {max(STRIDES)}, got {value}")
        return value

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        known = ("", "openvino", "onnxruntime", "ultralytics")
        if value not in known:
            raise ValueError(f"expected one of {', '.join(known[1:])} or nothing, got {value!r}")
        return value


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle on disk."""

    path: Path
    manifest: Manifest
    weights_path: Path
    digest: str  # sha256 of the weights; of the sorted "file digest" lines when there are several files

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def int8_path(self) -> Path | None:
        return self.path / self.manifest.int8 if self.manifest.int8 else None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes


def load_bundle(path: Path | str) -> Bundle:
    """The bundle in folder `path`, verified. Raises ModelError."""
    folder = Path(path)
    manifest = read_manifest(folder)
    weights_path = _inside(folder, manifest.weights)
    if weights_path.suffix not in WEIGHTS_SUFFIXES:
        raise ModelError(
            f"{folder / MANIFEST}: weights: expected a file ending in {', '.join(WEIGHTS_SUFFIXES)}, "
            f"got {manifest.weights!r}"
        )
    if manifest.int8 and _inside(folder, manifest.int8).suffix != ".xml":
        raise ModelError(f"{folder / MANIFEST}: int8: expected a file ending in .xml, got {manifest.int8!r}")
    digests = _expected_digests(folder, manifest)
    _verify_size(folder, manifest)
    for name, expected in digests.items():
        _verify(_inside(folder, name), expected)
    if manifest.golden is not None:
        _verify(_inside(folder, manifest.golden.image), manifest.golden.sha256)
    return Bundle(folder, manifest, weights_path, bundle_digest(digests))


def read_manifest(folder: Path) -> Manifest:
    """What a bundle says of itself, its files not verified. Raises ModelError."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelError(_missing_manifest(folder))
    if path.stat().st_size > _MANIFEST_LIMIT_BYTES:
        raise ModelError(f"{path}: expected at most {_MANIFEST_LIMIT_BYTES} bytes, got {path.stat().st_size}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: not readable as YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: expected keys and values, got {type(values).__name__}")
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise ModelError(f"{path}: {_first_problem(error)}") from error


def manifest_files(folder: Path) -> list[str]:
    """Names of the files that the manifest in `folder` speaks of, none outside of it. Raises ModelError."""
    manifest = read_manifest(folder)
    names = _weights_names(manifest)
    if manifest.golden is not None:
        names.append(manifest.golden.image)
    for name in names:
        _inside(folder, name)
    return names


def weights_files(weights_path: Path) -> tuple[Path, ...]:
    """The files that belong to one weights file: OpenVINO's `.xml` has its `.bin` beside it."""
    if weights_path.suffix == ".xml":
        return (weights_path, weights_path.with_suffix(".bin"))
    return (weights_path,)


def bundle_digest(digests: dict[str, str]) -> str:
    """One digest for one or several files."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Lower-case hexadecimal sha256 of a file. Raises ModelError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        if path.stat().st_size > _WEIGHTS_LIMIT_BYTES:
            raise ModelError(
                f"{path}: expected at most {_WEIGHTS_LIMIT_BYTES} bytes, got {path.stat().st_size}"
            )
        with path.open("rb") as file:
            while chunk := file.read(_READ_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); put the weights beside {MANIFEST}"
        ) from error
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> Bundle:
    """Write `model.yaml` into `folder` and load the bundle back, which verifies it."""
    values = manifest.model_dump(mode="json", exclude_defaults=True)
    (folder / MANIFEST).write_text(
        yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    return load_bundle(folder)


def check_output_shape(bundle: Bundle, shape: tuple[int, ...]) -> None:
    """Raise ModelError when an engine's output cannot be what the manifest says. -1 = any size."""
    manifest = bundle.manifest
    nc = len(manifest.classes)
    if len(shape) != 3:
        raise ModelError(
            f"{bundle.path / MANIFEST}: expected a model with one output of 3 dimensions, got {list(shape)}; "
            f"export a detection model without extra outputs"
        )
    if manifest.layout is Layout.YOLO26:
        fits, wanted = shape[2] in (-1, 6), "(1, n, 6)"
    elif manifest.layout is Layout.YOLOV8:
        fits, wanted = shape[1] in (-1, 4 + nc), f"(1, {4 + nc}, n)"
    else:
        fits, wanted = shape[2] in (-1, 5 + nc), f"(1, n, {5 + nc})"
    if not fits:
        raise ModelError(
            f"{bundle.path / MANIFEST}: layout {manifest.layout.value} with {nc} classes: "
            f"expected an output of {wanted}, got {list(shape)}; correct `layout` or `classes`"
        )


def rect_shape(height: int, width: int, input_size: int) -> tuple[int, int]:
    """Network input (height, width) for a picture: longer side `input_size`, the other padded to 32."""
    ratio = min(input_size / height, input_size / width)
    step = max(STRIDES)
    rounded = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    return (math.ceil(rounded[0] / step) * step, math.ceil(rounded[1] / step) * step)


def _weights_names(manifest: Manifest) -> list[str]:
    """All files of all forms, relative to the bundle."""
    forms = [Path(name) for name in (manifest.weights, manifest.int8) if name]
    return [path.as_posix() for form in forms for path in weights_files(form)]


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"]) or "file"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed are {', '.join(Manifest.model_fields)}"
    if problem["type"] == "missing":
        return f"{key}: this key is missing; add it"
    if problem["type"] == "enum":
        return f"{key}: expected one of {', '.join(Layout)}, got {str(problem['input'])[:60]!r}"
    return f"{key}: {problem['msg']}"


def _missing_manifest(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder; expected a model bundle (a folder with {MANIFEST} and weights)"
    if (folder / "metadata.yaml").is_file():
        return f"{folder}: an export without {MANIFEST}; import it first (`framegrid model import {folder}`)"
    return f"{folder}: no {MANIFEST} in this folder; a model bundle has {MANIFEST} beside its weights"


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{folder / MANIFEST}: expected a file inside the bundle, got {name!r}")
    return path


def _expected_digests(folder: Path, manifest: Manifest) -> dict[str, str]:
    needed = _weights_names(manifest)
    given = manifest.sha256 if isinstance(manifest.sha256, dict) else {manifest.weights: manifest.sha256}
    missing = [name for name in needed if name not in given]
    if missing:
        raise ModelError(
            f"{folder / MANIFEST}: sha256: expected a digest for {', '.join(missing)}; "
            f"write a mapping of file name to sha256"
        )
    return given


def _verify_size(folder: Path, manifest: Manifest) -> None:
    """Before anything is read whole: a cut-off download is told from a replaced one."""
    if not manifest.size_bytes:
        return
    files = [folder / name for name in _weights_names(manifest)]
    got = sum(path.stat().st_size for path in files if path.is_file())
    if got != manifest.size_bytes:
        raise ModelError(
            f"{folder / manifest.weights}: expected {manifest.size_bytes} bytes, got {got}: cut off or "
            f"replaced; fetch the bundle again"
        )


def _verify(path: Path, expected: str) -> None:
    got = file_sha256(path)
    if got != expected.lower():
        raise ModelError(
            f"{path}: expected sha256 {expected.lower()}, got {got}: damaged or replaced; "
            f"fetch the bundle again or correct {MANIFEST}"
        )
