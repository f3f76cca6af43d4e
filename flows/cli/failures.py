"""What ended a command: a signal, or an error that nobody expected."""

import signal
import traceback

__all__ = ["describe_unexpected", "find_signal"]


def find_signal(error: BaseException | None) -> int:
    """Return the signal that caused the error, 0 for none: Prefect fails on one that arrives as it makes a task run."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return signal.SIGINT
        if type(error).__name__ == "TerminationSignal":  # Prefect's, which may not be loaded
            return int(getattr(error, "signal", signal.SIGTERM))
        error = error.__context__
    return 0


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
