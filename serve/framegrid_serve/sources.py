"""Where bundles come from: a folder, an archive, http(s), an object store, MLflow, Ultralytics' names.

    models/gate                              a folder with model.yaml
    gate-4.tar, gate.zip                     an archive of one (`archive.py`)
    https://host/models/gate-4.tar           either of them over HTTP
    s3://bucket/models/gate/                 or in any store that fsspec knows (s3://, gs://, az://, …)
    models:/gate@champion, models:/gate/4    MLflow's own addresses
    yolo11n                                  official weights; opened in the workshop alone

`#sha256=…` behind a remote archive pins it. Whatever comes is put into an empty folder within bounds, and
verified (closed manifest, size, digest of every file) before any engine opens it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from framegrid_serve.archive import MAX_UNPACKED_BYTES, files_of, is_archive, unpack
from framegrid_serve.bundle import MANIFEST, Bundle, load_bundle, manifest_files
from framegrid_serve.errors import ModelError

MLFLOW_SCHEME = "models"
_BY_OBSTORE = ("s3", "s3a", "gs", "az", "abfs")
_TIMEOUT_S = 60.0  # without a byte
_COPY_BYTES = 1 << 20
_MANIFEST_LIMIT_BYTES = 1_000_000
_PIN = re.compile(r"^sha256=([0-9a-f]{64})$", re.IGNORECASE)


def is_remote(source: str) -> bool:
    """True for an address with a scheme; a Windows drive letter is none."""
    return bool(re.match(r"^[a-zA-Z][a-zA-Z0-9+.-]+:/", source))


def fetch(source: str, work_dir: Path) -> Bundle:
    """The verified bundle of that source, in a new folder below the empty `work_dir`. Raises ModelError."""
    target = work_dir / "bundle"
    target.mkdir(parents=True)
    if not is_remote(source):
        return _from_disk(Path(source).expanduser(), target)
    scheme = urlsplit(source).scheme.lower()
    if scheme == MLFLOW_SCHEME:
        from framegrid_serve.mlflow_registry import download

        archive = download(source, work_dir)
        return load_bundle(unpack(archive, target))
    address, expected = _pinned(source)
    if not is_archive(urlsplit(address).path):
        if expected:
            raise ModelError(f"{shown(source)}: expected an archive before #sha256=, got a folder")
        return _remote_folder(address, target)
    archive = work_dir / Path(urlsplit(address).path).name
    got = _download(address, archive, MAX_UNPACKED_BYTES)
    if expected and got != expected:
        raise ModelError(
            f"{shown(source)}: expected sha256 {expected}, got {got}: not the file that was pinned"
        )
    return load_bundle(unpack(archive, target))


def shown(address: str) -> str:
    """An address as it may be told: without a password, without the signature of a signed one."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def store_of(address: str) -> tuple[Any, str]:
    """The object store and the path in it, by fsspec. Raises ModelError."""
    scheme = urlsplit(address).scheme
    try:
        import fsspec

        with contextlib.suppress(ImportError):
            from obstore.fsspec import register

            register(_BY_OBSTORE)
        filesystem, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ModelError(
            f"{shown(address)}: {scheme}:// needs a package that is not installed; "
            f"install the extra `objectstore`, or fsspec's package for this store"
        ) from error
    return filesystem, str(path)


def _from_disk(path: Path, target: Path) -> Bundle:
    if path.is_file() and is_archive(path.name):
        return load_bundle(unpack(path, target))
    bundle = load_bundle(path)
    for file in files_of(bundle):
        copy = target / file.relative_to(bundle.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return load_bundle(target)


def _remote_folder(address: str, target: Path) -> Bundle:
    """Manifest first; then only the files that it names, and none outside of the folder."""
    base = urlsplit(address)
    _download(_below(base, MANIFEST), target / MANIFEST, _MANIFEST_LIMIT_BYTES)
    room = MAX_UNPACKED_BYTES
    for name in manifest_files(target):
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        _download(_below(base, name), file, room)
        room -= file.stat().st_size
    return load_bundle(target)


def _below(base: Any, name: str) -> str:
    return str(urlunsplit(base._replace(path=f"{base.path.rstrip('/')}/{name}", fragment="")))


def _pinned(source: str) -> tuple[str, str]:
    parts = urlsplit(source)
    pin = _PIN.match(parts.fragment)
    if parts.fragment and pin is None:
        raise ModelError(
            f"{shown(source)}: expected #sha256= and 64 hexadecimal digits, got #{parts.fragment[:80]}"
        )
    return urlunsplit(parts._replace(fragment="")), pin.group(1).lower() if pin else ""


def _download(address: str, path: Path, max_bytes: int) -> str:
    """Copy a remote file; returns its sha256. Raises ModelError."""
    digest = hashlib.sha256()
    left = max_bytes
    with _opened(address) as source, path.open("xb") as file:
        while True:
            try:
                chunk = source.read(_COPY_BYTES)
            except Exception as error:  # every store has its own errors
                raise ModelError(f"{shown(address)}: broke off ({_reason(error)}); fetch it again") from error
            if not chunk:
                # An HTTP response counts down what it still owes; reading in pieces does not complain.
                if getattr(source, "length", None):
                    raise ModelError(f"{shown(address)}: broke off before its end; fetch it again")
                return digest.hexdigest()
            left -= len(chunk)
            if left < 0:
                raise ModelError(f"{shown(address)}: expected at most {max_bytes} bytes, got more")
            digest.update(chunk)
            file.write(chunk)


@contextlib.contextmanager
def _opened(address: str) -> Iterator[IO[bytes]]:
    is_http = urlsplit(address).scheme.lower() in ("http", "https")
    try:
        opened = _http(address) if is_http else _stored(address)
    except ModelError:
        raise
    except Exception as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise ModelError(
            f"{shown(address)}: cannot be fetched ({_reason(error)}); check address and access"
        ) from error
    with opened:
        yield opened


def _http(address: str) -> Any:
    # No handlers for ftp and file: a redirect stays HTTP.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener.open(address, timeout=_TIMEOUT_S)


def _stored(address: str) -> Any:
    filesystem, path = store_of(address)
    filesystem.info(path)  # a clear error for what is not there
    return filesystem.open(path, "rb")


def _reason(error: Exception) -> str:
    """Short, and without the address, which may hold a password."""
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    if isinstance(error, urllib.error.URLError):
        return type(error.reason).__name__ if isinstance(error.reason, Exception) else str(error.reason)[:100]
    return type(error).__name__
