"""`framegrid model quantize | evaluate | compare | gate | shadow | activate | rollback | history`."""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from framegrid_local.state import DEFAULT_STATE_DIR, StateDir

StateDirOption = Annotated[Path, typer.Option("--state-dir", help="Models lie in its folder `models`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
NameArgument = Annotated[str, typer.Argument(help="NAME (the active version), NAME@VERSION, or a folder.")]
CandidateArgument = Annotated[str, typer.Argument(help="NAME@VERSION of the candidate.")]
DataOption = Annotated[
    Path, typer.Option("--data", help="Labelled pictures: a data set's yaml, or a folder in YOLO's form.")
]
PicturesOption = Annotated[
    int, typer.Option("--pictures", min=0, help="Measure on so many of the val pictures; 0: all.")
]
FormOption = Annotated[
    str, typer.Option("--form", help="int8 or full; else what this processor runs faster.")
]
ByOption = Annotated[str, typer.Option("--by", help="Who; else the user and machine.")]
WatchOption = Annotated[
    float, typer.Option("--watch", min=0, help="Seconds to stay and see whether serve rolls back.")
]
RegistryOption = Annotated[
    bool, typer.Option("--mlflow", help="Write it into the MLflow registry too (MLFLOW_TRACKING_URI).")
]


def quantize(
    *,
    model: NameArgument,
    data: DataOption,
    version: Annotated[str, typer.Option("--version", help="Of the result; else the next number.")] = "",
    calibration: Annotated[
        int, typer.Option("--calibration", min=1, help="Pictures of the train split to calibrate on.")
    ] = 300,
    pictures: PicturesOption = 0,
    max_loss: Annotated[
        float, typer.Option("--max-loss", min=0, help="Points of mAP50-95 that it may cost.")
    ] = 1.0,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Make a version that also holds the model in INT8, and measure what that cost."""
    from framegrid_serve.engines.cpu import advice
    from framegrid_serve.quantize import quantize as quantize_bundle

    bundle, library = bundle_of(model, state_dir), library_of(state_dir)
    with library.workspace() as folder:
        result = quantize_bundle(
            bundle,
            data,
            folder / "bundle",
            version=version or library.next_version(bundle.name),
            pictures=calibration,
            measured_pictures=pictures,
            max_loss_points=max_loss,
        )
        kept = library.keep(result.bundle)
    loss = "unknown (no labels)" if result.loss_points is None else f"{result.loss_points:.2f} points"
    full, int8 = result.full, result.int8
    typer.echo(f"{kept.name} {kept.version}: in {kept.path}")
    typer.echo(f"  size   {result.size_ratio:.3f} of FP32 ({int8.size_bytes / 1e6:.2f} MB)")
    typer.echo(f"  mAP    {_map(full)} -> {_map(int8)}, lost {loss} on {int8.pictures} pictures")
    typer.echo(
        f"  time   {full.speed.median_ms:.1f} ms ({full.precision}) -> {int8.speed.median_ms:.1f} ms (int8)"
    )
    found = advice()
    typer.echo(f"  here   {found.feature}: takes the {found.form} form; {found.reason}")


def evaluate(
    *,
    model: NameArgument,
    data: DataOption,
    pictures: PicturesOption = 0,
    form: FormOption = "",
    json_output: JsonOption = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Measure one model: mAP and per class, time of a picture, memory, file size."""
    from framegrid_serve.measurement import Pictures, measure

    measured = measure(bundle_of(model, state_dir), Pictures(data, limit=pictures), _engine_settings(form))
    if json_output:
        typer.echo(measured.model_dump_json(indent=2))
        return
    _tell_measured([measured])


def compare(
    *,
    first: NameArgument,
    second: NameArgument,
    data: DataOption,
    pictures: PicturesOption = 0,
    json_output: JsonOption = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Measure two models side by side, turn about."""
    from framegrid_serve.measurement import Pictures, measure_pair

    settings = _engine_settings("")
    both = [(bundle_of(name, state_dir), settings) for name in (first, second)]
    pair = measure_pair(both[0], both[1], Pictures(data, limit=pictures))
    if json_output:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in pair], indent=2))
        return
    _tell_measured(list(pair))


def gate(
    *,
    candidate: CandidateArgument,
    data: DataOption,
    thresholds: Annotated[
        Path | None, typer.Option("--thresholds", help="YAML; without it the defaults of serve/MODELS.md.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the report into this folder.")] = None,
    pictures: PicturesOption = 0,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Say whether a candidate may replace the active version; exit status 1 when it is blocked."""
    from framegrid_serve.activation import gate_folder
    from framegrid_serve.bundle import load_bundle
    from framegrid_serve.gate import Thresholds, decide, read_thresholds
    from framegrid_serve.gate_report import write_report
    from framegrid_serve.measurement import Pictures, measure, measure_pair

    library, bundle = library_of(state_dir), bundle_of(candidate, state_dir)
    limits = read_thresholds(thresholds) if thresholds else Thresholds()
    wanted, settings = Pictures(data, limit=pictures), _engine_settings("")
    folder = library.active(bundle.name)
    if folder is None or folder == bundle.path.resolve():
        decision = decide(limits, measure(bundle, wanted, settings), None)
    else:
        now, then = measure_pair((load_bundle(folder), settings), (bundle, settings), wanted)
        decision = decide(limits, then, now)
    paths = write_report(decision, gate_folder(library, bundle.digest))
    if out is not None:
        paths = write_report(decision, out)
    typer.echo(f"{'deploy' if decision.deploy else 'block'}: {bundle.name} {bundle.version}")
    for reason in decision.reasons:
        typer.echo(f"  {reason}")
    typer.echo(f"report: {', '.join(str(path) for path in paths)}")
    raise typer.Exit(0 if decision.deploy else 1)


def shadow(
    *,
    candidate: Annotated[str, typer.Argument(help="NAME@VERSION; NAME alone tells how it goes.")],
    share: Annotated[float, typer.Option("--share", min=0.001, max=1, help="Of the live frames.")] = 0.1,
    stop: Annotated[bool, typer.Option("--stop", help="End it.")] = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Let a candidate see live frames beside the active version, without anybody being answered by it."""
    library, serve = library_of(state_dir), _serve(state_dir)
    name, _, version = candidate.partition("@")
    if version or stop:
        bundle = None if stop else bundle_of(candidate, state_dir)
        library.set_shadow(name, bundle, share)
        if serve is not None:
            serve.reload()
        typer.echo(f"{name}: {'no shadow' if stop else f'{version} sees {share:.0%} of the frames'}")
        return
    told = (serve.models().get(name, {}) if serve is not None else {}).get("shadow")
    typer.echo(json.dumps(told, indent=2) if told else f"{name}: nothing shadows it in a running serve")


def activate(
    *,
    candidate: CandidateArgument,
    force: Annotated[str, typer.Option("--force", help="Without a gate's consent; say why.")] = "",
    by: ByOption = "",
    watch: WatchOption = 60,
    mlflow: RegistryOption = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Let a version serve: gate's consent, trial, swap, watch; undone when anything fails."""
    _activate(bundle_of(candidate, state_dir), "activate", force, Told(by, watch, mlflow, state_dir))


def rollback(
    *,
    name: Annotated[str, typer.Argument(help="The model.")],
    reason: Annotated[str, typer.Option("--reason", help="For the history.")] = "by hand",
    by: ByOption = "",
    watch: WatchOption = 0,
    mlflow: RegistryOption = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Back to the version that served before."""
    bundle = library_of(state_dir).before(name)
    _activate(bundle, "rollback", reason, Told(by, watch, mlflow, state_dir))


def history(
    name: Annotated[str, typer.Argument(help="The model; all without it.")] = "",
    json_output: JsonOption = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Who activated what, when and why."""
    found = library_of(state_dir).history(name)
    if json_output:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    for one in found if not json_output else ():
        why = f": {one.reason}" if one.reason else ""
        typer.echo(
            f"{one.time}  {one.model} {one.previous or '-'} -> {one.version}  {one.action} by {one.by}{why}"
        )


def add_commands(app: typer.Typer) -> None:
    """Make them commands of `framegrid model`."""
    for command in (quantize, evaluate, compare, gate, shadow, activate, rollback, history):
        app.command()(command)


def bundle_of(model: str, state_dir: Path) -> Any:
    """The bundle that a name, a name with version, or a folder means. Raises ModelError."""
    from framegrid_serve.bundle import load_bundle
    from framegrid_serve.workshop import resolve

    return load_bundle(resolve(model, StateDir(state_dir).models, fetch=False).resolve())


def library_of(state_dir: Path) -> Any:
    """The models of this state folder."""
    from framegrid_serve.library import Library

    return Library(StateDir(state_dir).models)


@dataclass(frozen=True, slots=True)
class Told:
    """Options that activating and rolling back share."""

    by: str
    watch_s: float
    mlflow: bool
    state_dir: Path


def _activate(bundle: Any, action: str, reason: str, told: Told) -> None:
    from framegrid_serve.activation import activate
    from framegrid_serve.settings import COMPILED

    done = activate(
        library_of(told.state_dir),
        bundle,
        by=told.by or f"{getpass.getuser()}@{socket.gethostname()}",
        serve=_serve(told.state_dir),
        action=action,
        force=reason,
        cache_dir=_serve_dir(told.state_dir) / COMPILED,
        watch_s=told.watch_s,
        say=typer.echo,
    )
    typer.echo(f"{done.model}: {done.previous or 'nothing'} -> {done.version}")
    if told.mlflow:
        from framegrid_serve.mlflow_registry import record

        typer.echo(record(done))


def _serve_dir(state_dir: Path) -> Path:
    return StateDir(state_dir).root / "serve"


def _serve(state_dir: Path) -> Any:
    from framegrid_serve.activation import running_serve

    return running_serve(_serve_dir(state_dir))


def _engine_settings(form: str) -> Any:
    from framegrid_serve.engines.base import EngineSettings

    return EngineSettings.model_validate({"form": form})


def _map(measured: Any) -> str:
    return "-" if measured.map50_95 is None else f"{measured.map50_95:.4f}"


def _tell_measured(found: list[Any]) -> None:
    rows = [
        ("model", [f"{one.name} {one.version}" for one in found]),
        ("engine", [f"{one.engine} {one.precision}" for one in found]),
        ("pictures", [str(one.pictures) for one in found]),
        ("mAP50-95", [_map(one) for one in found]),
        ("mAP50", ["-" if one.map50 is None else f"{one.map50:.4f}" for one in found]),
        ("median", [f"{one.speed.median_ms:.1f} ms" for one in found]),
        ("p95", [f"{one.speed.p95_ms:.1f} ms" for one in found]),
        ("memory", [f"{one.speed.peak_bytes / 1e6:.0f} MB" for one in found]),
        ("file", [f"{one.size_bytes / 1e6:.2f} MB" for one in found]),
    ]
    names = sorted({name for one in found for name in one.per_class})
    rows += [(f"  {name}", [f"{one.per_class.get(name, 0):.4f}" for one in found]) for name in names]
    for name, values in rows:
        typer.echo(f"{name:<18} {'  '.join(f'{value:>24}' for value in values)}")
