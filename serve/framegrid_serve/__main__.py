"""`python -m framegrid_serve --config FILE`: serve on this machine, in the foreground, until SIGTERM.

One JSON line on stdout when the first request would be answered; everything else goes to stderr. SIGHUP reads
the file again and changes the models (other keys need a restart); a broken file changes nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import signal
import sys
import time
from pathlib import Path
from typing import TextIO

from framegrid_serve.activation import note_running
from framegrid_serve.errors import StartError
from framegrid_serve.node import Node
from framegrid_serve.settings import NodeSettings, read_settings, serving_config

logger = logging.getLogger("framegrid_serve")


def main() -> int:
    """Exit status: 0 after a signal, 1 when it could not start."""
    started_s = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m framegrid_serve", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file; see serve/README.md")
    path = parser.parse_args().config
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    _listen(signals)
    node: Node | None = None
    running: Path | None = None
    ready_line = _own_stdout()
    try:
        settings = read_settings(path)
        config = serving_config(settings)
        node = Node(settings)
        node.start(config)
        _listen(signals)  # Ray takes SIGTERM for itself when it starts
        ready = {
            "event": "ready",
            "url": node.url,
            "models": [spec.name for spec in config.models],
            "default": config.default,
            "startup_s": round(time.monotonic() - started_s, 2),
        }
        running = note_running(settings.state_dir, node.url, settings.most_replicas)
        print(json.dumps(ready), file=ready_line, flush=True)
        _serve(signals, node, path, settings)
        return 0
    except StartError as error:
        print(f"framegrid_serve: {error}", file=sys.stderr)
        return 1
    finally:
        _ignore_signals()
        if running is not None:
            running.unlink(missing_ok=True)
        if node is not None:
            node.stop()


def _serve(signals: queue.SimpleQueue[int], node: Node, path: Path, settings: NodeSettings) -> None:
    while (number := signals.get()) == signal.SIGHUP:
        try:
            changed = read_settings(path)
            node.apply(serving_config(changed))
        except StartError as error:
            logger.error("%s; everything stays as it is", error)
            continue
        if changed.model_copy(update={"models": settings.models, "default_model": ""}) != settings.model_copy(
            update={"default_model": ""}
        ):
            logger.warning(
                "%s: only models and default_model change while running; restart for the rest", path
            )
        logger.info("models: %s", ", ".join(entry.name for entry in changed.models))
    logger.info("stopping on %s", signal.Signals(number).name)


def _own_stdout() -> TextIO:
    """The stdout we were given, for the ready line alone: what Ray prints there goes to stderr instead."""
    kept = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return kept


def _listen(signals: queue.SimpleQueue[int]) -> None:
    # SimpleQueue.put is reentrant, so it may run inside a handler.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: signals.put(received))


def _ignore_signals() -> None:
    """A second Ctrl-C must not leave half of Ray behind."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    raise SystemExit(main())
