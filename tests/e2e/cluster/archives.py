"""Docker archives made without a builder: a static binary, or Debian as the base of Dockerfiles."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import settings as s

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def wrap(archive: Path, name: str, root_fs: Path, entrypoint: list[str]) -> None:
    """Write a docker archive called `name` whose one layer is the tar file `root_fs`."""
    with root_fs.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    config = {
        "architecture": s.ARCH,
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": [PATH]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]},
        "history": [{"created_by": "cluster"}],  # buildah wants one entry for each layer
    }
    config_bytes = json.dumps(config).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    partial = archive.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for member, content in ((config_name, config_bytes), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        tar.add(root_fs, "layer.tar")
    partial.rename(archive)


def wrap_binary(archive: Path, name: str, binary: Path, links: tuple[str, ...] = ()) -> None:
    """Write a docker archive with a static binary as /bin/NAME, the entry point; `links` name it too."""
    with tempfile.TemporaryDirectory(dir=s.CACHE) as scratch:
        layer = Path(scratch, "layer.tar")
        with tarfile.open(layer, "w") as tar:
            for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
                info = tarfile.TarInfo(folder)
                info.type, info.mode = tarfile.DIRTYPE, mode
                tar.addfile(info)
            info = tar.gettarinfo(binary, f"bin/{binary.name}")
            info.mode, info.uid, info.gid = 0o755, 0, 0
            with binary.open("rb") as stream:
                tar.addfile(info, stream)
            for link in links:
                info = tarfile.TarInfo(f"bin/{link}")
                info.type, info.linkname = tarfile.SYMTYPE, binary.name
                tar.addfile(info)
        wrap(archive, name, layer, [f"/bin/{binary.name}"])


def ensure_own() -> list[tuple[str, Path]]:
    """Make the images of the cluster's own pods, where missing or old; returns (name, archive) pairs."""
    made = []
    for name in (s.PAUSE_IMAGE, s.COREDNS_IMAGE, s.METRICS_IMAGE, s.PROVISIONER_IMAGE, s.BUSYBOX_IMAGE):
        binary = s.BIN / name.removeprefix("localhost/").partition(":")[0]
        archive = s.CACHE / f"{binary.name}.image.tar"
        if not archive.exists() or archive.stat().st_mtime < binary.stat().st_mtime:
            applets = busybox_applets(binary) if binary.name == "busybox" else ()
            wrap_binary(archive, name, binary, applets)
        made.append((name, archive))
    return made


def busybox_applets(busybox: Path) -> tuple[str, ...]:
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return tuple(applet for applet in listed if applet != "busybox")


def ensure_base(base: s.Base) -> Path:
    """A stand-in for a base image, made from Debian's own packages: about 45 s."""
    archive = s.CACHE / f"{base.image.removeprefix('localhost/').replace(':', '-')}.image.tar"
    if archive.exists():
        return archive
    with tempfile.TemporaryDirectory(dir=s.CACHE) as scratch:
        root_fs = Path(scratch, "root.tar")
        leave_out = [f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "man", "locale")]
        # The images that these stand in for let pip install outside a virtual environment.
        hook = '--customize-hook=rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED'
        include = f"--include={','.join(base.packages)}"
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            include,
            hook,
            *leave_out,
            base.suite,
            str(root_fs),
        ]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        wrap(archive, base.image, root_fs, [])
    return archive
