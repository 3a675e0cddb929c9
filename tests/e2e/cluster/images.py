"""Images without a registry: Dockerfiles built by buildah, archives loaded into containerd."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import archives
import settings as s
from tools import alone

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")  # the file alone: packages write beside it
PIP_CONFIG = Path("/etc/pip.conf")
LOADED = s.CONTAINERD / "loaded.json"


def full_name(tag: str) -> str:
    """The name Kubernetes gives `tag`: `a/b:1` -> `docker.io/a/b:1`, `localhost/b:1` stays."""
    first, slash, _ = tag.partition("/")
    if not slash:
        tag = f"docker.io/library/{tag}"
    elif first != "localhost" and not re.search(r"[.:]", first):
        tag = f"docker.io/{tag}"
    return tag if re.search(r"[:@][^/]*$", tag) else f"{tag}:latest"


# -- Building


def build(tag: str, context: Path, dockerfile: Path | None, build_args: list[str]) -> None:
    """Build a Dockerfile as `tag`. Bases are this machine's; pip and apt reach its registries."""
    dockerfile = dockerfile or context / "Dockerfile"
    text = dockerfile.read_text()
    for base in s.BASES:
        argument = re.search(rf"^ARG\s+{base.argument}\b", text, re.MULTILINE)
        if not argument and not any(alias.rpartition("/")[2] in text for alias in base.aliases):
            continue
        ensure_base(base)
        if argument and not any(a.startswith(f"{base.argument}=") for a in build_args):
            build_args = [f"{base.argument}={base.image}", *build_args]
    options = [f"--volume={CA_BUNDLE}:{CA_BUNDLE}:ro"]
    if PIP_CONFIG.exists():  # names the machine's CA bundle, for pips that bring their own certificates
        options.append(f"--volume={PIP_CONFIG}:{PIP_CONFIG}:ro")
    options += [f"--build-arg={a}" for a in build_args]
    name = full_name(tag)
    # runc would ask for a negative oom_score_adj and its own cgroup, hence chroot.
    how = ("--isolation=chroot", "--pull=never", "--layers")
    with alone(f"build-{name.replace('/', '-')}"):
        buildah("build", *how, *options, "-t", name, "-f", str(dockerfile), str(context))


def ensure_base(base: s.Base) -> None:
    """Bring a base image into buildah's store, under its own name and those that it stands in for."""
    with alone(base.argument):
        if image_id(base.image):
            return
        buildah("pull", "--quiet", f"docker-archive:{archives.ensure_base(base)}")
        for alias in base.aliases:
            buildah("tag", base.image, alias)


def image_id(name: str) -> str:
    """ID of an image in buildah's store; empty where it is not there."""
    done = run_buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", name)
    return done.stdout.strip() if done.returncode == 0 else ""


def size_bytes(name: str) -> int:
    """Size of an image in buildah's store, unpacked."""
    (image,) = json.loads(run_buildah("images", "--json", full_name(name)).stdout)
    number, unit = str(image["size"]).split()
    return round(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit])


def buildah(*args: str) -> None:
    """Run buildah, with its output for the user to see."""
    if run_buildah(*args, capture=False).returncode:
        raise SystemExit(f"buildah {args[0]} failed; see above")


def run_buildah(*args: str, capture: bool = True) -> subprocess.CompletedProcess[str]:
    """Run buildah on a store of our own, in its own mount namespace: a failed build leaves no mount."""
    (s.BUILDAH / "tmp").mkdir(parents=True, exist_ok=True)
    folders = ["--root", str(s.BUILDAH / "root"), "--runroot", str(s.BUILDAH / "run")]
    store = [*folders, "--storage-driver", "overlay"]
    command = ["unshare", "--mount", "--propagation", "private", "buildah", *store, *args]
    environment = os.environ | {"TMPDIR": str(s.BUILDAH / "tmp")}
    return subprocess.run(command, check=False, capture_output=capture, text=True, env=environment)


# -- Loading


def load(sources: list[str]) -> None:
    """Load archives (paths) or tags built here into the running cluster; what is there already is skipped."""
    there = loaded()
    for source in sources:
        if Path(source).is_file():
            load_archive(Path(source))
            continue
        name = full_name(source)
        identity = image_id(name)
        if not identity:
            raise SystemExit(f"expected a file or a tag built here, got {source}")
        if known().get(name) == identity and name in there:
            continue
        with tempfile.TemporaryDirectory(dir=s.CACHE) as scratch:
            archive = Path(scratch, "image.tar")
            buildah("push", "--quiet", name, f"docker-archive:{archive}:{name}")
            import_archive(archive)
        with alone("loaded"):
            LOADED.write_text(json.dumps({**known(), name: identity}, indent=1))


def known() -> dict[str, str]:
    """Image name -> ID in buildah's store, of what `load` has imported."""
    return dict(json.loads(LOADED.read_text())) if LOADED.exists() else {}


def load_archive(path: Path) -> None:
    """Load a docker or OCI archive, also a gzipped one."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    if not zipped:
        return import_archive(path)
    with tempfile.TemporaryDirectory(dir=s.CACHE) as scratch:
        plain = Path(scratch, "image.tar")
        with gzip.open(path) as packed, plain.open("wb") as out:
            shutil.copyfileobj(packed, out)
        import_archive(plain)


def import_archive(archive: Path) -> None:
    """Import an archive into containerd's Kubernetes namespace."""
    ctr("images", "import", str(archive))


def loaded() -> set[str]:
    """Names of the images that containerd has."""
    return set(ctr("images", "list", "--quiet").split())


def ctr(*args: str) -> str:
    """Run containerd's own client; returns its output."""
    command = ["ctr", "--address", str(s.CONTAINERD_SOCKET), "--namespace", "k8s.io", *args]
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"ctr {' '.join(args[:2])} failed: {done.stderr.strip()}")
    return done.stdout
