"""The state folder (`.framegrid` by default): logs, configuration, database; one user at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from framegrid_local.errors import LocalError

DEFAULT_STATE_DIR = Path(".framegrid")


class StateDir:
    """Paths under one folder; `lock()` keeps a second supervisor out until `unlock()` or our end."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock: IO[str] | None = None

    @property
    def logs(self) -> Path:
        """One file per child."""
        return self.root / "logs"

    @property
    def postgres(self) -> Path:
        """The embedded database."""
        return self.root / "postgres"

    @property
    def models(self) -> Path:
        """Bundles pulled or imported here."""
        return self.root / "models"

    @property
    def database_url_file(self) -> Path:
        """Address of the database in use now, for `framegrid db url`; private: it holds the password."""
        return self.root / "database-url"

    @property
    def bi_url_file(self) -> Path:
        """The same for readers, who see schema bi and nothing else."""
        return self.root / "bi-url"

    def lock(self) -> None:
        """Raises LocalError when another framegrid holds the folder."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            lock = (self.root / "lock").open("a+")
        except OSError as error:
            raise LocalError(
                f"cannot write to the state folder {self.root}: {error.strerror}; "
                "give another with --state-dir"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise LocalError(
                f"another framegrid (process {holder}) runs in {self.root}; stop it, "
                "or give this one a folder of its own with --state-dir"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def unlock(self) -> None:
        """Lets the next one in; safe to call twice."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_private(self, path: Path, text: str) -> Path:
        """Writes a file that only we can read (it may hold a password), replaced as a whole."""
        scratch = path.with_name(f"{path.name}.new")
        scratch.unlink(missing_ok=True)
        scratch.touch(mode=0o600)
        scratch.write_text(text)
        scratch.replace(path)
        return path
