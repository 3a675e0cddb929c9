"""The models of one machine: a folder with every version, a link to the active one, and a history.

    models/gate@3/           a bundle, never changed once it is there
    models/gate@4/
    models/gate -> gate@4    what `gate` means now; replaced in one step
    models/history.jsonl     who activated what, when, why, and what it replaced

Several processes may use one folder: links are replaced by rename and the history is only appended to.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from framegrid_serve.bundle import MANIFEST, Bundle, Manifest, load_bundle, read_manifest, write_manifest
from framegrid_serve.errors import ModelError
from framegrid_serve.sources import fetch

HISTORY = "history.jsonl"
SHADOWS = "shadows.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")


@dataclass(frozen=True, slots=True)
class Activation:
    """One line of the history."""

    time: str  # ISO 8601, UTC
    model: str
    version: str
    digest: str
    previous: str  # version that served before; empty for the first
    by: str
    action: str  # activate | rollback
    reason: str = ""


class Library:
    """See the module."""

    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir

    def names(self) -> list[str]:
        """Models that have a version here."""
        if not self.models_dir.is_dir():
            return []
        return sorted({path.parent.name.partition("@")[0] for path in self.models_dir.glob(f"*/{MANIFEST}")})

    def versions(self, name: str) -> list[Path]:
        """Folders of all versions, oldest first by time of arrival."""
        found = [path.parent for path in self.models_dir.glob(f"{name}@*/{MANIFEST}")]
        plain = self.models_dir / name
        if plain.is_dir() and not plain.is_symlink():  # put there by hand
            found.append(plain)
        return sorted(found, key=lambda folder: (folder.stat().st_mtime, folder.name))

    def active(self, name: str) -> Path | None:
        """Folder of the version that the name means now."""
        link = self.models_dir / name
        return link.resolve() if (link / MANIFEST).is_file() else None

    def find(self, wanted: str) -> Path | None:
        """Folder of `gate` (the active version) or `gate@4`."""
        name, at, version = wanted.partition("@")
        if not _NAME.match(name):
            return None
        folder = self.models_dir / (f"{name}@{safe(version)}" if at else name)
        if (folder / MANIFEST).is_file():
            return folder
        plain = self.active(name)  # one put there by hand may be meant by its version too
        if at and plain is not None and read_manifest(plain).version == version:
            return plain
        return None

    def next_version(self, name: str) -> str:
        """One more than the highest number among the versions."""
        tails = [folder.name.partition("@")[2] for folder in self.versions(name)]
        return str(max((int(tail) for tail in tails if tail.isdecimal()), default=0) + 1)

    def add(self, source: str, *, name: str = "", version: str = "") -> Bundle:
        """Fetch a bundle from anywhere (`sources.py`) and keep it, under another name or version if asked."""
        with self.workspace() as folder:
            bundle = fetch(source, folder)
            changes = {key: value for key, value in (("name", name), ("version", version)) if value}
            if changes:
                values = {**bundle.manifest.model_dump(mode="json"), **changes}
                bundle = write_manifest(bundle.path, Manifest.model_validate(values))
            return self.keep(bundle)

    def keep(self, bundle: Bundle) -> Bundle:
        """Move a finished bundle in. The first version of a name is active at once; others wait for that.

        Raises ModelError when that version is there already with other contents.
        """
        self.models_dir.mkdir(parents=True, exist_ok=True)
        target = self.models_dir / f"{bundle.name}@{safe(bundle.version)}"
        if target.exists():
            kept = load_bundle(target)
            if (kept.digest, kept.manifest) == (bundle.digest, bundle.manifest):
                return kept
            raise ModelError(
                f"{bundle.name}: version {bundle.version} is here already with other contents; versions "
                f"never change: give another one (`--version {self.next_version(bundle.name)}`)"
            )
        bundle.path.rename(target)
        kept = load_bundle(target)
        if self.active(bundle.name) is None:
            self._link(kept)
        return kept

    def activate(self, bundle: Bundle, *, by: str, action: str = "activate", reason: str = "") -> Activation:
        """Let the name mean this version, and write that down. The bundle lies in this library."""
        before = self.active(bundle.name)
        previous = read_manifest(before).version if before is not None else ""  # damaged or not
        self._link(bundle)
        activation = Activation(
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
            bundle.name,
            bundle.version,
            bundle.digest,
            previous,
            by,
            action,
            reason,
        )
        with (self.models_dir / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(activation)) + "\n")
        return activation

    def history(self, name: str = "") -> list[Activation]:
        """Activations of one model or of all, oldest first."""
        path = self.models_dir / HISTORY
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [Activation(**json.loads(line)) for line in lines if line.strip()]
        return [activation for activation in found if name in ("", activation.model)]

    def before(self, name: str) -> Bundle:
        """The version to roll back to: what the active one replaced. Raises ModelError."""
        active = self.active(name)
        if active is None:
            raise ModelError(f"{name}: expected an active model to roll back, got none")
        version = read_manifest(active).version
        for activation in reversed(self.history(name)):
            if activation.version == version and activation.previous:
                folder = self.find(f"{name}@{activation.previous}")
                if folder is not None:
                    return load_bundle(folder)
        raise ModelError(
            f"{name}: version {version} replaced none that is still here; activate one by its version "
            f"(`framegrid model list`)"
        )

    def shadow(self, name: str) -> tuple[Path, float] | None:
        """The version that shadows the active one on live frames, and its share of them."""
        try:
            told = json.loads((self.models_dir / SHADOWS).read_text(encoding="utf-8")).get(name)
        except (OSError, ValueError):
            return None
        folder = self.find(f"{name}@{told['version']}") if told else None
        return (folder, float(told["share"])) if folder is not None else None

    def set_shadow(self, name: str, bundle: Bundle | None, share: float = 0.1) -> None:
        """From now on this version shadows the active one; None ends it. Serve is told by the caller."""
        path = self.models_dir / SHADOWS
        told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        told.pop(name, None)
        if bundle is not None:
            told[name] = {"version": bundle.version, "share": share}
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        scratch.replace(path)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder on the same disk to make a bundle in; deleted at the end."""
        self.models_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.models_dir, prefix=".making-") as folder:
            yield Path(folder)

    def _link(self, bundle: Bundle) -> None:
        link = self.models_dir / bundle.name
        if link.is_dir() and not link.is_symlink():  # put there by hand: it becomes a version like others
            old = load_bundle(link)
            moved = self.models_dir / f"{old.name}@{safe(old.version)}"
            if moved.exists():
                shutil.rmtree(link)
            else:
                link.rename(moved)
        scratch = self.models_dir / f".{bundle.name}.{os.getpid()}"
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(f"{bundle.name}@{safe(bundle.version)}", target_is_directory=True)
        scratch.replace(link)


def safe(version: str) -> str:
    """A version as part of a folder's name."""
    return _UNSAFE.sub("-", version)
