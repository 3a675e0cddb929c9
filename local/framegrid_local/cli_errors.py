"""One clear line instead of a traceback, and the exit status: 2 the user's input, 1 everything else."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from framegrid_local.errors import ChildFailedError, UsageError

# Errors about what the user wrote, by name: their packages are heavy and may not be imported here.
USAGE_ERRORS = frozenset({"ConfigError", "RecordingError", "SettingsError", "TargetError"})
EXIT_FAILURE = 1
EXIT_USAGE = 2


class FriendlyGroup(TyperGroup):
    """Prints the errors that our packages raise on purpose; lets a bug's traceback through."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; see the class."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not is_meant_for_user(error):
                raise
            for line in lines_of(error):
                typer.echo(line, err=True)
            raise typer.Exit(exit_status(error)) from None


def is_meant_for_user(error: Exception) -> bool:
    """Whether its text was written to be read by a user: an exception class of ours."""
    return type(error).__module__.startswith("framegrid_")


def exit_status(error: Exception) -> int:
    """2 when the user's input is at fault."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return EXIT_USAGE if isinstance(error, UsageError) or names & USAGE_ERRORS else EXIT_FAILURE


def lines_of(error: Exception) -> list[str]:
    """The message, and for a child that failed what it wrote last."""
    lines = [f"framegrid: {error}"]
    if isinstance(error, ChildFailedError) and error.log_tail:
        lines += ["its last lines were:", *(f"  | {line}" for line in error.log_tail.splitlines())]
    return lines
