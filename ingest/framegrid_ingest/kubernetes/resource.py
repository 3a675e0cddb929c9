"""The Camera resource: one camera of `cameras.yaml` as a Kubernetes object. Pure.

`spec` has the keys of cameras.yaml but `name` (it is metadata.name) and `start_s`, plus `secretRef`: ${NAME}
in `url` is the key NAME of that Secret. A camera here is live: a recording read as fast as it goes would be
counted again by the pod that takes it over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from framegrid_ingest.config import CameraConfig, parse_camera
from framegrid_ingest.errors import ConfigError, Problem

GROUP = "framegrid.io"
VERSION = "v1alpha1"
KIND = "Camera"
PLURAL = "cameras"

FAST_MESSAGE = (
    "expected native, got fast: the pod that takes a recording over would count it again; "
    "analyse it with cameras.yaml or framegrid analyze"
)


@dataclass(frozen=True, slots=True)
class Declared:
    """A Camera object as its author wrote it; status left out."""

    name: str
    uid: str
    generation: int
    spec: Mapping[str, Any]

    @property
    def secret(self) -> str:
        """Name of the Secret that fills ${NAME} in the url; "" for none."""
        reference = self.spec.get("secretRef")
        return str(reference.get("name", "")) if isinstance(reference, Mapping) else ""

    @property
    def version(self) -> tuple[str, int]:
        """Changes with every change of the spec, not with the status."""
        return self.uid, self.generation


def declared(camera: Mapping[str, Any]) -> Declared:
    """From the object that the API server sends."""
    metadata = camera.get("metadata") or {}
    return Declared(
        str(metadata.get("name", "")),
        str(metadata.get("uid", "")),
        int(metadata.get("generation", 0)),
        camera.get("spec") or {},
    )


def camera_config(camera: Declared, secret: Mapping[str, str]) -> CameraConfig:
    """What to run. Raises ConfigError."""
    values = {key: value for key, value in camera.spec.items() if key != "secretRef"}
    if values.get("pace") == "fast":
        raise ConfigError([Problem("", 1, 1, "pace", FAST_MESSAGE)])

    def missing(name: str, state: str) -> str:
        if not camera.secret:
            return f"expected a Secret for ${{{name}}}, got none; name it in secretRef"
        return f"the key {name} of Secret {camera.secret} {state}; set it"

    return parse_camera({**values, "name": camera.name}, secret, missing)


def config_message(error: ConfigError) -> str:
    """The mistakes of one Camera in one sentence each, keys as in its spec."""
    return "; ".join(
        f"spec.{problem.key}: {problem.message}" if problem.key else problem.message
        for problem in error.problems
    )
