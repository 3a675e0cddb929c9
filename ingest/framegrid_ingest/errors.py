"""What can go wrong in ingest, as exceptions that somebody catches differently.

    IngestError
    ├── ConfigError            the text of a YAML file is wrong: nothing is started from it
    ├── RegistryError          cameras are not listed or changed as asked; carries an HTTP status
    ├── ClusterError           the Kubernetes API server did not do it, see kubernetes/cluster.py
    ├── RecordingError         a recording cannot be analysed as asked for
    ├── SourceError            a camera could not be opened or read; carries `fault`
    ├── FrameError             one picture cannot be used (corrupt, too large); the stream goes on
    └── ClientError            serve did not answer as expected
        ├── RetryLaterError    worth another try; carries `retry_after_s`
        └── RefusedError       serve said no, and will say no again

Every message says what was expected, what came, where (never with credentials) and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class IngestError(Exception):
    """Anything that ingest raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a YAML file. `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ConfigError(IngestError):
    """All mistakes found in one file, in the order of its lines."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=lambda p: (p.line, p.column, p.key, p.message)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class RegistryError(IngestError):
    """The cameras cannot be shown or changed as asked. `problems` are (key, message) of a wrong camera."""

    def __init__(self, status: int, message: str, problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.problems = tuple(problems)


class RecordingError(IngestError):
    """What was asked for, of a recording or of what to write, cannot be."""


class SourceFault(str, Enum):
    """Why a camera gives no frames. The value is what status, events and metrics show."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    NOT_VIDEO = "not_video"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    STALLED = "stalled"
    TLS = "tls"
    SERVER = "server_error"
    RESET = "reset"
    ENDED = "ended"
    DEVICE = "device"
    OTHER = "other"


class SourceError(IngestError):
    """A camera could not be opened or read. `fault` is the machine's word for it."""

    def __init__(self, fault: SourceFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class FrameError(IngestError):
    """One picture cannot be used; the next may be fine."""


class ClientError(IngestError):
    """Serve did not answer as expected."""


class RetryLaterError(ClientError):
    """Worth another try, `retry_after_s` from now at the earliest.

    `is_busy`: serve is there, and full. `is_load_counted`: it noted the load that the request told.
    """

    def __init__(
        self,
        message: str,
        retry_after_s: float = 0.0,
        is_busy: bool = False,
        is_load_counted: bool = False,
    ) -> None:
        super().__init__(message)
        self.is_load_counted = is_load_counted
        self.retry_after_s = retry_after_s
        self.is_busy = is_busy


class RefusedError(ClientError):
    """Serve said no, and will say no again to the same request."""
