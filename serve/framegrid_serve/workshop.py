"""The model workshop: where weights become bundles. Serving never imports this with Ultralytics.

`resolve` finds a bundle by path or name; `import_export` takes a ready OpenVINO or ONNX export; `import_pt`
and `pull` open `.pt` files, which are pickles: they run what is in them, so open only what you trust. Those
two need the extra `workshop` (Ultralytics, AGPL-3.0).
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from framegrid_serve.bundle import (
    MANIFEST,
    Bundle,
    Layout,
    Manifest,
    file_sha256,
    load_bundle,
    weights_files,
    write_manifest,
)
from framegrid_serve.errors import ModelError
from framegrid_serve.library import Library

PACKAGED_MODELS = Path(__file__).parent / "models"
# Names that Ultralytics publishes weights for; detection only.
_OFFICIAL = re.compile(r"^(yolov8|yolov10|yolo11|yolo12|yolo26)[nsmblx]$")
_BUNDLE_NAME = re.compile(r"[^a-z0-9._-]+")


def resolve(name_or_path: str | Path, models_dir: Path | None = None, *, fetch: bool = True) -> Path:
    """Folder of a bundle: a path, a name in `models_dir`, a packaged name, or an official Ultralytics name.

    An official name is pulled into `models_dir` unless `fetch` is False. Raises ModelError.
    """
    as_path = Path(name_or_path).expanduser()
    if (as_path / MANIFEST).is_file():
        return as_path.resolve()
    name = str(name_or_path)
    for folder in (models_dir, PACKAGED_MODELS):
        found = Library(folder).find(name) if folder is not None else None
        if found is not None:
            # Not resolved: `gate` goes on to mean what is active, for whoever reads it again.
            return found.absolute()
    if fetch and models_dir is not None and _OFFICIAL.match(name):
        return pull(name, models_dir).path
    if "/" in name or as_path.is_dir():
        load_bundle(as_path)  # raises, saying what is wrong with the folder
    raise ModelError(
        f"model {name!r}: not found; known here: {', '.join(known_models(models_dir)) or 'none'}"
    )


def known_models(models_dir: Path | None = None) -> list[str]:
    """Names of the bundles in `models_dir` and in the package."""
    folders = [folder for folder in (models_dir, PACKAGED_MODELS) if folder is not None]
    return sorted({name for folder in folders for name in Library(folder).names()})


def import_export(source: Path, out_dir: Path, name: str, *, version: str = "1", origin: str = "") -> Bundle:
    """A bundle from an export that carries Ultralytics' metadata: an OpenVINO folder, or an `.onnx` beside
    `metadata.yaml`. Written to `out_dir`, replacing what was there only once it is complete and verified.
    """
    folder = source if source.is_dir() else source.parent
    weights = _weights_in(source)
    metadata = _read_metadata(folder / "metadata.yaml", weights)
    files = weights_files(weights)
    with tempfile.TemporaryDirectory(dir=_parent(out_dir), prefix=".import-") as temporary:
        made = Path(temporary) / "bundle"
        made.mkdir()
        for file in files:
            if not file.is_file():
                raise ModelError(
                    f"{file}: no such file; an OpenVINO model is an .xml with its .bin beside it"
                )
            shutil.copyfile(file, made / file.name)
        digests = {file.name: file_sha256(made / file.name) for file in files}
        manifest = _manifest_from(
            metadata, digests, name=name, version=version, weights=weights.name, origin=origin or source.name
        )
        size_bytes = sum((made / file.name).stat().st_size for file in files)
        write_manifest(made, manifest.model_copy(update={"size_bytes": size_bytes}))
        return _install(made, out_dir)


def import_pt(
    pt_path: Path, out_dir: Path, name: str, input_size: int = 640, *, version: str = "1", origin: str = ""
) -> Bundle:
    """A bundle from Ultralytics weights: exported to OpenVINO with free height and width, FP16 weights.

    Halving the weights costs no accuracy (they are widened when loaded) and half the file. Raises ModelError.
    """
    yolo = _ultralytics()
    if not pt_path.is_file():
        raise ModelError(f"{pt_path}: no such file; expected Ultralytics weights (.pt)")
    with tempfile.TemporaryDirectory(dir=_parent(out_dir), prefix=".export-") as temporary:
        # The export writes beside its input, and the input must not be touched.
        copy = Path(temporary) / f"{name}.pt"
        shutil.copyfile(pt_path, copy)
        network = yolo(str(copy))
        if network.task != "detect":
            raise ModelError(f"{pt_path}: expected a detection model, got task {network.task!r}")
        exported = Path(
            network.export(format="openvino", dynamic=True, imgsz=input_size, verbose=False, **_fp16())
        )
        return import_export(exported, out_dir, name, version=version, origin=origin or pt_path.name)


def pull(name: str, models_dir: Path) -> Bundle:
    """The official weights of that name, fetched by Ultralytics and imported into `models_dir/name`."""
    if not _OFFICIAL.match(name):
        raise ModelError(f"expected an official name such as yolo11n, yolov8s or yolo26m, got {name!r}")
    yolo = _ultralytics()
    models_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models_dir, prefix=".pull-") as temporary:
        weights = Path(temporary) / f"{name}.pt"
        try:
            yolo(str(weights))
        except Exception as error:  # Ultralytics raises many types when a download fails
            raise ModelError(
                f"{name}: Ultralytics could not fetch the weights ({type(error).__name__}); "
                f"check the network, or import a copy (`framegrid model import {name}.pt`)"
            ) from error
        origin = f"Ultralytics {name}.pt, sha256 {file_sha256(weights)}"
        return import_pt(weights, models_dir / name, name, version="official", origin=origin)


def is_official(name: str) -> bool:
    """Whether Ultralytics publishes weights of that name."""
    return _OFFICIAL.match(name) is not None


def _ultralytics() -> Any:
    try:
        from ultralytics import YOLO
    except ImportError as error:
        raise ModelError(
            "opening .pt weights needs Ultralytics (AGPL-3.0), which is not installed; "
            "install the extra `workshop`"
        ) from error
    return YOLO


def _fp16() -> dict[str, Any]:
    """How this Ultralytics is asked for FP16 weights: `half` became `quantize` in 8.4."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    return {"quantize": 16} if "quantize" in DEFAULT_CFG_DICT else {"half": True}


