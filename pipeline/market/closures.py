"""Corrections of an exchange calendar: unscheduled closures, early closes and extra sessions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline.errors import InputError, quoted
from pipeline.storage.csv_input import parse_dates, read_table

__all__ = ["Override", "from_rows", "read_overrides", "to_rows"]

_CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Override:
    """The hours of one session in the exchange's local time; both None where the exchange was closed that day."""

    session: date
    opens: time | None = None
    closes: time | None = None

    def __post_init__(self) -> None:
        """Validate the hours.

        Raises:
            ValueError: only one of the two is given, or the close is not after the open.
        """
        if (self.opens is None) != (self.closes is None):
            raise ValueError("give both hours, or neither for a day on which the exchange was closed")
        if self.opens is not None and self.closes is not None and self.opens >= self.closes:
            raise ValueError(
                f"it closes at {self.closes:%H:%M}, which is not after it opens at {self.opens:%H:%M}"
            )


def read_overrides(path: Path) -> tuple[Override, ...]:
    """Read a CSV with the columns session, opens, closes (local HH:MM; both blank: closed); keep the order of its rows.

    Raises:
        InputError: the file cannot be read, or a row is invalid.
    """
    table = read_table(
        path, needed=("session", "opens", "closes"), what="The closures file", key="[universe] closures"
    )
    days = parse_dates(table, "session", path)
    overrides = [
        _override(day, opens, closes, f"{path}, data row {row + 1}")
        for row, (day, opens, closes) in enumerate(zip(days, table["opens"], table["closes"], strict=True))
    ]
    if (again := days.duplicated().to_numpy()).any():
        row = int(again.argmax())
        raise InputError(
            f"{days[row]:%Y-%m-%d} is listed twice",
            where=f"{path}, data row {row + 1}",
            fix="give each session one row",
        )
    return tuple(overrides)


def to_rows(overrides: Sequence[Override]) -> list[list[str | None]]:
    """Return [session, opens, closes] of each override as JSON values."""
    return [
        [f"{one.session}", *(None if hour is None else f"{hour:%H:%M}" for hour in (one.opens, one.closes))]
        for one in overrides
    ]


def from_rows(rows: Sequence[Sequence[str | None]]) -> tuple[Override, ...]:
    """Return the overrides that `to_rows` wrote."""
    return tuple(
        Override(
            date.fromisoformat(str(session)), *(None if h is None else time.fromisoformat(h) for h in hours)
        )
        for session, *hours in rows
    )


def _override(day: pd.Timestamp, opens: str | float, closes: str | float, where: str) -> Override:
    try:
        if pd.isna(day):
            raise ValueError("it names no session")
        return Override(day.date(), _time(opens), _time(closes))
    except ValueError as error:
        raise InputError(
            f"This row of the closures file is invalid: {error}",
            where=where,
            fix="write 2025-01-09,, for a day on which the exchange was closed, 2024-11-29,09:30,13:00 for other hours",
        ) from None


def _time(cell: str | float) -> time | None:
    if not isinstance(cell, str):
        return None
    if not (found := _CLOCK.fullmatch(cell)):
        raise ValueError(f"{quoted(cell)} is no time of day")
    return time(int(found[1]), int(found[2]))
