"""The commands: serve cameras, render files, measure. `python -m framegrid_sim --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from framegrid_sim.bench import BenchError, measure_sim_fps
from framegrid_sim.clip import SceneSettings
from framegrid_sim.clip_cache import MAX_WORKERS, CacheError, load_clips
from framegrid_sim.feed import CameraSpec
from framegrid_sim.files import FORMATS, write_clip
from framegrid_sim.h264 import EncodeError
from framegrid_sim.rtsp import RtspError, RtspServer
from framegrid_sim.server import (
    DEFAULT_HOST,
    ServeError,
    SimServer,
    check_port,
    print_ready,
    serve_until,
    stop_on_signals,
)
from framegrid_sim.settings import LIGHTS, Light
from framegrid_sim.site import SiteError

MIXED = "mixed"  # clip by clip: day, dusk, night, day, …
USAGE_EXIT, FAILURE_EXIT = 2, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a user can mend are one line on standard error."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except (ServeError, SiteError, RtspError, CacheError, EncodeError, BenchError, OSError) as error:
        print(f"framegrid_sim {args.command}: {error}", file=sys.stderr)
        return FAILURE_EXIT
    except ValueError as error:
        print(f"framegrid_sim {args.command}: {error}", file=sys.stderr)
        return USAGE_EXIT
    return status


def camera_specs(
    cameras: int,
    settings: Sequence[SceneSettings],
    *,
    cache_dir: Path | None = None,
    workers: int = MAX_WORKERS,
    auth: str | None = None,
    prefix: str = "camera",
    tell: Callable[[str], None] | None = None,
) -> list[CameraSpec]:
    """`cameras` cameras which show these scenes in turn; those of one scene are spread over its length."""
    if cameras < 1:
        raise ValueError(f"expected 1 camera or more, got {cameras}")
    clips = load_clips(settings[:cameras], cache_dir, workers=workers, tell=tell)
    per_clip = -(-cameras // len(clips))
    digits = len(str(cameras))
    specs = []
    for i in range(cameras):
        clip = clips[i % len(clips)]
        phase = (i // len(clips)) * clip.frame_count // per_clip
        specs.append(CameraSpec(f"{prefix}-{i + 1:0{digits}d}", clip, phase, auth))
    return specs


def scene_settings(args: argparse.Namespace, clips: int) -> list[SceneSettings]:
    """One scene per clip, with seeds from `--seed` on."""
    if clips < 1:
        raise ValueError(f"expected 1 clip or more, got {clips}")
    lights: tuple[Light, ...] = get_args(Light) if args.light == MIXED else (args.light,)
    return [
        SceneSettings(
            seed=args.seed + i,
            width=args.width,
            height=args.height,
            fps=args.fps,
            duration_s=args.duration,
            light=lights[i % len(lights)],
            rain=args.rain,
        )
        for i in range(clips)
    ]


def _serve(args: argparse.Namespace) -> int:
    check_port(args.port)  # before the rendering, which may take a while
    check_port(args.rtsp_port or 0)
    specs = camera_specs(
        args.cameras,
        scene_settings(args, min(args.clips, max(args.cameras, 1))),
        cache_dir=args.cache,
        workers=args.workers,
        auth=args.auth,
        prefix=args.prefix,
        tell=_tell,
    )
    asyncio.run(_serve_until_signal(SimServer(specs, args.host, args.port), args))
    return 0


async def _serve_until_signal(server: SimServer, args: argparse.Namespace) -> None:
    stop = stop_on_signals()
    if args.rtsp_port is None:
        await serve_until(server, stop, print_ready)
        return
    rtsp = RtspServer([c.feed for c in server.site.channels.values()], args.host, args.rtsp_port, args.gop)
    await asyncio.to_thread(rtsp.start)
    try:
        server.site.rtsp_port = rtsp.port
        server.site.fault_listeners.append(rtsp.set_fault)
        await serve_until(server, stop, print_ready)
    finally:
        await asyncio.to_thread(rtsp.stop)


def _render(args: argparse.Namespace) -> int:
    settings = scene_settings(args, args.clips)
    clips = load_clips(settings, args.cache, workers=args.workers, tell=_tell)
    for one, clip in zip(settings, clips, strict=True):
        folder = args.out if args.clips == 1 else args.out / f"seed-{one.seed}"
        gop = args.gop or max(1, round(clip.fps))
        files = write_clip(clip, folder, tuple(args.format or ["mp4"]), gop)
        print(json.dumps({"seed": one.seed, "frames": clip.frame_count, "files": [str(f) for f in files]}))
    return 0


def _bench(args: argparse.Namespace) -> int:
    result = measure_sim_fps(args.cameras, args.fps, args.seconds, args.rounds, args.cache)
    print(json.dumps(result.to_json()))
    return 0


def _tell(sentence: str) -> None:
    print(f"framegrid_sim: {sentence}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="framegrid_sim", description="A street with exact truth, served as cameras or written as files."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="MJPEG cameras over HTTP, and RTSP with --rtsp-port")
    rtsp = commands.add_parser("rtsp", help="the same as serve --rtsp-port 8554")
    for command, rtsp_port in ((serve, None), (rtsp, 8554)):
        _add_serve(command, rtsp_port)
        _add_scene(command, clips=4, duration_s=30.0)
        command.set_defaults(run=_serve)
    render = commands.add_parser("render", help="files: pictures, H.264 or Motion JPEG, with truth.json")
    render.add_argument("--out", type=Path, required=True, help="folder to write to")
    render.add_argument("--format", action="append", choices=FORMATS, help="repeatable (default: mp4)")
    _add_gop(render)
    _add_scene(render, clips=1, duration_s=60.0)
    render.set_defaults(run=_render)
    bench = commands.add_parser("bench", help="measure sim_fps: frames served per second of CPU, as JSON")
    bench.add_argument("--cameras", type=int, default=200)
    bench.add_argument("--fps", type=float, default=10.0, help="of each camera")
    bench.add_argument("--seconds", type=float, default=2.0, help="length of a round")
    bench.add_argument("--rounds", type=int, default=3)
    bench.add_argument("--cache", type=Path, help="folder of rendered clips")
    bench.set_defaults(run=_bench)
    return parser


def _add_serve(command: argparse.ArgumentParser, rtsp_port: int | None) -> None:
    command.add_argument("--cameras", type=int, default=4)
    command.add_argument(
        "--host", default=DEFAULT_HOST, help="address to listen on (default: this machine only)"
    )
    command.add_argument("--port", type=int, default=8090, help="HTTP port; 0 for a free one")
    command.add_argument("--rtsp-port", type=int, default=rtsp_port, help="serve RTSP too; 0 for a free port")
    command.add_argument("--auth", metavar="USER:PASSWORD", help="pictures want these credentials")
    command.add_argument("--prefix", default="camera", help="names are PREFIX-1, PREFIX-2, …")
    _add_gop(command)


def _add_gop(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--gop", type=int, help="H.264: frames from keyframe to keyframe (default: one second)"
    )


def _add_scene(command: argparse.ArgumentParser, clips: int, duration_s: float) -> None:
    command.add_argument("--clips", type=int, default=clips, help="different scenes")
    command.add_argument("--seed", type=int, default=1, help="of the first scene")
    command.add_argument("--fps", type=float, default=10.0)
    command.add_argument("--width", type=int, default=640)
    command.add_argument("--height", type=int, default=360)
    command.add_argument("--duration", type=float, default=duration_s, help="seconds until the scene loops")
    command.add_argument("--light", choices=(*LIGHTS, MIXED), default="day")
    command.add_argument("--rain", action="store_true")
    command.add_argument("--cache", type=Path, help="folder of rendered clips (default: the user's cache)")
    command.add_argument("--workers", type=int, default=MAX_WORKERS, help="processes that render")
