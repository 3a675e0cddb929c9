"""Which engine runs a bundle on this machine."""

from __future__ import annotations

import importlib.util
import platform

from framegrid_serve.bundle import Bundle, check_output_shape
from framegrid_serve.engines.base import Engine, EngineSettings
from framegrid_serve.errors import ModelError

_X86 = ("x86_64", "AMD64", "i686")


def engine_name(bundle: Bundle, settings: EngineSettings) -> str:
    """`openvino`, `onnxruntime` or `ultralytics`: settings before the bundle's wish before the machine."""
    wished = settings.engine or bundle.manifest.engine
    if wished:
        return wished
    suffix = bundle.weights_path.suffix
    if suffix == ".pt":
        raise ModelError(
            f"{bundle.weights_path}: a .pt is opened only by `engine: ultralytics`, "
            f"and only if you trust it; name it in model.yaml or import the model (`framegrid model import`)"
        )
    if suffix == ".xml" or (platform.machine() in _X86 and _installed("openvino") and not _has_cuda()):
        return "openvino"
    return "onnxruntime"


def open_engine(bundle: Bundle, settings: EngineSettings) -> Engine:
    """The engine, ready to infer, its output checked against the manifest. Raises ModelError."""
    name = engine_name(bundle, settings)
    engine: Engine
    try:
        if name == "openvino":
            from framegrid_serve.engines.openvino_engine import OpenVinoEngine

            engine = OpenVinoEngine(bundle, settings)
        elif name == "onnxruntime":
            from framegrid_serve.engines.onnx_engine import OnnxRuntimeEngine

            engine = OnnxRuntimeEngine(bundle, settings)
        elif name == "ultralytics":
            from framegrid_serve.engines.ultralytics_engine import UltralyticsEngine

            engine = UltralyticsEngine(bundle, settings)
        else:
            raise ModelError(f"expected engine openvino, onnxruntime or ultralytics, got {name!r}")
    except ImportError as error:
        raise ModelError(
            f"engine {name}: {error.name} is not installed; install the extra `serve`"
        ) from error
    check_output_shape(bundle, engine.output_shape)
    return engine


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _has_cuda() -> bool:
    """True when this ONNX Runtime can use an NVIDIA GPU, which then beats the CPU."""
    if not _installed("onnxruntime"):
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
