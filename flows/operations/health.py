"""The result of one check of the installation: whether it passed, what was found, and the fix."""

from collections.abc import Callable
from dataclasses import dataclass

from flows.runtime.context import Run
from pipeline.errors import NextdayError

__all__ = ["HealthCheck", "describe_error", "failed", "passed", "run_check"]


@dataclass(frozen=True)
class HealthCheck:
    """The result of one check.

    Attributes:
        is_passed: Whether there is nothing to fix.
        what: What was found, in one line.
        fix: How to fix it: a command where there is one.
    """

    is_passed: bool
    what: str
    fix: str = ""


def passed(what: str) -> HealthCheck:
    """Return a check with nothing to fix."""
    return HealthCheck(True, what)


def failed(what: str, fix: str) -> HealthCheck:
    """Return a check with a problem and its fix."""
    return HealthCheck(False, what, fix)


def run_check(check: Callable[[Run], list[HealthCheck]], run: Run) -> list[HealthCheck]:
    """Return the results of `check`; an error that it raises is a failed check."""
    try:
        return check(run)
    except NextdayError as error:
        return [failed(error.what, describe_error(error))]


def describe_error(error: NextdayError) -> str:
    """Return where an error happened and its fix, in one line."""
    return ": ".join(part for part in (error.where, error.fix) if part)
