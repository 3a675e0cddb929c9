"""The interface of an engine, and the one parallelism that it states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from framegrid_serve.preprocess import Image

# Height and width of a 16:9 camera's picture: by far the most common, compiled before the first frame comes.
USUAL_PICTURE = (9, 16)
T = TypeVar("T")
Floats = npt.NDArray[np.float32]


class EngineSettings(BaseModel):
    """How much of the machine an engine may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Cores of this replica. Every library is told; they would otherwise count the host's cores.
    threads: int = Field(default=1, ge=1, le=1024)
    # Compiled input shapes kept per model: a site has a handful of picture shapes; others are padded to one
    # of these. About 20 MB each and thread (nano).
    shapes: int = Field(default=8, ge=1, le=64)
    # Where OpenVINO keeps compiled models between starts; none by default.
    cache_dir: Path | None = None
    # openvino | onnxruntime | ultralytics | "" (the bundle's wish, else what the machine has), or the dotted
    # name of a module that sets FRAMEGRID_ENGINE (for measurements; `engines/choice.py`)
    engine: str = ""
    # Of bundles that hold an INT8 form: int8 | full | "" (what the processor runs faster; `engines/cpu.py`)
    form: Literal["", "int8", "full"] = ""


class Engine(Protocol):
    """Runs one network. Thread-safe for up to `streams` calls at a time.

    The caller keeps `streams` workers that each pass at most `max_batch` pictures: on a CPU several
    streams of one thread each and pictures one by one, on a GPU one stream and batches.
    """

    name: str
    precision: str
    streams: int
    max_batch: int

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output for one picture with its batch dimension; -1 where it depends on the input."""
        ...

    def infer(self, images: Sequence[Image], read: Callable[[Floats], T]) -> T:
        """Run pictures of one shape (H, W, 3) BGR and hand the raw output (batch, ...) to `read`.

        The array is the engine's own memory: valid only until `read` returns.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds. Nothing is in flight any more."""
        ...
