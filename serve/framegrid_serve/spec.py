"""What a replica serves: Ray Serve's `user_config`, in a closed schema."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from framegrid_serve.watch import WatchSettings


class BundleRef(BaseModel):
    """Where a bundle lies, and which one it has to be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None = None
    # Instead of a path an address that replicas fetch themselves (`sources.py`); it needs a digest.
    source: str = ""
    # Expected digest of the bundle; a changed digest is what makes a replica load the same path again.
    digest: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.path is None) == (not self.source):
            raise ValueError("expected either path or source")
        if self.source and not self.digest:
            raise ValueError("source: expected a digest with it, the sha256 of the bundle's weights")
        return self


class ShadowSpec(BundleRef):
    """A candidate that sees a share of the live frames; its answers are compared and thrown away."""

    share: float = Field(default=0.1, gt=0.0, le=1.0)  # of the frames; each costs the candidate's time once


class ModelSpec(BundleRef):
    """One model to serve: the name that requests use, and where its bundle lies."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    # What served before: a replica that starts later and cannot load the model takes this one.
    previous: BundleRef | None = None
    shadow: ShadowSpec | None = None


class ServingConfig(BaseModel):
    """See the module."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[ModelSpec, ...] = Field(min_length=1)
    default_model: str = ""  # empty = the first
    watch: WatchSettings = WatchSettings()  # after an activation

    @model_validator(mode="after")
    def _names_are_known(self) -> ServingConfig:
        names = [spec.name for spec in self.models]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise ValueError(f"models: expected each name once, got {', '.join(doubles)} twice")
        if self.default_model and self.default_model not in names:
            raise ValueError(f"default_model: expected one of {', '.join(names)}, got {self.default_model!r}")
        return self

    @property
    def default(self) -> str:
        return self.default_model or self.models[0].name
