"""Bundles that a replica fetches itself: each once per machine, by its digest.

For clusters without a shared volume: `user_config` names a source (`sources.py`) and the digest that it has
to have. Replicas of one machine may share the folder; what one has fetched the others find.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from framegrid_serve.bundle import MANIFEST
from framegrid_serve.errors import ModelError
from framegrid_serve.sources import fetch, shown
from framegrid_serve.spec import BundleRef

# Versions that stay on disk: those that serve, those before them, candidates.
_KEPT = 8


class BundleCache:
    """In `folder`; without one in a private temporary folder of this process."""

    def __init__(self, folder: Path | None) -> None:
        self._given = folder

    @functools.cached_property
    def _folder(self) -> Path:
        return self._given or Path(tempfile.mkdtemp(prefix="framegrid-bundles-"))

    def locate(self, ref: BundleRef) -> Path:
        """The bundle's folder on this machine; fetched when it is not there yet. Raises ModelError."""
        if ref.path is not None:
            return ref.path
        target = self._folder / ref.digest
        if not (target / MANIFEST).is_file():
            self._fetch(ref, target)
        return target

    def _fetch(self, ref: BundleRef, target: Path) -> None:
        # Private: whoever may write here decides what is served.
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".fetch-") as work_dir:
            bundle = fetch(ref.source, Path(work_dir))
            if bundle.digest != ref.digest:
                raise ModelError(f"{shown(ref.source)}: expected digest {ref.digest}, got {bundle.digest}")
            if target.exists():  # another replica was faster
                return
            bundle.path.rename(target)
        self._prune()

    def _prune(self) -> None:
        kept = sorted(
            (path for path in self._folder.iterdir() if not path.name.startswith(".")),
            key=lambda path: path.stat().st_mtime,
        )
        for path in kept[:-_KEPT]:
            shutil.rmtree(path, ignore_errors=True)
