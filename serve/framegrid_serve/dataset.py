"""Pictures with labels, in YOLO's folder form: what models are calibrated on and measured with.

    data.yaml            path, train, val, names (Ultralytics' own file), or
    data/images/val/*.jpg and data/labels/val/*.txt, or a plain folder of pictures without labels

A label file has a line `class x y width height` for each object, centre and size relative to the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from framegrid_serve.bundle import Bundle
from framegrid_serve.errors import ModelError
from framegrid_serve.evaluation import Labelled
from framegrid_serve.preprocess import Image

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_YAML_LIMIT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pictures of one split, in order of name. `names` is empty when nobody said what the numbers mean."""

    pictures: tuple[Path, ...]
    names: dict[int, str]

    @property
    def is_labelled(self) -> bool:
        return any(label_path(picture).is_file() for picture in self.pictures)


def read_dataset(source: Path, split: str, *, limit: int = 0) -> Dataset:
    """The pictures of `split` (train, val, test); `limit` > 0 takes that many of them, evenly spread."""
    if source.is_file():
        folders, names = _from_yaml(source, split)
    elif source.is_dir():
        folders, names = _from_folder(source, split), {}
    else:
        raise ModelError(f"{source}: no such file or folder; expected a data set or pictures")
    pictures = sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in _PICTURES
    )
    if not pictures:
        places = ", ".join(str(folder) for folder in folders)
        raise ModelError(f"{places}: expected pictures ({', '.join(_PICTURES)}), got none")
    if 0 < limit < len(pictures):
        pictures = [pictures[index * len(pictures) // limit] for index in range(limit)]
    return Dataset(tuple(pictures), names)


def label_path(picture: Path) -> Path:
    """Where the labels of a picture lie: the last `images` of the path becomes `labels`; else beside it."""
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_picture(path: Path) -> Image:
    """BGR uint8 (H, W, 3). Raises ModelError."""
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if image is None:
        raise ModelError(f"{path}: expected a picture, got something else; remove it from the data set")
    return np.asarray(image, np.uint8)


def truth_of(picture: Path, numbers: dict[int, int]) -> Labelled:
    """The labels of a picture, boxes relative (0..1), classes renumbered by `numbers`; others left out."""
    path = label_path(picture)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        rows = [[float(value) for value in line.split()] for line in lines if line.strip()]
        table = np.array([row for row in rows if int(row[0]) in numbers], np.float64).reshape(-1, 5)
    except ValueError as error:
        raise ModelError(f"{path}: expected lines `class x y width height`, got something else") from error
    half = table[:, 3:] / 2
    boxes = np.concatenate([table[:, 1:3] - half, table[:, 1:3] + half], axis=1)
    classes = np.array([numbers[int(number)] for number in table[:, 0]], np.int64)
    return Labelled(boxes, classes, np.ones(len(table)))


def class_numbers(dataset: Dataset, bundle: Bundle) -> dict[int, int]:
    """The data set's class numbers -> the model's, by name; by number where the data set has no names.

    Classes that the model does not have are left out. Raises ModelError when none is left.
    """
    if not dataset.names:
        return {number: number for number in range(len(bundle.classes))}
    ours = {name: number for number, name in enumerate(bundle.classes)}
    shared = {number: ours[name] for number, name in dataset.names.items() if name in ours}
    if not shared:
        told = ", ".join(list(dataset.names.values())[:8])
        raise ModelError(
            f"{bundle.name}: expected a data set with classes of {', '.join(bundle.classes[:8])}, got {told}"
        )
    return shared


def _from_yaml(path: Path, split: str) -> tuple[list[Path], dict[int, str]]:
    if path.stat().st_size > _YAML_LIMIT_BYTES:
        raise ModelError(f"{path}: expected a data set's yaml, got {path.stat().st_size} bytes")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: not readable as YAML") from error
    if not isinstance(values, dict) or split not in values:
        raise ModelError(f"{path}: expected the key `{split}`, the folder of its pictures")
    root = Path(str(values.get("path") or path.parent)).expanduser()
    root = root if root.is_absolute() else path.parent / root
    wanted = values[split]
    folders = [root / str(folder) for folder in (wanted if isinstance(wanted, list) else [wanted])]
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise ModelError(f"{path}: {split}: no such folder {missing[0]}; correct `path` or `{split}`")
    return folders, _names(values.get("names"), path)


def _names(given: Any, path: Path) -> dict[int, str]:
    if isinstance(given, list):
        return {number: str(name) for number, name in enumerate(given)}
    if isinstance(given, dict) and all(isinstance(number, int) for number in given):
        return {number: str(name) for number, name in given.items()}
    if given is None:
        return {}
    raise ModelError(f"{path}: names: expected a list, or a mapping of number to name")


def _from_folder(folder: Path, split: str) -> list[Path]:
    """`images/val`, `images/val2017`, …; a folder without such a split is its own."""
    for place in (folder / "images", folder):
        named = sorted(found for found in place.glob(f"{split}*") if found.is_dir())
        if named:
            return named
    return [folder / "images" if (folder / "images").is_dir() else folder]
