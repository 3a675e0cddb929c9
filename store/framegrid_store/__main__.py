"""`python -m framegrid_store upgrade|status|maintain`, on the database of FRAMEGRID_DATABASE_URL.

`maintain` runs until SIGTERM or SIGINT; as many processes may as you like, one at a time does the work.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from threading import Event

from framegrid_store.connect import database_url_from_environment, describe
from framegrid_store.errors import StoreError
from framegrid_store.logins import set_passwords
from framegrid_store.maintain import Maintainer, maintain_now
from framegrid_store.migrate import upgrade
from framegrid_store.reach import wait_until_reachable
from framegrid_store.settings import StoreSettings, load_settings
from framegrid_store.status import status


def main(arguments: list[str] | None = None) -> int:
    """Print JSON on success; a sentence on standard error and exit status 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m framegrid_store", description=__doc__)
    parser.add_argument("action", choices=("upgrade", "status", "maintain"))
    parser.add_argument(
        "--wait-s", type=float, default=0.0, help="wait so long (s) for the database to take connections"
    )
    parser.add_argument(
        "--passwords",
        type=Path,
        metavar="FOLDER",
        help="upgrade: give roles the passwords in its files owner, app, bi",
    )
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="upgrade, maintain: retention and the rest, as YAML"
    )
    parser.add_argument(
        "--once", action="store_true", help="maintain: one round of everything, and its result"
    )
    parsed = parser.parse_args(arguments)
    action = parsed.action
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        url = database_url_from_environment()
        if parsed.wait_s > 0:
            wait_until_reachable(url, parsed.wait_s)
        settings = None if parsed.settings is None else load_settings(parsed.settings)
        if action == "maintain" and not parsed.once:
            _maintain(url, settings or StoreSettings())
            return 0
        if action == "upgrade":
            found = asdict(upgrade(url, settings))
        elif action == "status":
            found = asdict(status(url))
        else:
            found = asdict(maintain_now(url, settings or StoreSettings()))
        if action == "upgrade" and parsed.passwords is not None:
            found["passwords_set"] = set_passwords(url, parsed.passwords)
    except StoreError as error:
        print(f"framegrid_store: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"database": describe(url), **found}, indent=2, default=str))
    return 0


def _maintain(url: str, settings: StoreSettings) -> None:
    told_to_stop = Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: told_to_stop.set())
    maintainer = Maintainer(url, settings)
    maintainer.start()
    logging.getLogger(__name__).info("maintaining %s", describe(url))
    told_to_stop.wait()
    maintainer.close()


if __name__ == "__main__":
    sys.exit(main())
