"""`framegrid model …`: what models are there, where new ones come from, where they go.

What decides which of them serves is in `cli_release.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from framegrid_local import cli_release
from framegrid_local.cli_release import JsonOption, NameArgument, StateDirOption, bundle_of
from framegrid_local.errors import UsageError
from framegrid_local.state import DEFAULT_STATE_DIR, StateDir

app = typer.Typer(
    help="Models: fetch, import, quantise, measure, publish, activate, roll back.", no_args_is_help=True
)

VersionOption = Annotated[str, typer.Option("--version", help="Its version; else the next number.")]
LicenceOption = Annotated[str, typer.Option("--licence", help="Licence of the weights; else as stated.")]
GoldenOption = Annotated[
    Path | None,
    typer.Option("--golden", help="A picture in which it finds something: checked before it ever serves."),
]


@app.command("list")
def list_models(json_output: JsonOption = False, state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """The models on this machine with all versions: `*` serves, the packaged one has no star."""
    rows = _rows(StateDir(state_dir).models)
    if json_output:
        typer.echo(json.dumps(rows, indent=2))
    for row in rows if not json_output else ():
        if "error" in row:
            typer.echo(f"{row['name']:<16} broken: {row['error']}")
            continue
        size = (
            f"{row['input_size']:>5} px  {len(row['classes']):>4} classes  {row['size_bytes'] / 1e6:6.1f} MB"
        )
        forms = "+".join(filter(None, (row["precision"] or "-", "int8" if row["int8"] else "")))
        typer.echo(
            f"{row['name']:<16} {row['version']:<20} {'*' if row['active'] else ' '} {size}  {forms:<9} "
            f"{row['licence']}"
        )


@app.command()
def info(
    model: NameArgument, json_output: JsonOption = False, state_dir: StateDirOption = DEFAULT_STATE_DIR
) -> None:
    """Everything a model says about itself; its weights are verified."""
    facts = _facts(bundle_of(model, state_dir))
    if json_output:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        typer.echo(f"{name:<12} {text}")


@app.command()
def verify(model: NameArgument, state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """Check digests, and try it in a process of its own: engine, golden frame."""
    from framegrid_serve.engines.base import EngineSettings
    from framegrid_serve.trial import try_bundle

    bundle = bundle_of(model, state_dir)
    report = try_bundle(bundle, EngineSettings())
    golden = "finds its golden boxes" if bundle.manifest.golden else "has no golden frame to check"
    typer.echo(
        f"{bundle.name} {bundle.version}: sha256 {bundle.digest} is right, it runs on {report.engine} in "
        f"{report.precision}, and {golden}"
    )


@app.command()
def pull(
    source: Annotated[
        str,
        typer.Argument(help="yolo11n, https://…/gate-4.tar, s3://…, models:/gate@champion, a folder, a tar."),
    ],
    name: Annotated[str, typer.Option("--name", help="Its name here; else its own.")] = "",
    version: Annotated[str, typer.Option("--version", help="Its version here; else its own.")] = "",
    golden: GoldenOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Fetch a model from anywhere, verified. Official names need `make setup-workshop` and internet."""
    from framegrid_serve.importing import Wanted, pull_model

    bundle = pull_model(_library(state_dir), source, Wanted(name, version, golden=golden))
    _tell(bundle, state_dir)


@app.command("import")
def import_model(
    *,
    source: Annotated[Path, typer.Argument(help="A .pt file, an OpenVINO folder, or an .onnx file.")],
    name: Annotated[str, typer.Option("--name", help="Its name here; else that of the file.")] = "",
    input_size: Annotated[
        int, typer.Option("--input-size", help="Longer side in pixels; for .pt files, which are exported.")
    ] = 640,
    version: VersionOption = "",
    licence: LicenceOption = "",
    golden: GoldenOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Make a model of your own usable by name. A .pt file is a pickle: import only what you trust."""
    from framegrid_serve.importing import Wanted, import_model

    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    wanted = Wanted(name, version, licence, golden)
    _tell(import_model(_library(state_dir), source, wanted, input_size=input_size), state_dir)


@app.command()
def publish(
    model: NameArgument,
    target: Annotated[str, typer.Argument(help="A folder, s3://bucket/folder, or `mlflow`.")],
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Put a model where others pull it from; prints the address, with its digest."""
    from framegrid_serve.publishing import publish as publish_bundle

    typer.echo(publish_bundle(bundle_of(model, state_dir), target))


def _library(state_dir: Path) -> Any:
    from framegrid_serve.library import Library

    return Library(StateDir(state_dir).models)


def _tell(bundle: Any, state_dir: Path) -> None:
    library = _library(state_dir)
    is_active = library.active(bundle.name) == bundle.path.resolve()
    name = f"{bundle.name}@{bundle.version}"
    use = f"use it by `model: {bundle.name}`" if is_active else f"`framegrid model activate {name}` takes it"
    typer.echo(f"{bundle.name} {bundle.version}: in {bundle.path}, licence {bundle.manifest.licence}; {use}")
    if bundle.manifest.golden is None:
        typer.echo(
            "It has no golden frame: give a picture of what it finds with --golden, and what it finds is "
            "checked before it ever serves"
        )


def _rows(models_dir: Path) -> list[dict[str, Any]]:
    from framegrid_serve.bundle import load_bundle
    from framegrid_serve.errors import ModelError
    from framegrid_serve.library import Library
    from framegrid_serve.workshop import PACKAGED_MODELS

    rows: list[dict[str, Any]] = []
    for library in (Library(models_dir), Library(PACKAGED_MODELS)):
        for name in library.names():
            active = library.active(name)
            for folder in library.versions(name):
                try:
                    is_active = library.models_dir == models_dir and active == folder.resolve()
                    rows.append({**_facts(load_bundle(folder)), "active": is_active})
                except ModelError as error:
                    rows.append({"name": name, "error": str(error)})
    return rows


def _facts(bundle: Any) -> dict[str, Any]:
    from framegrid_serve.archive import files_of

    facts: dict[str, Any] = bundle.manifest.model_dump(mode="json", exclude={"golden"})
    weights = [file for file in files_of(bundle) if file.suffix in (".onnx", ".xml", ".bin", ".pt")]
    size_bytes = sum(path.stat().st_size for path in weights)
    golden = bundle.manifest.golden
    return {
        **facts,
        "golden": 0 if golden is None else len(golden.boxes),
        "digest": bundle.digest,
        "size_bytes": size_bytes,
        "folder": str(bundle.path),
    }


cli_release.add_commands(app)
