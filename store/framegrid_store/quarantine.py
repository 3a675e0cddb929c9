"""Rows that the database or the encoder refused: one line of JSON each, with the reason, to be looked at.

`python -m framegrid_store.quarantine FOLDER [--last N]` says how many there are by table and reason, and
prints the last ones. Bounded: `quarantine.jsonl` is put by as `quarantine.1.jsonl` when it is full, and what
was there is deleted; the writer's counters go on. Several processes may write to one folder. No credentials:
every text goes through `connect.redacted`.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

from framegrid_store.connect import redacted, sanitised

FILE = "quarantine.jsonl"
OLDER_FILE = "quarantine.1.jsonl"
LOCK_FILE = "quarantine.lock"
FILE_BYTES = 10 * 1024 * 1024
LINE_CHARACTERS = 8192


class Quarantine:
    """Append-only. Thread-safe and process-safe."""

    def __init__(self, folder: Path, database_url: str = "", file_bytes: int = FILE_BYTES) -> None:
        self._folder = folder
        self._url = database_url
        self._file_bytes = file_bytes

    def add(self, table: str, row: object, error: BaseException) -> None:
        """Write one row down. Raises OSError when that is not possible."""
        line = {
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "table": table,
            "reason": sanitised(error, self._url) or type(error).__name__,
            "sqlstate": getattr(error, "sqlstate", None) or "",
            "row": self._clean(row._asdict() if hasattr(row, "_asdict") else row),
        }
        text = json.dumps(line)
        if len(text) > LINE_CHARACTERS:
            # Cut as text, or the line would be no JSON.
            text = json.dumps({**line, "row": text[: LINE_CHARACTERS // 2], "is_cut": True})
        with self._locked():
            path = self._folder / FILE
            if path.exists() and path.stat().st_size + len(text) > self._file_bytes:
                path.replace(self._folder / OLDER_FILE)
            with open(path, "a", encoding="utf-8", opener=_private) as file:
                file.write(text + "\n")

    def _clean(self, value: Any) -> Any:
        """What JSON can hold, without credentials; the rest as Python would print it."""
        if isinstance(value, Mapping):
            return {str(key): self._clean(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._clean(item) for item in value]
        if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and isfinite(value)):
            return value
        return redacted(value if isinstance(value, str) else repr(value), self._url)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._folder / LOCK_FILE, "a", opener=_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def read_quarantine(folder: Path) -> Iterator[dict[str, Any]]:
    """Every line, oldest first; lines that are no JSON (the machine stopped while writing) are left out."""
    for path in (folder / OLDER_FILE, folder / FILE):
        if not path.exists():
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                if isinstance(line, dict):
                    yield line


def main(arguments: list[str] | None = None) -> int:
    """Print a summary and the last lines."""
    parser = argparse.ArgumentParser(prog="python -m framegrid_store.quarantine", description=__doc__)
    parser.add_argument("folder", type=Path, help="the writer's spool folder")
    parser.add_argument("--last", type=int, default=5, metavar="N", help="lines to print (5)")
    asked = parser.parse_args(arguments)
    lines = list(read_quarantine(asked.folder))
    found = Counter((str(line.get("table")), str(line.get("reason"))) for line in lines)
    summary = (f"{n:8} {table}: {reason}" for (table, reason), n in found.most_common())
    last = (json.dumps(line) for line in lines[len(lines) - asked.last if asked.last else len(lines) :])
    print("\n".join(chain([f"{len(lines)} rows in quarantine"], summary, last)))
    return 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


if __name__ == "__main__":
    sys.exit(main())
