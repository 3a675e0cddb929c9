"""`make bench`: measures this machine and writes bench.json.

Every ratio compares two things in one run, turn about, so that a machine whose speed drifts still gives a
fair answer. Needs the workshop extra (Ultralytics): it is the peer, and exports the model that both run.
Exits with 1 when a figure misses its bound or a part fails; the other parts are measured and the file is
written all the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from framegrid_serve.engines.cpu import cpu_model

from framegrid_local import machine
from framegrid_local.bench import inputs, stack
from framegrid_local.bench.child import json_of
from framegrid_local.bench.engines import measure_engines
from framegrid_local.bench.frames import measure_frames
from framegrid_local.bench.int8 import measure_int8
from framegrid_local.bench.many_replicas import measure_scaling
from framegrid_local.bench.peers.compare import measure_peers
from framegrid_local.bench.recovery import measure_recovery
from framegrid_local.bench.sampling import measure_sampling
from framegrid_local.bench.shadow import measure_shadow
from framegrid_local.bench.small_device import measure_small_device
from framegrid_local.bench.swap import measure_swap
from framegrid_local.bench.unavailable import UnavailableError
from framegrid_local.chain import Chain
from framegrid_local.figures import camera_figures, worst_p95_ms
from framegrid_local.postgres import EmbeddedPostgres

logger = logging.getLogger("framegrid.bench")

INPUT_SIZE = 640
ROUNDS = 3
RAW_SECONDS = 5.0
SERVE_SECONDS = 8.0
WHOLE_SECONDS = 12.0
PEER_SECONDS = 12.0
LATENCY_SECONDS = 40.0
LATENCY_SHARE = 0.7  # of the highest rate
ROLL_UP_DAYS = 3

FLOORS = {
    "serve_over_raw": 0.90,
    "whole_over_raw": 0.70,
    "vs_ultralytics": 4.0,
    "fps_half_core_512mb": 25.0,
    "vs_litserve": 3.0,
    "vs_roboflow": 3.0,
    "writer_over_copy": 0.8,
    "replay_rows_per_s": 50_000.0,
    "sim_fps": 2000.0,
    "ingest_cameras_per_core": 5.0,
    "scaling_efficiency": 0.95,
}
CEILINGS = {
    "p95_ms": 500.0,
    "bi_minute_query_ms": 50.0,
    "frame_bytes_ratio": 1 / 60,
    "int8_size_ratio": 0.35,
    "int8_map_loss": 1.0,  # points
    "vs_litserve_map_loss": 1.0,
    "vs_roboflow_map_loss": 1.0,
    "shadow_overhead": 0.10,
    "swap_s": 1.0,
    "swap_failed": 0.0,
    "swap_memory_growth": 0.05,
    "step_recovery_s": 20.0,
    "replica_start_s": 3.0,
}
# Over the held-out clips: of the sums, and of the worst clip.
COUNT_ERROR, COUNT_ERROR_WORST = 0.02, 0.10

PACKAGES = ("ray", "openvino", "torch", "ultralytics", "av", "psycopg", "numpy")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    parser.add_argument("--only", nargs="*", choices=sorted(MEASURES), default=sorted(MEASURES))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    report: dict[str, Any] = {"about": about()}
    for name in options.only:
        logger.info("%s ...", name)
        started = time.monotonic()
        found: dict[str, Any] = {}
        try:
            found = MEASURES[name]()
        except UnavailableError as error:
            report.setdefault("not_measured", {})[name] = str(error)
            logger.error("  %s: not measured: %s", name, error)
        except Exception as error:  # an hour of other figures is not thrown away for one
            report.setdefault("failed", {})[name] = f"{type(error).__name__}: {error}"
            logger.exception("  %s failed", name)
        report.update(found)
        shown = {key: value for key, value in found.items() if not isinstance(value, (dict, list))}
        logger.info("  %s (%.0f s)", shown, time.monotonic() - started)
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    missed = misses(report)
    for line in missed:
        logger.error("%s", line)
    logger.info("wrote %s", options.out)
    return 1 if missed else 0


def misses(report: dict[str, Any]) -> list[str]:
    """One line for each part that failed and each figure beyond its bound; figures that were not measured are
    not judged."""
    failed = [f"{name} failed: {reason}" for name, reason in report.get("failed", {}).items()]
    low = [
        f"{key}: expected at least {floor}, got {report[key]}"
        for key, floor in FLOORS.items()
        if key in report and report[key] < floor
    ]
    worst = {key: COUNT_ERROR_WORST for key in report if key.startswith("count_error") and "worst" in key}
    sums = {key: COUNT_ERROR for key in report if key.startswith("count_error") and key not in worst}
    high = [
        f"{key}: expected at most {ceiling}, got {report[key]}"
        for key, ceiling in {**CEILINGS, **sums, **worst}.items()
        if key in report and report[key] > ceiling
    ]
    visits = report.get("real_visits")
    if visits is not None and visits != report["real_visits_true"]:
        high.append(f"real_visits: expected {report['real_visits_true']}, got {visits}")
    return failed + low + high


def about() -> dict[str, Any]:
    """The machine, the date and the versions that the figures belong to."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": machine.usable_cpus(),
        "memory_gib": round(machine.memory_bytes() / 2**30, 1),
        "python": platform.python_version(),
        "versions": versions,
    }


def measure_chain() -> dict[str, Any]:
    """serve_over_raw, whole_over_raw, vs_ultralytics and p95_ms, with the same model and the same video."""
    video, weights = inputs.video(), inputs.weights()
    bundle = inputs.bundle(weights, INPUT_SIZE)
    cores = machine.usable_cpus()
    height, width = inputs.network_shape(video, INPUT_SIZE)
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        raw = [_raw_fps(bundle, height, width, cores)]
        with stack.running(_fast_cameras(video, cores), bundle, cores) as chain:
            serve = _serve_fps(chain, video)
            chain.start_ingest()
            whole = stack.stored_fps(chain, WHOLE_SECONDS)
        raw.append(_raw_fps(bundle, height, width, cores))
        peer = json_of("peer_ultralytics", weights=weights, video=video, seconds=PEER_SECONDS)["fps"]
        rounds.append(
            {
                "raw_fps": statistics.mean(raw),
                "serve_fps": serve,
                "whole_fps": whole,
                "ultralytics_fps": peer,
                "serve_over_raw": serve / statistics.mean(raw),
                "whole_over_raw": whole / statistics.mean(raw),
                "vs_ultralytics": whole / peer,
            }
        )
        logger.info("  %s", {key: round(value, 3) for key, value in rounds[-1].items()})
    figures = {key: round(statistics.median(entry[key] for entry in rounds), 3) for key in rounds[0]}
    latency = _latency(bundle, video, cores, figures["whole_fps"])
    return {**figures, **latency, "network_shape": [height, width], "rounds": rounds}


def _raw_fps(bundle: Path, height: int, width: int, cores: int) -> float:
    model = inputs.weights_of(bundle)
    options = {"model": model, "height": height, "width": width, "cores": cores, "seconds": RAW_SECONDS}
    return float(json_of("raw_loop", **options)["fps"])


def _serve_fps(chain: Chain, video: Path) -> float:
    found = json_of("serve_load", port=chain.serve_port, video=video, seconds=SERVE_SECONDS)
    if found["failed"]:
        raise RuntimeError(f"expected every frame to be answered, {found['failed']:.0f} failed")
    return float(found["fps"])


def _fast_cameras(video: Path, cores: int) -> list[dict[str, Any]]:
    """Recordings read as fast as they are counted, two for each core."""
    fps = inputs.frame_rate(video)
    return [
        {"name": f"file-{index}", "url": str(video), "fps": fps, "pace": "fast", "loop": True}
        for index in range(2 * cores)
    ]


def _latency(bundle: Path, video: Path, cores: int, whole_fps: float) -> dict[str, float]:
    """The worst camera's p95 from capture to stored, with recordings played at their own pace."""
    fps = inputs.frame_rate(video)
    count = max(1, round(LATENCY_SHARE * whole_fps / fps))
    rate = min(fps, LATENCY_SHARE * whole_fps / count)
    cameras = [
        {"name": f"file-{index}", "url": str(video), "fps": round(rate, 3), "loop": True}
        for index in range(count)
    ]
    with stack.running(cameras, bundle, cores) as chain:
        chain.start_ingest()
        stored = stack.stored_fps(chain, LATENCY_SECONDS)
        p95_ms = worst_p95_ms(list(camera_figures(chain.status()).values()))
    if p95_ms is None:
        raise RuntimeError("expected a p95 from capture to stored, got none: no frame was stored lately")
    return {"p95_ms": p95_ms, "p95_at_fps": round(stored, 1)}


