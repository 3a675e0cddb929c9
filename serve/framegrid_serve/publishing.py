"""A bundle leaves this machine: to a folder, an object store, or an MLflow registry.

What is written is an archive with its digest beside it, and what comes back is the address that pins it. A
published version never changes: the same bundle again is no error, another one under its name is.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from framegrid_serve import mlflow_registry
from framegrid_serve.archive import pack
from framegrid_serve.bundle import Bundle
from framegrid_serve.errors import ModelError
from framegrid_serve.library import safe
from framegrid_serve.sources import MLFLOW_SCHEME, is_remote, shown, store_of

MLFLOW = "mlflow"


def publish(bundle: Bundle, target: str) -> str:
    """Publish to `target`: a folder, `s3://bucket/folder`, or `mlflow`. Returns the address to pull from."""
    if target.rstrip(":/") in (MLFLOW, MLFLOW_SCHEME):
        return mlflow_registry.publish(bundle)
    if urlsplit(target).scheme.lower() in ("http", "https"):
        raise ModelError(
            f"{shown(target)}: expected a folder, an object store (s3://…) or `mlflow`, got a web address; "
            f"publish to a folder that the web server shows"
        )
    address = target if is_remote(target) else Path(target).expanduser().absolute().as_uri()
    filesystem, root = store_of(address)
    name = f"{bundle.name}-{safe(bundle.version)}.tar"
    with tempfile.TemporaryDirectory(prefix="framegrid-") as folder:
        archive = pack(bundle, Path(folder) / name)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        place = f"{root.rstrip('/')}/{name}"
        try:
            if filesystem.exists(f"{place}.sha256"):
                _check_same(filesystem.cat_file(f"{place}.sha256"), digest, f"{shown(target)}/{name}")
            else:
                filesystem.makedirs(root, exist_ok=True)
                filesystem.put_file(str(archive), place)
                # The digest last: where it is, the archive is whole.
                filesystem.pipe_file(f"{place}.sha256", f"{digest}  {name}\n".encode())
        except ModelError:
            raise
        except Exception as error:  # every store has its own errors
            raise ModelError(
                f"{shown(target)}: cannot be written ({type(error).__name__}); check address and access"
            ) from error
    return f"{target.rstrip('/')}/{name}#sha256={digest}"


def _check_same(told: bytes, digest: str, place: str) -> None:
    if told.decode(errors="replace").split(" ")[0].strip() != digest:
        raise ModelError(
            f"{place}: this version is there already with other contents; versions never change: "
            f"give the bundle another version"
        )
