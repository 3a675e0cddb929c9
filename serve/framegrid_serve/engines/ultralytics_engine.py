"""Ultralytics (PyTorch) running a `.pt` as it is: for trials and GPUs, never in the serve image.

A `.pt` is a pickle: opening one runs code from it. So this engine is used only when it is named in the
bundle or the settings, and only with weights that you trust. Ultralytics is AGPL-3.0.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from framegrid_serve.bundle import Bundle, Layout
from framegrid_serve.engines.base import EngineSettings, Floats
from framegrid_serve.errors import ModelError
from framegrid_serve.preprocess import Image

T = TypeVar("T")

_GPU_BATCH = 16


class UltralyticsEngine:
    """See the module. One stream: PyTorch spreads one call over its threads, or over the GPU."""

    name = "ultralytics"
    streams = 1

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        if bundle.weights_path.suffix != ".pt":
            raise ModelError(
                f"{bundle.weights_path}: the ultralytics engine reads .pt, got {bundle.weights_path.suffix}"
            )
        if bundle.manifest.layout not in (Layout.YOLOV8, Layout.YOLO26):
            raise ModelError(
                f"{bundle.path}: the ultralytics engine knows the layouts yolov8 and yolo26 only"
            )
        try:
            import torch
            from ultralytics import YOLO
        except ImportError as error:
            raise ModelError(
                f"{bundle.weights_path}: needs Ultralytics, which is not installed; "
                f"install the extra `workshop` or export the model to OpenVINO (`framegrid model import`)"
            ) from error
        self._torch: Any = torch
        on_gpu = torch.cuda.is_available()
        self._device = torch.device("cuda" if on_gpu else "cpu")
        if not on_gpu:
            torch.set_num_threads(settings.threads)
        self._half = on_gpu
        network = YOLO(str(bundle.weights_path)).model
        _check_classes(bundle, network.names)
        network = network.fuse().eval().to(self._device)
        self._network: Any = network.half() if self._half else network.float()
        self.max_batch = _GPU_BATCH if on_gpu else 1
        self.precision = "fp16" if self._half else "fp32"
        self._lock = threading.Lock()
        nc = len(bundle.classes)
        self.output_shape = (-1, -1, 6) if bundle.manifest.layout is Layout.YOLO26 else (-1, 4 + nc, -1)

    def infer(self, images: Sequence[Image], read: Callable[[Floats], T]) -> T:
        """See `Engine.infer`. Colour order and scaling happen on the device."""
        torch = self._torch
        with self._lock, torch.inference_mode():
            batch = torch.from_numpy(np.stack(images)).to(self._device)
            batch = batch.flip(-1).permute(0, 3, 1, 2)
            batch = (batch.half() if self._half else batch.float()) / 255
            output = self._network(batch)
            while isinstance(output, list | tuple):
                output = output[0]
            return read(output.float().cpu().numpy())

    def close(self) -> None:
        """Free the network (and the GPU's memory with it)."""
        self._network = None


def _check_classes(bundle: Bundle, names: dict[int, str]) -> None:
    if len(names) != len(bundle.classes):
        raise ModelError(
            f"{bundle.path}: classes: expected the {len(names)} of the weights, got {len(bundle.classes)}"
        )
