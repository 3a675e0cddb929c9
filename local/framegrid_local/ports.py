"""Ports on this machine: is one free, give me a free one."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from framegrid_local.errors import PortInUseError

LOOPBACK = "127.0.0.1"
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Serve's replicas take theirs below 32,000; the kernel's own choices begin at 32,768 on Linux.
PICKED_BELOW_EPHEMERAL = 768
LOWEST_PICKED = 10_000
ATTEMPTS = 50


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """True when a server could listen there now. Another program may still take it before you do."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(preferred: int = 0, host: str = LOOPBACK) -> int:
    """`preferred` when it is free, else one where outgoing connections are never put.

    The kernel's own pick would be among the ports of outgoing connections, and may be given to one of those
    in the seconds until the server that it is for has started.
    """
    if preferred and is_free(preferred, host):
        return preferred
    candidates = _pickable()
    for port in random.sample(candidates, min(ATTEMPTS, len(candidates))):
        if is_free(port, host):
            return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        chosen: int = probe.getsockname()[1]
    return chosen


def require_port(port: int, what: str, option: str, host: str = LOOPBACK) -> int:
    """The port the user asked for by name, or PortInUseError; another is never taken silently."""
    if not is_free(port, host):
        raise PortInUseError(
            f"{what}: port {port} on {host} is taken by another program; "
            f"stop that program or give {option} another port (0 picks a free one)"
        )
    return port


def _pickable(ephemeral_range: Path = EPHEMERAL_RANGE) -> range:
    """Ports just below the ephemeral ones; empty where the system does not say, or leaves no room."""
    try:
        first = int(ephemeral_range.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return range(0)
    start = first - PICKED_BELOW_EPHEMERAL
    return range(start, first) if start >= LOWEST_PICKED else range(0)
