"""What this machine gives us: cores by affinity and cgroup, memory."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_V2 = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60  # cgroup v1 writes a huge number for "no limit"


def cgroup_cpus(root: Path = CGROUP_V2) -> float | None:
    """CPU quota of the container, in cores; None without one. Reads cgroup v2, then v1."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 else None


def visible_cpus() -> int:
    """Cores that this process may be scheduled on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cpus() -> int:
    """Whole cores to plan with: the smaller of affinity and quota, at least 1."""
    quota = cgroup_cpus()
    return max(1, min(visible_cpus(), math.floor(quota) if quota else visible_cpus()))


def default_replicas(cpus: int | None = None) -> int:
    """One detector replica per core, less one core for the cameras, the database and the page; at least
    1.
    """
    return max(1, (usable_cpus() if cpus is None else cpus) - 1)


def memory_bytes(root: Path = CGROUP_V2) -> int:
    """Memory that we may use: the smaller of the machine's and the container's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = int((root / name).read_text())
        except (OSError, ValueError):
            continue
        if limit < UNLIMITED:
            total = min(total, limit)
    return total
