"""ONNX Runtime: the portable engine. CPU streams of one thread, or batches on an NVIDIA GPU.

Providers are taken by what this build of ONNX Runtime offers: CUDA before CPU. Threads never spin, so a
waiting stream leaves its core to the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import cv2
import numpy as np
import onnxruntime as ort

from framegrid_serve.bundle import Bundle, Layout
from framegrid_serve.engines.base import EngineSettings, Floats
from framegrid_serve.errors import ModelError
from framegrid_serve.preprocess import Image

T = TypeVar("T")

_GPU_BATCH = 16


class OnnxRuntimeEngine:
    """See the module. `precision` is the stored one: ONNX Runtime computes in what the file holds."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        if bundle.weights_path.suffix != ".onnx":
            raise ModelError(
                f"{bundle.weights_path}: ONNX Runtime reads .onnx only; "
                f"choose engine `openvino` for this bundle"
            )
        on_gpu = "CUDAExecutionProvider" in ort.get_available_providers()
        self.streams = 1 if on_gpu else settings.threads
        self._session = _open(bundle, on_gpu)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(
                f"{bundle.weights_path}: expected one input and one output, got {len(inputs)} "
                f"and {len(outputs)}; export a plain detection model"
            )
        self._input_name: str = inputs[0].name
        self._half = inputs[0].type == "tensor(float16)"
        self.output_shape = tuple(size if isinstance(size, int) else -1 for size in outputs[0].shape)
        _check_input(bundle, inputs[0].shape)
        batch_is_free = not isinstance(inputs[0].shape[0], int)
        self.max_batch = _GPU_BATCH if on_gpu and batch_is_free else 1
        self.precision = "fp16" if self._half else bundle.manifest.precision or "fp32"
        unit_range = bundle.manifest.layout in (Layout.YOLOV8, Layout.YOLO26)
        self._scale, self._swap = (1 / 255, True) if unit_range else (1.0, False)
        self._gate = threading.BoundedSemaphore(self.streams)

    def infer(self, images: Sequence[Image], read: Callable[[Floats], T]) -> T:
        """See `Engine.infer`."""
        blob = cv2.dnn.blobFromImages(list(images), self._scale, swapRB=self._swap)
        if self._half:
            blob = blob.astype(np.float16)
        with self._gate:
            output = self._session.run(None, {self._input_name: blob})[0]
        return read(output.astype(np.float32, copy=False))

    def close(self) -> None:
        """Nothing to stop: the session goes with its last reference."""


def _open(bundle: Bundle, on_gpu: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # One thread a call; parallelism comes from `streams` calls at a time.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; warnings of the optimiser help nobody here
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]
    if on_gpu and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA's libraries came as wheels, where no loader looks (extra serve-gpu)
    try:
        return ort.InferenceSession(bundle.weights_path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no base but this
        raise ModelError(
            f"{bundle.weights_path}: not readable by ONNX Runtime: {' '.join(str(error).split())[-200:]}"
        ) from error


def _check_input(bundle: Bundle, shape: Sequence[int | str | None]) -> None:
    size = bundle.manifest.input_size
    sides_are_free = len(shape) == 4 and not any(isinstance(side, int) for side in shape[2:])
    if bundle.manifest.dynamic and sides_are_free:
        return
    if not bundle.manifest.dynamic and (sides_are_free or list(shape[2:]) == [size, size]):
        return
    wanted = "any height and width" if bundle.manifest.dynamic else f"{size} x {size}"
    raise ModelError(
        f"{bundle.weights_path}: expected an input of {wanted}, got {list(shape)}; "
        f"correct `dynamic` or `input_size`"
    )
