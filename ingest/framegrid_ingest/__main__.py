"""`python -m framegrid_ingest --config FILE`: one ingest process until SIGTERM.

Prints one JSON line when it is ready. Ends with 0 after SIGTERM or SIGINT, 2 for a mistake in the settings,
1 for anything else (a port in use).
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from framegrid_store.errors import StoreError

from framegrid_ingest import logs
from framegrid_ingest.app import IngestApp
from framegrid_ingest.errors import ConfigError, IngestError
from framegrid_ingest.settings import IngestSettings, load_settings

logger = logging.getLogger("framegrid_ingest")


def main(argv: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="framegrid_ingest", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--config", type=Path, required=True, help="settings file (YAML), see ingest/README.md"
    )
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings(arguments.config, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    logs.set_up(settings.log_format, settings.log_level)
    try:
        asyncio.run(_run(settings))
    except StoreError as error:
        print(f"database_url: {error}", file=sys.stderr)
        return 2
    except IngestError as error:  # no cluster to speak to
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        where = f"{settings.http_host}:{settings.http_port}"
        print(f"http_port: expected a free port, got {where} in use; choose another", file=sys.stderr)
        return 1
    return 0


async def _run(settings: IngestSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await IngestApp(settings, os.environ).run(stop, _print_ready)


def _print_ready(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
