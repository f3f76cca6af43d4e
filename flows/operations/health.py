"""What an examination finds: one thing looked at, and how to mend it."""

from collections.abc import Callable
from dataclasses import dataclass

from flows.runtime.context import Run
from pipeline.errors import NextdayError

__all__ = ["Finding", "look_at", "mend", "told", "well"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    is_well: bool
    what: str
    way_out: str = ""


def well(what: str) -> Finding:
    """Return that there is nothing to mend."""
    return Finding(True, what)


def mend(what: str, way_out: str) -> Finding:
    """Return what is wrong, and the exact way out."""
    return Finding(False, what, way_out)


def look_at(look: Callable[[Run], list[Finding]], run: Run) -> list[Finding]:
    """Return what `look` finds; what it cannot look at is something to mend too."""
    try:
        return look(run)
    except NextdayError as error:
        return [mend(error.what, told(error))]


def told(error: NextdayError) -> str:
    """Return where an error happened and the way out, in one line."""
    return ": ".join(part for part in (error.where, error.way_out) if part)
