"""What a candidate that shadows live frames costs the live path.

One replica's service without HTTP, open loop at half of what its stream can do, arrivals at random as those
of many cameras are: evenly spaced ones would never meet the candidate at work. Rounds with and without turn
about, with the same arrivals.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import Any

from framegrid_serve.batcher import Batcher
from framegrid_serve.bundle import load_bundle
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.registry import ModelRegistry
from framegrid_serve.service import DetectService
from framegrid_serve.spec import ModelSpec, ServingConfig, ShadowSpec
from framegrid_serve.wire import DetectRequest, Frame
from framegrid_serve.workshop import resolve

from framegrid_local.bench import inputs
from framegrid_local.bench.serve_load import read_jpegs

MODEL = "street-sim"
SHARE = 0.1  # the default of `framegrid model shadow`
LOAD = 0.5  # of what one stream can do
PAIRS, SECONDS = 6, 10.0


def measure_shadow() -> dict[str, Any]:
    """shadow_overhead: how much longer live frames take on average, due to answered; 0.1 = a tenth."""
    live = load_bundle(resolve(MODEL))
    jpegs = read_jpegs(inputs.video(), 64, live.manifest.input_size)
    registry = ModelRegistry(lambda bundle: Detector(bundle, EngineSettings(threads=1)))
    batcher = Batcher(streams=1, capacity_frames=256)
    batcher.start()
    service = DetectService(registry, batcher)
    plain = ModelSpec(name=MODEL, path=live.path)
    shadowed = plain.model_copy(update={"shadow": ShadowSpec(path=live.path, share=SHARE)})
    means_ms: dict[bool, list[float]] = {False: [], True: []}
    frames = shadow_frames = 0
    try:
        registry.apply(ServingConfig(models=(shadowed,)))
        service_s = _service_s(registry, jpegs)
        for turn in range(2 * PAIRS):
            with_shadow = turn % 4 in (1, 2)  # without, with, with, without
            registry.apply(ServingConfig(models=(shadowed if with_shadow else plain,)))
            times_s = asyncio.run(_open_loop(service, jpegs, service_s / LOAD, seed=turn // 2))
            means_ms[with_shadow].append(statistics.mean(times_s) * 1e3)
            if with_shadow:
                frames += len(times_s)
                shadow_frames += registry.shadows[MODEL].other.shadow_seen.frames
    finally:
        batcher.stop()
    ratios = [one / other for other, one in zip(means_ms[False], means_ms[True], strict=True)]
    return {
        "shadow_overhead": round(statistics.median(ratios) - 1, 4),
        "shadow": {
            "load": LOAD,
            "share": round(shadow_frames / frames, 4),
            "service_ms": round(service_s * 1e3, 3),
            "mean_ms_without": round(statistics.median(means_ms[False]), 3),
            "mean_ms_with": round(statistics.median(means_ms[True]), 3),
            "ratios": [round(ratio, 4) for ratio in ratios],
        },
    }


def _service_s(registry: ModelRegistry, jpegs: list[bytes]) -> float:
    """Median time of one frame on the idle engine."""
    detector = registry.get(MODEL).detector
    times_s = []
    for turn in range(100):
        started_s = time.perf_counter()
        detector.detect([jpegs[turn % len(jpegs)]], [0.25])
        times_s.append(time.perf_counter() - started_s)
    return statistics.median(times_s[20:])


async def _open_loop(service: DetectService, jpegs: list[bytes], interval_s: float, seed: int) -> list[float]:
    """Frames at random times, whether or not the last one is answered. Seconds from due to answered."""
    arrivals = random.Random(seed)
    clock = asyncio.get_running_loop().time

    async def ask(index: int, due_s: float) -> float:
        frame = Frame("bench", index, jpegs[index % len(jpegs)])
        await service.run(service.registry.get(MODEL), DetectRequest((frame,), MODEL, 20_000))
        return clock() - due_s

    asked: list[asyncio.Task[float]] = []
    due_s, until_s = clock(), clock() + SECONDS
    while due_s < until_s:
        due_s += arrivals.expovariate(1 / interval_s)
        await asyncio.sleep(max(0.0, due_s - clock()))
        asked.append(asyncio.create_task(ask(len(asked), due_s)))
    return list(await asyncio.gather(*asked))