def _parent(out_dir: Path) -> Path:
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    return out_dir.parent


def _weights_in(source: Path) -> Path:
    if source.is_file():
        return source
    found = sorted([*source.glob("*.xml"), *source.glob("*.onnx")])
    if len(found) != 1:
        raise ModelError(f"{source}: expected a folder with one .xml or .onnx, got {len(found)}")
    return found[0]


def _embedded(weights: Path) -> dict[str, Any] | None:
    """What Ultralytics writes into an ONNX file itself: Python literals, read as such and never run."""
    if weights.suffix != ".onnx":
        return None
    try:
        import onnxruntime

        found = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"]).get_modelmeta()
        kept = found.custom_metadata_map
        told = {key: kept[key] for key in ("names", "imgsz", "args", "dynamic", "end2end") if key in kept}
        metadata = {key: ast.literal_eval(text) for key, text in told.items()}
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors share no base; the caller says what is missing
        return None
    return {**metadata, **{key: kept[key] for key in ("task", "license") if key in kept}}


def _read_metadata(path: Path, weights: Path) -> dict[str, Any]:
    if not path.is_file() and (embedded := _embedded(weights)):
        return embedded
    try:
        metadata = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); Ultralytics writes it beside its exports; "
            f"without it write {MANIFEST} by hand"
        ) from error
    except yaml.YAMLError as error:
        raise ModelError(f"{path}: not readable as YAML") from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("names"), dict):
        raise ModelError(
            f"{path}: expected `names`, a mapping of class number to name; write {MANIFEST} by hand"
        )
    if metadata.get("task", "detect") != "detect":
        raise ModelError(f"{path}: expected task detect, got {metadata['task']!r}")
    return metadata


def _manifest_from(
    metadata: dict[str, Any], digests: dict[str, str], *, name: str, version: str, weights: str, origin: str
) -> Manifest:
    names = metadata["names"]
    size = metadata.get("imgsz", [640, 640])
    sizes = size if isinstance(size, list) else [size, size]
    arguments = metadata.get("args") or {}
    dynamic = bool(arguments.get("dynamic", metadata.get("dynamic", False)))
    if not dynamic and len(set(sizes)) != 1:
        raise ModelError(
            f"expected a square input or a dynamic export, got {sizes}; export with dynamic=True"
        )
    precision = "int8" if arguments.get("int8") or arguments.get("quantize") == 8 else "fp16"
    if precision == "fp16" and not (arguments.get("half") or arguments.get("quantize") == 16):
        precision = "fp32"
    values = {
        "name": _BUNDLE_NAME.sub("-", name.lower()),
        "version": version,
        "licence": str(metadata.get("license", "unknown")).split(" License")[0],
        "layout": Layout.YOLO26 if metadata.get("end2end") else Layout.YOLOV8,
        "classes": tuple(str(names[number]) for number in sorted(names)),
        "input_size": max(int(side) for side in sizes),
        "dynamic": dynamic,
        "weights": weights,
        "sha256": digests if len(digests) > 1 else next(iter(digests.values())),
        "source": origin,
        "precision": precision,
    }
    return Manifest.model_validate(values)


def _install(made: Path, out_dir: Path) -> Bundle:
    """Move a finished bundle into place; an older one of that name goes only now."""
    old = made.parent / "old"
    if out_dir.exists():
        out_dir.rename(old)
    made.rename(out_dir)
    return load_bundle(out_dir)
