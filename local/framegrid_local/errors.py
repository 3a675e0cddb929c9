"""What can go wrong on one machine, by what the caller does about it.

LocalError              one clear sentence for the user, exit status 1
├── StopRequestedError  the user asked for a stop while something was starting: no failure
├── UsageError          the user's input is wrong: exit status 2
├── PortInUseError      an address asked for by name is taken
├── PostgresError       the embedded database cannot be had; a given --database-url still works
└── ChildFailedError    a part of the chain did not become ready; carries the last lines of its log
"""

from __future__ import annotations


class LocalError(Exception):
    """Base: its text is what the user reads, so it says what, where and what to do."""


class StopRequestedError(LocalError):
    """Ctrl-C before everything was running."""


class UsageError(LocalError):
    """The command line or a file given on it is wrong."""


class PortInUseError(LocalError):
    """A port that was asked for is taken."""


class PostgresError(LocalError):
    """The embedded PostgreSQL cannot be installed, initialised or started."""


class ChildFailedError(LocalError):
    """A child process ended, or did not become ready in time."""

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail
