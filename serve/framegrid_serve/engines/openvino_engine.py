"""OpenVINO on the CPU: the default on x86. Reads its own IR and ONNX.

One executable per input shape, a bounded number of them: the shapes that come first, and the square, into
which any other picture is padded. `threads` streams of one thread each, which measured faster than one stream
of many threads and does not fall apart when a core is busy elsewhere.
The precision hint stays OpenVINO's own (bfloat16 where AMX is): forcing f16 turns AMX off.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np
import openvino as ov
from openvino.preprocess import ColorFormat, PrePostProcessor

from framegrid_serve.bundle import Bundle, Layout, rect_shape
from framegrid_serve.engines.base import USUAL_PICTURE, EngineSettings, Floats
from framegrid_serve.errors import ModelError
from framegrid_serve.preprocess import PAD_VALUE, Image

T = TypeVar("T")
Shape = tuple[int, int]

# Compiling takes as long as about 30 frames. A shape without an executable gets one, in place of the least
# recently used, after this many frames: compiling then costs a hundredth, whatever mixture of shapes comes.
_COMPILE_AFTER_FRAMES = 3000


class OpenVinoEngine:
    """See the module. `precision` is what OpenVINO chose, e.g. `bf16`."""

    name = "openvino"
    max_batch = 1  # batches win nothing on a CPU (measured: 1 to 8 pictures at the same time per picture)

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        self.streams = settings.threads
        self._bundle = bundle
        self._max_shapes = settings.shapes
        self._core = ov.Core()
        if settings.cache_dir is not None:
            self._core.set_property({"CACHE_DIR": str(settings.cache_dir)})
        try:
            self._model = self._core.read_model(bundle.weights_path)
        except RuntimeError as error:
            raise ModelError(f"{bundle.weights_path}: not readable by OpenVINO: {_short(error)}") from error
        if len(self._model.inputs) != 1 or len(self._model.outputs) != 1:
            raise ModelError(
                f"{bundle.weights_path}: expected one input and one output, got "
                f"{len(self._model.inputs)} and {len(self._model.outputs)}; export a plain detection model"
            )
        self.output_shape = _shape_of(self._model.outputs[0])
        self._fixed_shape = None if bundle.manifest.dynamic else _fixed_shape(self._model, bundle)
        self._square = (bundle.manifest.input_size,) * 2
        # Padding moves no box, but for raw YOLOX, whose cells are counted from the picture's own shape.
        self._may_pad = bundle.manifest.dynamic and bundle.manifest.layout is not Layout.YOLOX
        self._padded_frames: Counter[Shape] = Counter()
        self._pools: OrderedDict[Shape, Future[_Pool]] = OrderedDict()
        self._lock = threading.Lock()
        # The shape that nearly every camera has, and that the detector warms up with: compiled once.
        usual = rect_shape(*USUAL_PICTURE, bundle.manifest.input_size)
        self.precision = self._pool(self._fixed_shape or usual)[1].precision
        if any(node.get_type_name() == "FakeQuantize" for node in self._model.get_ops()):
            self.precision = "int8"  # the hint speaks of the layers that were left as they are

    def infer(self, images: Sequence[Image], read: Callable[[Floats], T]) -> T:
        """See `Engine.infer`; pictures are run one after another."""
        if len(images) != 1:
            raise ValueError(f"expected one picture (max_batch is 1), got {len(images)}")
        image = images[0]
        shape, pool = self._pool((image.shape[0], image.shape[1]))
        image = _padded(image, shape)
        request = pool.idle.get()
        try:
            request.infer({0: image[np.newaxis]}, share_inputs=True, share_outputs=True)
            return read(request.get_output_tensor(0).data)
        finally:
            pool.idle.put(request)

    def close(self) -> None:
        """Drop the executables; OpenVINO frees them with the last reference."""
        with self._lock:
            self._pools.clear()

    def _pool(self, wanted: Shape) -> tuple[Shape, _Pool]:
        """The executable for a shape, and its own shape, which may be larger.

        The first caller of a shape compiles it; others of that shape wait for it.
        """
        if self._fixed_shape is not None and wanted != self._fixed_shape:
            raise ValueError(f"expected pictures of {self._fixed_shape}, got {wanted}")
        with self._lock:
            shape = self._shape_for(wanted)
            future = self._pools.get(shape)
            mine = future is None
            if future is None:
                future = self._pools[shape] = Future()
                while len(self._pools) > self._max_shapes:
                    self._evict()
            else:
                self._pools.move_to_end(shape)
        if mine:
            try:
                future.set_result(self._compile(shape))
            except BaseException as error:
                with self._lock:
                    self._pools.pop(shape, None)
                future.set_exception(error)
                raise
        return shape, future.result()

    def _shape_for(self, wanted: Shape) -> Shape:
        """The shape to run a picture at: its own while there is room, else the smallest that holds it."""
        reserved = 0 if self._square in (wanted, *self._pools) else 1
        if wanted in self._pools or len(self._pools) + reserved < self._max_shapes or not self._may_pad:
            return wanted
        self._padded_frames[wanted] += 1
        if self._padded_frames[wanted] > _COMPILE_AFTER_FRAMES:
            del self._padded_frames[wanted]
            return wanted
        holding = [shape for shape in self._pools if shape[0] >= wanted[0] and shape[1] >= wanted[1]]
        return min(holding, key=lambda shape: shape[0] * shape[1], default=self._square)

    def _evict(self) -> None:
        """Let go of the least recently used executable; the square, which holds every picture, last."""
        oldest = next((shape for shape in self._pools if shape != self._square), self._square)
        del self._pools[oldest]

    def _compile(self, shape: Shape) -> _Pool:
        height, width = shape
        try:
            compiled = self._core.compile_model(
                _with_preprocessing(self._model.clone(), self._bundle.manifest.layout, shape),
                "CPU",
                {
                    "INFERENCE_NUM_THREADS": self.streams,
                    "NUM_STREAMS": self.streams,
                    # OpenVINO pins its threads from the first core on, in every process anew: two replicas
                    # would share one core and leave the other idle.
                    "ENABLE_CPU_PINNING": False,
                },
            )
        except RuntimeError as error:
            raise ModelError(
                f"{self._bundle.weights_path}: OpenVINO cannot run it at {width}x{height}: {_short(error)}; "
                f"check `dynamic` and `input_size`"
            ) from error
        return _Pool(compiled, self.streams)


class _Pool:
    """One executable and its requests: as many as may run at the same time."""

    def __init__(self, compiled: ov.CompiledModel, streams: int) -> None:
        self.compiled = compiled
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.precision = {"bf16": "bf16", "f16": "fp16", "f32": "fp32"}.get(hint, hint)
        self.idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            self.idle.put(compiled.create_infer_request())


def _with_preprocessing(model: ov.Model, layout: Layout, shape: Shape) -> ov.Model:
    """Put the picture's bytes, HWC and BGR, at the input: measured faster than preparing it in numpy."""
    processor = PrePostProcessor(model)
    tensor = processor.input().tensor()
    tensor.set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_shape([1, *shape, 3])
    processor.input().model().set_layout(ov.Layout("NCHW"))
    steps = processor.input().preprocess().convert_element_type(ov.Type.f32)
    if layout in (Layout.YOLOV8, Layout.YOLO26):
        tensor.set_color_format(ColorFormat.BGR)
        steps.convert_color(ColorFormat.RGB)
        steps.scale(255.0)
    return processor.build()


def _padded(image: Image, shape: Shape) -> Image:
    """The picture with grey added at the right and the bottom, where it moves no box."""
    if image.shape[:2] == shape:
        return image
    canvas = np.full((*shape, 3), PAD_VALUE, np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def _shape_of(port: Any) -> tuple[int, ...]:
    return tuple(-1 if size.is_dynamic else size.get_length() for size in port.get_partial_shape())


def _fixed_shape(model: ov.Model, bundle: Bundle) -> Shape:
    shape = _shape_of(model.inputs[0])
    size = bundle.manifest.input_size
    if len(shape) != 4 or shape[1] not in (3, -1) or shape[2:] != (size, size):
        raise ModelError(
            f"{bundle.weights_path}: expected an input of [1, 3, {size}, {size}] (not dynamic), got "
            f"{list(shape)}; correct `input_size` or `dynamic`"
        )
    return (size, size)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[-200:]
