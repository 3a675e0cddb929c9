"""Ports on this machine: is one free, give me a free one."""

from __future__ import annotations

import socket

from framegrid_local.errors import PortInUseError

LOOPBACK = "127.0.0.1"


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
    """`preferred` when it is free, else one the kernel picks."""
    if preferred and is_free(preferred, host):
        return preferred
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def require_port(port: int, what: str, option: str, host: str = LOOPBACK) -> int:
    """The port the user asked for by name, or PortInUseError; another is never taken silently."""
    if not is_free(port, host):
        raise PortInUseError(
            f"{what}: port {port} on {host} is taken by another program; "
            f"stop that program or give {option} another port (0 picks a free one)"
        )
    return port
