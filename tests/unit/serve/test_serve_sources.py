"""Bundles from outside: archives that lie, servers that fail, and versions kept on this machine."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from framegrid_serve import archive
from framegrid_serve.archive import pack, unpack
from framegrid_serve.bundle import Bundle, load_bundle
from framegrid_serve.bundle_cache import BundleCache
from framegrid_serve.errors import ModelError
from framegrid_serve.library import Library
from framegrid_serve.registry import ModelRegistry
from framegrid_serve.sources import fetch, shown
from framegrid_serve.spec import BundleRef, ModelSpec, ServingConfig
from framegrid_serve.workshop import known_models, resolve

MakeBundle = Callable[..., Bundle]
OUTPUT = np.zeros((1, 6, 3), np.float32)


def tar_of(path: Path, entries: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as made:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return path


def zip_of(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries.items():
            made.writestr(name, content)
    return path


def problem(call: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        call()
    return str(caught.value)


def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return folder


def test_a_packed_bundle_comes_back_and_packs_to_the_same_bytes(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle(OUTPUT)
    (bundle.path / "README.md").write_text("about it")
    (bundle.path / "secret.txt").write_text("not of the bundle")
    first = pack(bundle, tmp_path / "a.tar")
    root = unpack(first, empty(tmp_path))
    again = load_bundle(root)
    assert (again.digest, again.manifest) == (bundle.digest, bundle.manifest)
    assert sorted(path.name for path in root.iterdir()) == ["README.md", "model.yaml", "tiny.onnx"]
    assert pack(again, tmp_path / "b.tar").read_bytes() == first.read_bytes()


def test_one_folder_around_the_bundle_is_looked_through(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle(OUTPUT)
    contents = {f"gate-4/{name}": (bundle.path / name).read_bytes() for name in ("model.yaml", "tiny.onnx")}
    assert fetch(str(zip_of(tmp_path / "x.zip", contents)), tmp_path / "w").digest == bundle.digest


@pytest.mark.parametrize("make", [tar_of, zip_of], ids=["tar", "zip"])
@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:evil"], ids=lambda name: name
)
def test_names_that_lead_outside_are_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    suffix = ".tar" if make is tar_of else ".zip"
    path = make(tmp_path / f"bad{suffix}", {"model.yaml": b"", name: b"x"})
    folder = empty(tmp_path)
    text = problem(lambda: unpack(path, folder))
    assert "expected names inside the bundle, got" in text or "expected model.yaml" in text
    assert not (tmp_path / "evil").exists()
    assert all(folder in found.parents for found in tmp_path.rglob("evil*"))


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for index, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)):
        path = tmp_path / f"{index}.tar"
        with tarfile.open(path, "w") as made:
            entry = tarfile.TarInfo("model.yaml")
            entry.type, entry.linkname = kind, "/etc/passwd"
            made.addfile(entry)
        folder = tmp_path / str(index)
        folder.mkdir()
        assert "expected regular files" in problem(partial(unpack, path, folder))
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as made_zip:
        link = zipfile.ZipInfo("model.yaml")
        link.external_attr = 0o120777 << 16
        made_zip.writestr(link, "/etc/passwd")
    folder = tmp_path / "zip"
    folder.mkdir()
    assert "got a link at 'model.yaml'" in problem(lambda: unpack(path, folder))


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_bomb_is_stopped_by_what_it_really_writes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb{suffix}"
    if suffix == ".zip":
        zip_of(path, {"model.yaml": bytes(5_000_000)})
    else:
        with tarfile.open(path, "w:gz") as made:
            entry = tarfile.TarInfo("model.yaml")
            entry.size = 5_000_000
            made.addfile(entry, io.BytesIO(bytes(5_000_000)))
    assert path.stat().st_size < 100_000
    folder = empty(tmp_path)
    assert "expected at most 2000000 bytes unpacked" in problem(
        lambda: unpack(path, folder, max_bytes=2_000_000)
    )
    assert sum(file.stat().st_size for file in folder.rglob("*")) <= 2_000_000


def test_too_many_files_doubles_and_junk_are_refused(tmp_path: Path) -> None:
    folder = empty(tmp_path)
    many = tar_of(tmp_path / "many.tar", {f"f{number}": b"" for number in range(archive.MAX_FILES + 1)})
    assert "expected at most 64 files" in problem(lambda: unpack(many, folder))
    double = tmp_path / "double.tar"
    with tarfile.open(double, "w") as made:
        for _ in range(2):
            made.addfile(tarfile.TarInfo("model.yaml"))
    assert "not readable as an archive" in problem(lambda: unpack(double, tmp_path / "d"))
    for name in ("junk.tar", "junk.zip", "cut.tar.gz"):
        (tmp_path / name).write_bytes(b"\x1f\x8b\x08\0junk")
        target = tmp_path / f"to-{name}"
        target.mkdir()
        assert "not readable as an archive" in problem(partial(unpack, tmp_path / name, target))
    nothing = tar_of(tmp_path / "nothing.tar", {"README.md": b"hello"})
    target = tmp_path / "nothing"
    target.mkdir()
    assert "expected model.yaml in the archive" in problem(lambda: unpack(nothing, target))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        if self.path == "/to-ftp":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/x.tar")
            self.end_headers()
        elif self.path == "/cut.tar":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
        else:
            super().do_GET()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "site"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_bundles_come_over_http_as_archive_and_as_folder(
    make_bundle: MakeBundle, tmp_path: Path, site: tuple[Path, str]
) -> None:
    folder, url = site
    bundle = make_bundle(OUTPUT)
    packed = pack(bundle, folder / "gate-4.tar")
    pin = hashlib.sha256(packed.read_bytes()).hexdigest()
    assert fetch(f"{url}/gate-4.tar", tmp_path / "a").digest == bundle.digest
    assert fetch(f"{url}/gate-4.tar#sha256={pin}", tmp_path / "b").digest == bundle.digest
    unpack(packed, folder)
    assert fetch(f"{url}/", tmp_path / "c").digest == bundle.digest
    wrong = problem(lambda: fetch(f"{url}/gate-4.tar#sha256={'0' * 64}", tmp_path / "d"))
    assert wrong.endswith("not the file that was pinned")
    assert "expected #sha256= and 64" in problem(lambda: fetch(f"{url}/gate-4.tar#md5=1", tmp_path / "e"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/gone.tar", "cannot be fetched (status 404)"),
        ("/cut.tar", "broke off before its end"),
        ("/to-ftp", "cannot be fetched"),
        ("/gone/", "cannot be fetched (status 404)"),
    ],
)
def test_failing_servers_are_told(tmp_path: Path, site: tuple[Path, str], path: str, expected: str) -> None:
    assert expected in problem(lambda: fetch(f"{site[1]}{path}", tmp_path / "w"))


def test_a_remote_manifest_cannot_name_files_outside(
    make_bundle: MakeBundle, tmp_path: Path, site: tuple[Path, str]
) -> None:
    folder, url = site
    values = yaml.safe_load((make_bundle(OUTPUT).path / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump({**values, "weights": "../../evil.onnx"}))
    assert "expected a file inside the bundle" in problem(lambda: fetch(f"{url}/", tmp_path / "w"))


def test_secrets_of_an_address_are_never_told(tmp_path: Path) -> None:
    assert shown("https://me:secret@host/a.tar?signature=s#sha256=1") == "https://host/a.tar"
    text = problem(lambda: fetch("http://me:secret@127.0.0.1:1/a.tar?token=hidden", tmp_path / "w"))
    assert "secret" not in text
    assert "hidden" not in text


def test_an_object_store_is_read_by_fsspec(make_bundle: MakeBundle, tmp_path: Path) -> None:
    import fsspec

    bundle = make_bundle(OUTPUT)
    store = fsspec.filesystem("memory")
    store.pipe("/models/gate-4.tar", pack(bundle, tmp_path / "x.tar").read_bytes())
    for name in ("model.yaml", "tiny.onnx"):
        store.pipe(f"/models/gate/{name}", (bundle.path / name).read_bytes())
    assert fetch("memory://models/gate-4.tar", tmp_path / "a").digest == bundle.digest
    assert fetch("memory://models/gate", tmp_path / "b").digest == bundle.digest
    assert "FileNotFoundError" in problem(lambda: fetch("memory://models/gone.tar", tmp_path / "c"))
    assert "needs a package that is not installed" in problem(lambda: fetch("odd://x/y.tar", tmp_path / "d"))


def test_the_first_version_is_active_and_others_wait(make_bundle: MakeBundle, tmp_path: Path) -> None:
    library = Library(tmp_path / "models")
    one = library.add(str(make_bundle(OUTPUT).path), name="gate", version="1")
    two = library.add(str(make_bundle(OUTPUT, name="b").path), name="gate", version="2")
    assert [path.name for path in library.versions("gate")] == ["gate@1", "gate@2"]
    assert library.active("gate") == one.path.resolve()
    assert resolve("gate", library.models_dir) == library.models_dir / "gate"
    assert resolve("gate@2", library.models_dir) == two.path
    assert known_models(library.models_dir) == ["gate", "street-sim"]
    assert library.next_version("gate") == "3"
    library.activate(two, by="ada", reason="better at night")
    assert library.active("gate") == two.path.resolve()
    assert load_bundle(resolve("gate", library.models_dir)).version == "2"
    assert library.before("gate").version == "1"
    (told,) = library.history("gate")
    assert (told.version, told.previous, told.by, told.reason) == ("2", "1", "ada", "better at night")


def test_a_version_never_changes(make_bundle: MakeBundle, tmp_path: Path) -> None:
    library = Library(tmp_path / "models")
    first = library.add(str(make_bundle(OUTPUT).path))
    assert library.add(str(make_bundle(OUTPUT).path)).path == first.path
    other = make_bundle(OUTPUT + 1, name="other")
    text = problem(lambda: library.add(str(other.path), name="tiny"))
    assert "version 1 is here already with other contents" in text
    assert "--version 2" in text
    assert [path.name for path in library.models_dir.iterdir() if path.name.startswith(".")] == []


def test_a_bundle_put_there_by_hand_becomes_a_version_like_others(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    by_hand = make_bundle(OUTPUT, version="by hand")
    library = Library(tmp_path)
    assert library.active("tiny") == by_hand.path
    assert library.find("tiny@by hand") is not None
    new = library.add(str(make_bundle(OUTPUT + 1, name="b").path), name="tiny", version="2")
    library.activate(new, by="ada")
    assert (tmp_path / "tiny").is_symlink()
    assert library.before("tiny").version == "by hand"
    library.activate(library.before("tiny"), by="ada", action="rollback")
    assert library.active("tiny") == (tmp_path / "tiny@by-hand").resolve()


def test_nothing_to_roll_back_to_is_said(make_bundle: MakeBundle, tmp_path: Path) -> None:
    library = Library(tmp_path / "models")
    assert "expected an active model" in problem(lambda: library.before("gate"))
    library.add(str(make_bundle(OUTPUT).path))
    assert "version 1 replaced none" in problem(lambda: library.before("tiny"))


def test_a_replica_fetches_what_it_has_not_by_its_digest(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle(OUTPUT)
    packed = pack(bundle, tmp_path / "gate-4.tar")
    cache = BundleCache(tmp_path / "cache")
    ref = BundleRef(source=str(packed), digest=bundle.digest)
    folder = cache.locate(ref)
    assert load_bundle(folder).digest == bundle.digest
    packed.unlink()
    assert cache.locate(ref) == folder  # not fetched again
    assert cache.locate(BundleRef(path=bundle.path)) == bundle.path
    pack(bundle, packed)
    wrong = BundleRef(source=str(packed), digest="0" * 64)
    assert f"expected digest {'0' * 64}, got {bundle.digest}" in problem(lambda: cache.locate(wrong))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [bundle.digest]


def test_a_registry_serves_a_source_and_keeps_it_when_nothing_changed(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle(OUTPUT)
    packed = pack(bundle, tmp_path / "gate-4.tar")
    opened: list[Bundle] = []

    def open_detector(found: Bundle) -> Any:
        opened.append(found)
        return SimpleNamespace(bundle=found)

    registry = ModelRegistry(open_detector, locate=BundleCache(tmp_path / "cache").locate)
    config = ServingConfig(models=(ModelSpec(name="gate", source=str(packed), digest=bundle.digest),))
    assert registry.apply(config) == []
    packed.unlink()
    assert registry.apply(config) == []
    assert len(opened) == 1
    for fields in ({}, {"path": tmp_path, "source": "x"}, {"source": "x"}):
        with pytest.raises(ValueError, match="expected"):
            ModelSpec(name="gate", **fields)  # type: ignore[arg-type]
