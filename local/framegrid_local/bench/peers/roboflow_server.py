"""The peer Roboflow Inference: its HTTP server, put together as the entry point of its CPU image does it.

Run by `uvicorn roboflow_server:app` of Roboflow's environment, never by ours. The model is a package in a
local folder, which its registry takes with ALLOW_INFERENCE_MODELS_DIRECTLY_ACCESS_LOCAL_PACKAGES.
"""

from __future__ import annotations

from inference.core.env import MAX_ACTIVE_MODELS
from inference.core.interfaces.http.http_api import HttpInterface
from inference.core.managers.base import ModelManager
from inference.core.managers.decorators.fixed_size_cache import WithFixedSizeCache
from inference.core.registries.roboflow import RoboflowModelRegistry
from inference.models.utils import ROBOFLOW_MODEL_TYPES

_registry = RoboflowModelRegistry(ROBOFLOW_MODEL_TYPES)
_manager = WithFixedSizeCache(ModelManager(model_registry=_registry), max_size=MAX_ACTIVE_MODELS)
app = HttpInterface(_manager).app
