"""Which engine runs a bundle on this machine."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import replace

from framegrid_serve.bundle import Bundle, check_output_shape
from framegrid_serve.engines.base import Engine, EngineSettings
from framegrid_serve.engines.cpu import advice
from framegrid_serve.errors import ModelError

EngineFactory = Callable[[Bundle, EngineSettings], Engine]

_X86 = ("x86_64", "AMD64", "i686")


def engine_name(bundle: Bundle, settings: EngineSettings) -> str:
    """`openvino`, `onnxruntime`, `ultralytics` or a module's name (settings alone can give that one).

    Settings go before the bundle's wish, and that before the machine.
    """
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
    bundle = in_form(bundle, name, settings)
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
        elif "." in name:
            engine = _foreign_engine(name)(bundle, settings)
        else:
            raise ModelError(
                f"expected engine openvino, onnxruntime, ultralytics or the dotted name of a module that has "
                f"one, got {name!r}"
            )
    except ImportError as error:
        cure = "put it on PYTHONPATH" if "." in name else "install the extra `serve`"
        raise ModelError(f"engine {name}: {error.name} is not installed; {cure}") from error
    check_output_shape(bundle, engine.output_shape)
    return engine


def _foreign_engine(module: str) -> EngineFactory:
    """The engine in a module that is not ours. Settings alone can name one: a bundle cannot bring code."""
    try:
        found: EngineFactory = importlib.import_module(module).FRAMEGRID_ENGINE
    except AttributeError as error:
        raise ModelError(
            f"engine {module}: expected a module that sets FRAMEGRID_ENGINE to the class of its engine "
            f"(engines/base.py), got one without it"
        ) from error
    return found


def in_form(bundle: Bundle, engine: str, settings: EngineSettings) -> Bundle:
    """The bundle with the weights that this machine is to run: settings before the processor's advice."""
    if bundle.int8_path is None or engine != "openvino":
        if settings.form == "int8" and bundle.manifest.precision != "int8":
            raise ModelError(
                f"{bundle.path}: expected an INT8 form for {engine}, got none; make one "
                f"(`framegrid model quantize`) or leave `form` out"
            )
        return bundle
    if (settings.form or advice().form) != "int8":
        return bundle
    return replace(bundle, weights_path=bundle.int8_path)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _has_cuda() -> bool:
    """True when this ONNX Runtime can use an NVIDIA GPU, which then beats the CPU."""
    if not _installed("onnxruntime"):
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
