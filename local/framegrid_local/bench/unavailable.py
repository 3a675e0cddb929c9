"""What a machine cannot measure: told in the report, never left out silently."""

from __future__ import annotations


class UnavailableError(RuntimeError):
    """This machine lacks what a measurement needs; the text says what."""
