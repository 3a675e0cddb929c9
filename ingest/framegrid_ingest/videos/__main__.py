"""`python -m framegrid_ingest.videos --config FILE`: the video service, in the foreground, until SIGTERM.

One JSON line on stdout when it answers. Exit status 2 for a mistake in the settings, 1 for a port in use.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import uvicorn

from framegrid_ingest.errors import ConfigError
from framegrid_ingest.videos.api import VideoApi
from framegrid_ingest.videos.settings import VideoSettings, load_settings

# Head of a request; its body has a timeout of its own.
KEEP_ALIVE_S = 30
MAX_CONNECTIONS = 128
GRACE_S = 5


class _Server(uvicorn.Server):
    """Tells when it answers."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started and self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            print(json.dumps({"event": "ready", "url": f"http://{host}:{port}"}), flush=True)


def main(argv: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="framegrid_ingest.videos", description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="settings file (YAML)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = load_settings(arguments.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return serve(settings)


def serve(settings: VideoSettings) -> int:
    """Until SIGTERM or SIGINT."""
    server = _Server(
        uvicorn.Config(
            VideoApi(settings).app(),
            host=settings.http_host,
            port=settings.http_port,
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            limit_concurrency=MAX_CONNECTIONS,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # Uvicorn stops in order, and then raises the signal once more for whoever was there before.
        signal.signal(number, lambda *_: None)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
