"""Rendered clips, kept in a folder: the same settings are rendered once.

A clip's folder is named after the digest of its settings and of the modules that draw it, so a change of
the drawing never shows an old picture. Writing is atomic (a folder is renamed into place); several processes
may share a cache.
"""

from __future__ import annotations

import ast
import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from framegrid_sim.clip import Clip, ClipError, SceneSettings, render_clip

JPEG_QUALITY = 85  # what street cameras send
MAX_WORKERS = 2  # rendering is for a moment before the real work; it does not take the whole machine
# A minute of 640x360 at 10 fps is 35 MB: the most recently used ones stay, the others are rendered again.
MAX_KEPT_CLIPS = 24


class CacheError(RuntimeError):
    """The cache folder cannot be written."""


def default_cache_dir() -> Path:
    """`framegrid/sim` in the user's cache folder (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "framegrid" / "sim"


def load_clips(
    settings: Sequence[SceneSettings],
    cache_dir: Path | None = None,
    *,
    workers: int = MAX_WORKERS,
    jpeg_quality: int = JPEG_QUALITY,
    tell: Callable[[str], None] | None = None,
) -> list[Clip]:
    """Clips of these settings, in order, from the cache or rendered into it by up to `workers` processes.

    `tell` gets a sentence when the user has to wait for rendering.
    Raises CacheError when the folder cannot be written.
    """
    folder = cache_dir or default_cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(_unwritable(folder, error)) from error
    paths = [folder / clip_key(one, jpeg_quality) for one in settings]
    clips = {path: _load(path) for path in paths}
    missing = {p: one for p, one in zip(paths, settings, strict=True) if clips[p] is None}
    if missing and tell is not None:
        frames = sum(one.frame_count for one in missing.values())
        tell(f"rendering {len(missing)} clips, {frames} frames, once; they are kept in {folder}")
    try:
        _render_all(missing, min(workers, len(missing)), jpeg_quality)
        for path in missing:
            clips[path] = Clip.load(path)
        _prune(folder, keep=set(paths))
    except OSError as error:
        raise CacheError(_unwritable(folder, error)) from error
    return [clip for path in paths if (clip := clips[path]) is not None]


def clip_key(settings: SceneSettings, jpeg_quality: int) -> str:
    """Name of a clip's folder: 16 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps([settings.to_json(), jpeg_quality], sort_keys=True).encode())
    for source in drawing_sources():
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def drawing_sources() -> list[Path]:
    """The modules that decide what a clip shows: `clip` and what it imports of this package, transitively."""
    found, new = set[Path](), {Path(__file__).with_name("clip.py")}
    while new:
        found |= new
        new = {imported for path in new for imported in _imports_of(path)} - found
    return sorted(found)


def _imports_of(path: Path) -> list[Path]:
    """Files of this package that a module imports by `from framegrid_sim… import …`."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == __package__:
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{__package__}."):
            names.append((node.module or "").rpartition(".")[2])
    return [file for name in names if (file := path.with_name(f"{name}.py")).exists()]


def _load(path: Path) -> Clip | None:
    """The clip in a folder; None when there is none, or a damaged one (which is removed)."""
    if not path.is_dir():
        return None
    try:
        clip = Clip.load(path)
    except ClipError:
        shutil.rmtree(path, ignore_errors=True)
        return None
    os.utime(path)
    return clip


def _render_all(missing: dict[Path, SceneSettings], workers: int, jpeg_quality: int) -> None:
    if workers <= 1:
        for path, settings in missing.items():
            _render(settings, jpeg_quality, path)
        return
    # Spawned, not forked: the caller may have threads and an event loop.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        jobs = [pool.submit(_render, settings, jpeg_quality, path) for path, settings in missing.items()]
        for job in jobs:
            job.result()


def _render(settings: SceneSettings, jpeg_quality: int, path: Path) -> None:
    clip = render_clip(settings, jpeg_quality)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=path.parent))
    try:
        clip.save(unfinished)
        unfinished.chmod(0o755)  # mkdtemp's folders are for their owner alone
        unfinished.rename(path)
    except OSError:
        # Another process was faster and its clip is the same; anything else is an error.
        if not path.is_dir():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _prune(folder: Path, keep: set[Path]) -> None:
    """Remove the clips that were not used for the longest time."""
    others = [p for p in folder.iterdir() if p.is_dir() and p not in keep and (p / "clip.json").exists()]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[max(0, MAX_KEPT_CLIPS - len(keep)) :]:
        shutil.rmtree(path, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> str:
    return f"expected a writable cache folder, got {folder} ({error.strerror}); choose another by --cache"
