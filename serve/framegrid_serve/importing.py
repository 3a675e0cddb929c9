"""Weights and bundles from outside become versions of this machine's library.

A `.pt` is exported, an export is described, a bundle is fetched; then it gets its golden frame, the licence
that its owner states, and its place beside the other versions. Nothing here is part of serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from framegrid_serve.bundle import Bundle, file_sha256, load_bundle, write_manifest
from framegrid_serve.dataset import read_picture
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.errors import ModelError
from framegrid_serve.golden import GOLDEN_IMAGE, SURE_BY, Golden, golden_boxes, told
from framegrid_serve.library import Library
from framegrid_serve.workshop import PACKAGED_MODELS, import_export, import_pt, is_official, pull

# A simulated street: no photographer's rights, and a model of street classes finds something in it.
_STREET = PACKAGED_MODELS / "street-sim" / GOLDEN_IMAGE


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the owner of a model says about it."""

    name: str = ""
    version: str = ""  # empty = the next number
    licence: str = ""  # empty = what the export states
    golden: Path | None = None  # a picture in which the model finds something


def import_model(library: Library, source: Path, wanted: Wanted, *, input_size: int = 640) -> Bundle:
    """A version from a `.pt`, an `.onnx` or an OpenVINO folder. A .pt is a pickle: only what you trust."""
    name = wanted.name or source.stem.removesuffix("_openvino_model").lower().replace("_", "-")
    version = wanted.version or library.next_version(name)
    with library.workspace() as folder:
        made = folder / "bundle"
        if source.suffix == ".pt":
            bundle = import_pt(source, made, name, input_size, version=version)
        else:
            bundle = import_export(source, made, name, version=version)
        return library.keep(_completed(bundle, wanted))


def pull_model(library: Library, source: str, wanted: Wanted) -> Bundle:
    """A version from an official name or from any source of `sources.py`. Raises ModelError."""
    if not is_official(source):
        return library.add(source, name=wanted.name, version=wanted.version)
    with library.workspace() as folder:
        bundle = pull(source, folder)
        changes = {"name": wanted.name or bundle.name, "version": wanted.version or bundle.version}
        bundle = write_manifest(bundle.path, bundle.manifest.model_copy(update=changes))
        return library.keep(_completed(bundle, wanted))


def add_golden(bundle: Bundle, picture: Path) -> Bundle:
    """Give a bundle its golden frame: the picture at the network's size, and what the model finds in it.

    Raises ModelError when it finds nothing that it is sure of: such a picture would check nothing.
    """
    image = read_picture(picture)
    ratio = min(1.0, bundle.manifest.input_size / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    image = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    jpeg = simplejpeg.encode_jpeg(image, quality=90, colorspace="BGR", colorsubsampling="420")
    # The form that was imported is the truth for every other one.
    detector = Detector(bundle, EngineSettings(form="full"))
    boxes = golden_boxes(detector, jpeg)
    if not any(box.score >= bundle.manifest.thresholds.score + SURE_BY for box in boxes):
        raise ModelError(
            f"{picture}: expected a picture in which {bundle.name} finds something with a score of at least "
            f"{bundle.manifest.thresholds.score + SURE_BY:.2f}, got {told(boxes)}"
        )
    path = bundle.path / GOLDEN_IMAGE
    path.write_bytes(jpeg)
    golden = Golden(image=GOLDEN_IMAGE, sha256=file_sha256(path), boxes=boxes)
    return write_manifest(bundle.path, bundle.manifest.model_copy(update={"golden": golden}))


def _completed(bundle: Bundle, wanted: Wanted) -> Bundle:
    if wanted.licence:
        manifest = bundle.manifest.model_copy(update={"licence": wanted.licence})
        bundle = write_manifest(bundle.path, manifest)
    if wanted.golden is not None:
        return add_golden(bundle, wanted.golden)
    if bundle.manifest.golden is not None:
        return bundle
    try:
        return add_golden(bundle, _STREET)
    except ModelError:  # goats are not seen in a street: the owner has to give a picture of one
        (bundle.path / GOLDEN_IMAGE).unlink(missing_ok=True)
        return load_bundle(bundle.path)
