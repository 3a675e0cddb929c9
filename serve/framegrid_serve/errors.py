"""What can go wrong in serve, by what the caller does about it.

ServeError
├── ModelError          stop: this bundle cannot be served; the text says what to change
├── UnknownModelError   404: no model of that name here
├── OverloadError       429: retry after `retry_after_s`
├── CorruptImageError   this frame only: not a picture, or too large
└── StartError          stop: this machine cannot start serve as configured

`wire.WireError` (400) stands apart, so that `wire` imports nothing.
"""

from __future__ import annotations


class ServeError(Exception):
    """Base of everything that serve raises on purpose."""


class ModelError(ServeError):
    """A bundle is missing, damaged or not what it says."""


class UnknownModelError(ServeError):
    """The request names a model that is not loaded."""


class OverloadError(ServeError):
    """The queue is full. Nothing of the request was taken."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CorruptImageError(ServeError):
    """The bytes are not a picture that is analysed."""


class StartError(ServeError):
    """Settings, ports or files do not allow a start."""
