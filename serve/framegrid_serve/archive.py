"""A bundle in one file: packed the same way every time, unpacked without trust.

`pack` writes a plain tar of the files that belong to a bundle (weights barely compress), byte for byte the
same for the same bundle, so that its digest can be pinned. `unpack` takes tar (plain, gzip, xz, bz2) and zip,
and writes regular files alone, inside the folder alone, within bounds that count what is really written and
not what a header claims. Nothing is executed and nothing keeps its mode or owner.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO

from framegrid_serve.bundle import MANIFEST, Bundle, manifest_files
from framegrid_serve.errors import ModelError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
MAX_UNPACKED_BYTES = 4 * 1024**3  # the largest published detection models take 0.5 GiB
MAX_FILES = 64
_COPY_BYTES = 1 << 20
# What may lie beside the files that the manifest names.
_TEXTS = ("README.md", "LICENSE", "LICENSE.txt", "LICENCE", "metadata.yaml")


def is_archive(name: str) -> bool:
    """By its name."""
    return name.lower().endswith(SUFFIXES)


def files_of(bundle: Bundle) -> list[Path]:
    """The files that make up a bundle, the manifest first."""
    files = [bundle.path / name for name in (MANIFEST, *manifest_files(bundle.path))]
    return files + [bundle.path / name for name in _TEXTS if (bundle.path / name).is_file()]


def pack(bundle: Bundle, path: Path) -> Path:
    """Write the bundle as a tar at `path`, replaced as a whole; the same bundle gives the same bytes."""
    scratch = path.with_name(f".{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(scratch, "w", format=tarfile.USTAR_FORMAT) as archive:
        for file in files_of(bundle):
            entry = tarfile.TarInfo(file.relative_to(bundle.path).as_posix())
            entry.size = file.stat().st_size
            entry.mode = 0o644  # and no owner, no time
            with file.open("rb") as content:
                archive.addfile(entry, content)
    scratch.replace(path)
    return path


def unpack(path: Path, folder: Path, *, max_bytes: int = MAX_UNPACKED_BYTES) -> Path:
    """Unpack into the empty `folder`; returns where `model.yaml` lies in it. Raises ModelError."""
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as zipped, closing(_zip_entries(zipped, path)) as entries:
                _write(entries, folder, path, max_bytes)
        else:
            with tarfile.open(path, "r:*") as tarred, closing(_tar_entries(tarred, path)) as entries:
                _write(entries, folder, path, max_bytes)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError) as error:
        # RuntimeError: zipfile's word for an encrypted entry. ValueError: a damaged header.
        raise ModelError(f"{path.name}: not readable as an archive: {str(error)[:200]}") from error
    return _root(folder, path)


def _write(entries: Iterable[tuple[str, IO[bytes]]], folder: Path, path: Path, max_bytes: int) -> None:
    written = 0
    for count, (name, content) in enumerate(entries, start=1):
        if count > MAX_FILES:
            raise ModelError(
                f"{path.name}: expected at most {MAX_FILES} files, got more; pack the bundle alone"
            )
        target = folder / _inner(name, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:  # a name twice is an error, not the second one's victory
            while chunk := content.read(_COPY_BYTES):
                written += len(chunk)
                if written > max_bytes:
                    raise ModelError(f"{path.name}: expected at most {max_bytes} bytes unpacked, got more")
                file.write(chunk)


def _tar_entries(archive: tarfile.TarFile, path: Path) -> Generator[tuple[str, IO[bytes]], None, None]:
    for entry in archive:
        if entry.isdir():
            continue
        content = archive.extractfile(entry) if entry.isreg() else None
        if content is None:
            raise ModelError(
                f"{path.name}: expected regular files, got a link or a device at {entry.name[:80]!r}"
            )
        yield entry.name, content


def _zip_entries(archive: zipfile.ZipFile, path: Path) -> Generator[tuple[str, IO[bytes]], None, None]:
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        kind = (entry.external_attr >> 16) & 0o170000
        if kind not in (0, 0o100000):
            raise ModelError(f"{path.name}: expected regular files, got a link at {entry.filename[:80]!r}")
        with archive.open(entry) as content:
            yield entry.filename, content


def _inner(name: str, path: Path) -> Path:
    """A relative path that stays inside."""
    parts = PurePosixPath(name)
    is_odd = "\\" in name or ":" in name or "\0" in name
    if parts.is_absolute() or ".." in parts.parts or not parts.parts or is_odd:
        raise ModelError(f"{path.name}: expected names inside the bundle, got {name[:80]!r}")
    return Path(*parts.parts)


def _root(folder: Path, path: Path) -> Path:
    """The folder with the manifest: the archive's own root, or the one folder in it."""
    if (folder / MANIFEST).is_file():
        return folder
    inner = [entry for entry in folder.iterdir() if (entry / MANIFEST).is_file()]
    if len(inner) == 1:
        return inner[0]
    raise ModelError(f"{path.name}: expected {MANIFEST} in the archive or in its one folder, got none")
