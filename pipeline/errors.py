"""Errors that say what happened, where, and what to do about it."""

__all__ = [
    "ConfigError",
    "InputError",
    "LedgerError",
    "NextdayError",
    "SourceError",
    "StoreError",
    "WorkspaceBusyError",
    "quoted",
]


class NextdayError(Exception):
    """Something nextday could not do: exit code 1.

    `models.errors.ModelError` has the same attributes (`what`, `where`, `fix`, `exit_code`) and text; the two are
    separate because models import nothing from pipeline. Code that handles both reads these attributes alone.

    Args:
        what: What happened, in one sentence, with the values that matter.
        where: The file, table, symbol or session it happened in.
        fix: What the reader can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        """Return the three parts, one a line."""
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class InputError(NextdayError):
    """The user's input is wrong: exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """The configuration cannot be used."""


class SourceError(NextdayError):
    """The source of prices did not deliver what a forecast needs."""


class StoreError(NextdayError):
    """The price store cannot be read or written."""


class LedgerError(NextdayError):
    """The ledger refuses a row, or its seal is broken."""


class WorkspaceBusyError(NextdayError):
    """Another run is at work in this workspace."""


def quoted(value: object) -> str:
    """Return what somebody wrote as a message shows it: in quotes, on one line, cut where it is long."""
    text = str(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
