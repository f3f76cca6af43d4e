"""What an examination finds: one thing looked at, and how to fix it."""

from collections.abc import Callable
from dataclasses import dataclass

from flows.runtime.context import Run
from pipeline.errors import NextdayError

__all__ = ["Finding", "mend", "run_check", "told", "well"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    is_well: bool
    what: str
    fix: str = ""


def well(what: str) -> Finding:
    """Return that there is nothing to fix."""
    return Finding(True, what)


def mend(what: str, fix: str) -> Finding:
    """Return what is wrong, and the exact fix."""
    return Finding(False, what, fix)


def run_check(look: Callable[[Run], list[Finding]], run: Run) -> list[Finding]:
    """Return what `look` finds; what it cannot look at is something to fix too."""
    try:
        return look(run)
    except NextdayError as error:
        return [mend(error.what, told(error))]


def told(error: NextdayError) -> str:
    """Return where an error happened and the fix, in one line."""
    return ": ".join(part for part in (error.where, error.fix) if part)
