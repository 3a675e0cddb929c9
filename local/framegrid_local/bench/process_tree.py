"""Memory of a process with all that descends from it, from Linux's /proc."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def tree_bytes(pid: int) -> int:
    """Resident memory; what the processes share is counted once."""
    total_kib = 0
    for member in _tree(pid):
        with suppress(OSError):  # ended meanwhile
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            total_kib += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kib * 1024


def _tree(pid: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    tree = {pid}
    while more := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree
