"""`framegrid model …`: what models are there, and where new ones come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from framegrid_local.errors import UsageError
from framegrid_local.state import DEFAULT_STATE_DIR, StateDir

app = typer.Typer(help="Models: list, look at, fetch, import, verify.", no_args_is_help=True)

StateDirOption = Annotated[Path, typer.Option("--state-dir", help="Models lie in its folder `models`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
NameArgument = Annotated[str, typer.Argument(help="Name of a model, or the folder of one.")]


@app.command("list")
def list_models(json_output: JsonOption = False, state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """The models on this machine: those fetched or imported, and the packaged one."""
    from framegrid_serve.bundle import load_bundle
    from framegrid_serve.errors import ModelError
    from framegrid_serve.workshop import known_models, resolve

    models_dir = StateDir(state_dir).models
    rows: list[dict[str, Any]] = []
    for name in known_models(models_dir):
        try:
            rows.append(_facts(load_bundle(resolve(name, models_dir, fetch=False))))
        except ModelError as error:
            rows.append({"name": name, "error": str(error)})
    if json_output:
        typer.echo(json.dumps(rows, indent=2))
    for row in rows if not json_output else ():
        if "error" in row:
            typer.echo(f"{row['name']:<16} broken: {row['error']}")
            continue
        size = (
            f"{row['input_size']:>5} px  {len(row['classes']):>4} classes  {row['size_bytes'] / 1e6:6.1f} MB"
        )
        typer.echo(
            f"{row['name']:<16} {row['version']:<10} {size}  {row['precision'] or '-':<5} {row['licence']}"
        )


@app.command()
def info(
    model: NameArgument, json_output: JsonOption = False, state_dir: StateDirOption = DEFAULT_STATE_DIR
) -> None:
    """Everything a model says about itself; its weights are verified."""
    facts = _facts(_bundle(model, state_dir))
    if json_output:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        typer.echo(f"{name:<12} {text}")


@app.command()
def verify(model: NameArgument, state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """Check the weights against their digest, and load them in an engine."""
    from framegrid_serve.detector import Detector

    bundle = _bundle(model, state_dir)
    Detector(bundle).close()
    typer.echo(f"{bundle.name} {bundle.version}: sha256 {bundle.digest} is right, and it loads")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="Official name, such as yolo11n, yolov8s, yolo26m.")],
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Fetch official weights by Ultralytics and import them. Needs `make setup-workshop` and internet."""
    from framegrid_serve.workshop import pull as pull_model

    bundle = pull_model(name, StateDir(state_dir).models)
    typer.echo(f"{bundle.name}: in {bundle.path}, licence {bundle.manifest.licence}")


@app.command("import")
def import_model(
    source: Annotated[Path, typer.Argument(help="A .pt file, an OpenVINO folder, or an .onnx file.")],
    name: Annotated[str, typer.Option("--name", help="Its name here; else that of the file.")] = "",
    input_size: Annotated[
        int, typer.Option("--input-size", help="Longer side in pixels; for .pt files, which are exported.")
    ] = 640,
    version: Annotated[str, typer.Option("--version", help="Its version.")] = "1",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Make a model of your own usable by name. A .pt file is a pickle: import only what you trust."""
    from framegrid_serve.workshop import import_export, import_pt

    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    chosen = name or source.stem.removesuffix("_openvino_model").lower().replace("_", "-")
    target = StateDir(state_dir).models / chosen
    if source.suffix == ".pt":
        bundle = import_pt(source, target, chosen, input_size, version=version)
    else:
        bundle = import_export(source, target, chosen, version=version)
    typer.echo(f"{bundle.name} {bundle.version}: in {bundle.path}; use it by `model: {chosen}`")


def _bundle(model: str, state_dir: Path) -> Any:
    from framegrid_serve.bundle import load_bundle
    from framegrid_serve.workshop import resolve

    return load_bundle(resolve(model, StateDir(state_dir).models, fetch=False))


def _facts(bundle: Any) -> dict[str, Any]:
    from framegrid_serve.bundle import weights_files

    facts: dict[str, Any] = bundle.manifest.model_dump(mode="json")
    size_bytes = sum(path.stat().st_size for path in weights_files(bundle.weights_path))
    return {**facts, "digest": bundle.digest, "size_bytes": size_bytes, "folder": str(bundle.path)}
