"""What ended a command: a signal, or an error that nobody expected."""

import os
import signal
import sys
import traceback
from pathlib import Path

import typer

from flows.runtime.wrapping import wrap_words

__all__ = ["describe_unexpected", "echo_wrapped", "find_cause", "find_signal"]


def echo_wrapped(text: str) -> None:
    """Print to standard error; in a terminal, lines are broken between words."""
    if sys.stderr.isatty():
        text = wrap_words(text, os.get_terminal_size(sys.stderr.fileno()).columns or 80)
    typer.echo(text, err=True)


def find_signal(error: BaseException | None) -> int:
    """Return the signal that caused the error, 0 for none: Prefect fails on one that arrives as it makes a task run."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return signal.SIGINT
        if type(error).__name__ == "TerminationSignal":  # Prefect's, which may not be loaded
            return int(getattr(error, "signal", signal.SIGTERM))
        error = error.__context__
    return 0


def find_cause(error: Exception) -> Exception:
    """Return the error that names Prefect's settings, if Prefect failed and cannot read them; else the error itself.

    Prefect reads them as it is imported, which many commands do somewhere.
    """
    if any("prefect" in Path(frame.filename).parts for frame in traceback.extract_tb(error.__traceback__)):
        from flows.runtime.prefect_settings import require_settings
        from pipeline.errors import ConfigError

        try:
            require_settings()
        except ConfigError as cause:
            return cause
    return error


def describe_unexpected(error: Exception) -> str:
    """Return the message of an error of the program itself: where it was raised, and how to see the traceback."""
    from pipeline.errors import NextdayError

    last = traceback.extract_tb(error.__traceback__)[-1]
    described = NextdayError(
        f"Unexpected error: {type(error).__name__}: {error}",
        where=f"{last.filename}, line {last.lineno}",
        fix="run the same command with nextday --debug to see the whole traceback",
    )
    return str(described)