def measure_writer() -> dict[str, Any]:
    from framegrid_store.bench import measure_replay
    from framegrid_store.bench import measure_writer as measure
    from framegrid_store.migrate import upgrade

    with _embedded_postgres() as url:
        upgrade(url)
        return {**measure(url), **measure_replay(url)}


def measure_roll_ups() -> dict[str, Any]:
    """On the server of FRAMEGRID_TEST_DATABASE_URL, else the embedded one. The month is short here:
    `python -m framegrid_store.bench_rollup` fills thirty days, which takes 38 GB."""
    from framegrid_store.bench_rollup import measure

    given = os.environ.get("FRAMEGRID_TEST_DATABASE_URL")
    with nullcontext(given) if given else _embedded_postgres() as url:
        return measure(url, days=ROLL_UP_DAYS)


@contextmanager
def _embedded_postgres() -> Iterator[str]:
    with stack.scratch() as folder:
        postgres = EmbeddedPostgres(folder / "postgres")
        try:
            postgres.start()
            yield postgres.url
        finally:
            postgres.stop()
            postgres.destroy()


def measure_simulator() -> dict[str, Any]:
    from framegrid_sim.bench import measure_sim_fps

    found = measure_sim_fps().to_json()
    return {"sim_fps": round(found["sim_fps"]), "simulator": found}


def measure_slow_cameras() -> dict[str, Any]:
    found = measure_sampling()
    return {"ingest_cameras_per_core": found["ratio"], "sampling": found}


def measure_counting() -> dict[str, Any]:
    """The packaged model on the simulator's held-out clips, and YOLO11n on a real recording."""
    from framegrid_serve.bundle import load_bundle
    from framegrid_serve.detector import Detector
    from framegrid_serve.engines.base import EngineSettings
    from framegrid_serve.workshop import resolve
    from framegrid_sim.evaluation import EVALUATION_CLIPS

    from framegrid_local.accuracy import count_visits, figures, score_clips, table

    engine = EngineSettings(threads=machine.usable_cpus())
    detector = Detector(load_bundle(resolve("street-sim")), engine)
    scores = score_clips(EVALUATION_CLIPS, detector, inputs.CACHE)
    detector.close()
    logger.info("%s", table(scores))
    found: dict[str, Any] = figures(scores)
    if inputs.VISITS.exists():
        detector = Detector(load_bundle(inputs.bundle(inputs.weights(), INPUT_SIZE)), engine)
        found["real_visits"] = count_visits(inputs.VISITS, detector)
        found["real_visits_true"] = inputs.VISITS_TRUE
        detector.close()
    return found


def measure_load_generator() -> dict[str, Any]:
    """What the load test itself can send, against a server that answers at once."""
    from framegrid_load.limit import measure_limit

    found = measure_limit()
    return {"generator_fps": found["frames_per_s"], "generator": found}


def measure_replica_start() -> dict[str, Any]:
    with stack.scratch() as folder:
        found = json_of("replica_start", **{"state-dir": folder})
    return {"replica_start_s": found["replica_start_s"], "replica_start": found}


MEASURES: dict[str, Callable[[], dict[str, Any]]] = {
    "chain": measure_chain,
    "counting": measure_counting,
    "engines": measure_engines,
    "frames": measure_frames,
    "generator": measure_load_generator,
    "int8": measure_int8,
    "peers": measure_peers,
    "recovery": measure_recovery,
    "replica_start": measure_replica_start,
    "roll_ups": measure_roll_ups,
    "sampling": measure_slow_cameras,
    "scaling": measure_scaling,
    "shadow": measure_shadow,
    "simulator": measure_simulator,
    "small_device": measure_small_device,
    "swap": measure_swap,
    "writer": measure_writer,
}


if __name__ == "__main__":
    sys.exit(main())
