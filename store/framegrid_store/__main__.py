"""`python -m framegrid_store upgrade|status`, on the database of FRAMEGRID_DATABASE_URL."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from framegrid_store.connect import database_url_from_environment, describe
from framegrid_store.errors import StoreError
from framegrid_store.logins import set_passwords
from framegrid_store.migrate import upgrade
from framegrid_store.reach import wait_until_reachable
from framegrid_store.status import status


def main(arguments: list[str] | None = None) -> int:
    """Print JSON on success; a sentence on standard error and exit status 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m framegrid_store", description=__doc__)
    parser.add_argument("action", choices=("upgrade", "status"))
    parser.add_argument(
        "--wait-s", type=float, default=0.0, help="wait so long (s) for the database to take connections"
    )
    parser.add_argument(
        "--passwords",
        type=Path,
        metavar="FOLDER",
        help="upgrade: give roles the passwords in its files owner, app, bi",
    )
    parsed = parser.parse_args(arguments)
    action = parsed.action
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        url = database_url_from_environment()
        if parsed.wait_s > 0:
            wait_until_reachable(url, parsed.wait_s)
        found = asdict(upgrade(url) if action == "upgrade" else status(url))
        if action == "upgrade" and parsed.passwords is not None:
            found["passwords_set"] = set_passwords(url, parsed.passwords)
    except StoreError as error:
        print(f"framegrid_store: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"database": describe(url), **found}, indent=2, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
