"""Errors with what happened, where, and how to fix it."""

import re

__all__ = [
    "ConfigError",
    "CopyError",
    "InputError",
    "LedgerDamagedError",
    "LedgerError",
    "LedgerUnreachableError",
    "NextdayError",
    "SourceError",
    "StoreError",
    "StoreUnreachableError",
    "TrackingUnreachableError",
    "WorkspaceBusyError",
    "printable",
    "quoted",
]

_PASSWORD = re.compile(r"(?<=:/)/?[^/\s@]*:[^/\s@]*@")
"""User and password in a URL; a path that was made of one has a single slash left."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, and what reverses the direction of text."""


class NextdayError(Exception):
    """An operation failed: exit code 1. A password in a URL is never repeated, a control character never printed.

    `models.errors.ModelError` has the same attributes (`what`, `where`, `fix`, `exit_code`) and text; the two are
    separate because models import nothing from pipeline. Code that handles both reads these attributes alone.

    Args:
        what: What happened, in one sentence, with the values that matter.
        where: The file, table, symbol or session concerned.
        fix: What the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = (
            printable(_PASSWORD.sub("...@", text)) for text in (what, where, fix)
        )
        super().__init__(self.what)

    def __str__(self) -> str:
        """Return the three parts, one per line."""
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class InputError(NextdayError):
    """The user's input is invalid: exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """The configuration is invalid."""


class SourceError(NextdayError):
    """The price source did not deliver the data that a forecast needs."""


class StoreError(NextdayError):
    """The price store cannot be read or written."""


class StoreUnreachableError(StoreError):
    """The object store of the prices does not answer, or refuses: exit code 2."""

    exit_code = 2


class CopyError(NextdayError):
    """The object store to which reports are copied does not answer, or refuses; what is copied was written before."""


class LedgerError(NextdayError):
    """The ledger refused a row, cannot be used, or failed its verification."""


class LedgerDamagedError(LedgerError):
    """The ledger's file is damaged, or no ledger at all."""


class LedgerUnreachableError(LedgerError):
    """The database that holds the ledger cannot be reached: exit code 2, for a rerun goes on where this one ended."""

    exit_code = 2


class TrackingUnreachableError(NextdayError):
    """The MLflow server that several machines share does not answer, or refuses: exit code 2."""

    exit_code = 2


class WorkspaceBusyError(NextdayError):
    """Another run is using this workspace."""


def printable(text: str) -> str:
    """Return a text that changes nothing on a terminal: control characters are written as in Python (\\x1b)."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def quoted(value: object) -> str:
    """Quote a user's value for a message: on one line, shortened to 60 characters."""
    text = str(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
