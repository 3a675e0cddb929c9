"""`python -m framegrid_serve.alone --config FILE`: one replica in one process, without Ray.

For a device too small for Ray: the same config file, routes, models, checks and swaps (SIGHUP). What only Ray
gives is missing: several replicas, HAProxy before them, a new replica for one that hangs, Prometheus metrics.
One JSON line on stdout when requests are answered; SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import logging
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.requests import Request

from framegrid_serve.activation import note_running
from framegrid_serve.errors import ModelError, StartError
from framegrid_serve.node import check_port_free
from framegrid_serve.replica import Replica, ReplicaSettings
from framegrid_serve.settings import COMPILED, NodeSettings, read_settings, serving_config

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

logger = logging.getLogger("framegrid_serve")

# As often as Ray asks a replica for its health: ends watches of models that no frame comes for.
_REVIEW_S = 10.0
_DRAIN_S = 10


def main() -> int:
    """Exit status: 0 after a signal, 1 when it could not start."""
    started_s = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m framegrid_serve.alone", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file; see serve/README.md")
    path = parser.parse_args().config
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)  # uvicorn raises its signal again at the end
    replica: Replica | None = None
    try:
        settings = read_settings(path)
        if settings.replicas != 1:
            raise StartError(f"replicas: expected 1 without Ray, got {settings.replicas}; correct {path}")
        check_port_free(settings.http_host, settings.http_port)
        replica = _loaded(settings)
        asyncio.run(_serve(path, settings, replica, started_s))
        return 0
    except (StartError, ModelError) as error:
        print(f"framegrid_serve: {error}", file=sys.stderr)
        return 1
    finally:
        if replica is not None:
            replica.close()


def _loaded(settings: NodeSettings) -> Replica:
    """A replica with its models. Raises StartError, ModelError."""
    config = serving_config(settings)
    (settings.state_dir / COMPILED).mkdir(parents=True, exist_ok=True)
    replica = Replica(ReplicaSettings.model_validate(settings.replica_args))
    try:
        replica.start(config)
    except ModelError:
        replica.close()
        raise
    return replica


async def _serve(path: Path, settings: NodeSettings, replica: Replica, started_s: float) -> None:
    """Answer requests until a signal."""
    config = uvicorn.Config(
        functools.partial(_answer, replica),
        host=settings.http_host,
        port=settings.http_port,
        interface="asgi3",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=_DRAIN_S,
    )
    listening = config.bind_socket()
    listening.listen(config.backlog)  # from here on connections wait in the kernel, and "ready" is true
    loop = asyncio.get_running_loop()
    # One thread: configs are applied in the order they came.
    with ThreadPoolExecutor(1, "model-loader") as loader:
        loop.add_signal_handler(signal.SIGHUP, loader.submit, _reload, path, replica)
        reviewer = asyncio.create_task(_review(replica))
        running = note_running(settings.state_dir, settings.url, 1)
        try:
            print(json.dumps(_ready(replica, settings.url, started_s)), flush=True)
            await uvicorn.Server(config).serve(sockets=[listening])
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            reviewer.cancel()
            running.unlink(missing_ok=True)


def _ready(replica: Replica, url: str, started_s: float) -> dict[str, Any]:
    models = replica.service.registry.describe()
    return {
        "event": "ready",
        "url": url,
        "models": [model["name"] for model in models["models"]],
        "default": models["default"],
        "startup_s": round(time.monotonic() - started_s, 2),
    }


async def _answer(replica: Replica, scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if scope["type"] != "http":
        return
    response = await replica.service.handle(Request(scope, receive))
    await response(scope, receive, send)


async def _review(replica: Replica) -> None:
    while True:
        await asyncio.sleep(_REVIEW_S)
        replica.service.registry.review()


def _reload(path: Path, replica: Replica) -> None:
    """The models of the file as it is now; whatever is wrong with it, the old ones stay."""
    try:
        problems = replica.service.registry.apply(serving_config(read_settings(path)))
    except StartError as error:
        logger.error("%s; everything stays as it is", error)
        return
    for problem in problems:
        logger.error("%s; the old model stays", problem)


if __name__ == "__main__":
    raise SystemExit(main())
