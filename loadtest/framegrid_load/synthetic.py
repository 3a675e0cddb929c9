"""An engine that takes a stated time and no core: for measuring everything around engines.

Sixteen replicas of it run on two cores, so that what grows with their number (routing, autoscaling, starts)
can be measured on a small machine. It finds the same one object in every picture; the answers mean nothing.
Only measurements load it, by `engine: framegrid_load.synthetic`; it is in no image.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from framegrid_serve.bundle import Bundle, Layout, Manifest, file_sha256, write_manifest
from framegrid_serve.engines.base import EngineSettings, Floats
from framegrid_serve.errors import ModelError
from framegrid_serve.preprocess import Image

T = TypeVar("T")

CLASSES = ("person", "car")
MODEL = "synthetic"
_WEIGHTS = "synthetic.xml"
_MAX_SERVICE_MS = 60_000.0


class SyntheticEngine:
    """One picture at a time on each stream, each for the bundle's service time."""

    name = MODEL
    precision = "none"
    max_batch = 1

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        self.streams = settings.threads
        self.service_s = _service_ms(bundle.weights_path) / 1e3
        self._output = np.zeros((1, 4 + len(bundle.classes), 1), np.float32)
        self._output[0, :5, 0] = [64, 64, 32, 32, 0.9]

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self._output.shape

    def infer(self, images: Sequence[Image], read: Callable[[Floats], T]) -> T:
        """See `Engine.infer`."""
        if len(images) != 1:
            raise ValueError(f"expected one picture (max_batch is 1), got {len(images)}")
        time.sleep(self.service_s)
        return read(self._output)

    def close(self) -> None:
        """Nothing to free."""


FRAMEGRID_ENGINE = SyntheticEngine


def write_bundle(folder: Path, service_ms: float, *, input_size: int = 640) -> Bundle:
    """A bundle whose frames take `service_ms` each."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / _WEIGHTS
    weights.write_text(f'<synthetic service_ms="{service_ms:g}"/>\n', encoding="ascii")
    weights.with_suffix(".bin").write_bytes(b"")
    files = (weights, weights.with_suffix(".bin"))
    return write_manifest(
        folder,
        Manifest(
            name=MODEL,
            version=f"{service_ms:g}ms",
            licence="Apache-2.0",
            layout=Layout.YOLOV8,
            classes=CLASSES,
            input_size=input_size,
            dynamic=True,
            weights=weights.name,
            sha256={path.name: file_sha256(path) for path in files},
        ),
    )


def _service_ms(weights: Path) -> float:
    try:
        service_ms = float(ET.parse(weights).getroot().attrib["service_ms"])
    except (OSError, ET.ParseError, KeyError, ValueError) as error:
        raise ModelError(
            f'{weights}: expected <synthetic service_ms="…"/>, got {error}; make it with write_bundle'
        ) from error
    if not 0.0 <= service_ms <= _MAX_SERVICE_MS:
        raise ModelError(f"{weights}: expected service_ms in 0..{_MAX_SERVICE_MS:.0f}, got {service_ms}")
    return service_ms
