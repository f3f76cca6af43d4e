"""Which exchange calendar fits the days of given prices."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache

import pandas as pd

from pipeline.errors import InputError
from pipeline.market.calendar import calendar
from pipeline.market.exchanges import EXCHANGES

__all__ = ["FittingCalendar", "fit_calendar"]

_COMPARED = timedelta(days=3 * 365)
"""How much of each history is compared, from its end: two exchanges differ on several days of a year."""

_STRANGE = 0.02
"""Share of days that are no sessions, above which a symbol does not trade on the exchange."""

_LOST = 0.5
"""Share of missing sessions above which a history says nothing: that of a fund with a price a week."""


@dataclass(frozen=True)
class FittingCalendar:
    """The calendar that fits most symbols.

    Attributes:
        name: Its name in exchange_calendars.
        alike: Other calendars that fit as well.
        strays: For each symbol that does not fit, an example of a day on which the exchange was closed.
    """

    name: str
    alike: tuple[str, ...]
    strays: Mapping[str, pd.Timestamp]


def fit_calendar(days: Mapping[str, pd.DatetimeIndex], candidates: Iterable[str] = ()) -> FittingCalendar:
    """Return the calendar whose sessions are the days of most symbols.

    Args:
        days: The days with a bar by symbol, ascending; of the long histories the newest years are compared.
        candidates: Calendars to choose from; default: one per exchange, of which those that the symbols' suffixes
            suggest and New York are tried first.

    Raises:
        InputError: no calendar fits any symbol.
    """
    recent = {symbol: each[each > each[-1] - _COMPARED] for symbol, each in days.items()}
    names = [*candidates] or [*_suggested(recent), "XNYS"]
    fits = {symbol: _best(each, names) for symbol, each in recent.items()}
    if not candidates and any(faults for faults, _ in fits.values()):
        names = [*dict.fromkeys([*names, *EXCHANGES])]
        fits = {symbol: _best(each, names) for symbol, each in recent.items()}
    named = Counter(names[0] for _, names in fits.values() if names)
    if not named:
        raise _no_fit(recent)
    name = named.most_common(1)[0][0]
    strays = {
        symbol: closed[0]
        for symbol, each in recent.items()
        if len(closed := _closed_days(each, name)) > _few(each)
    }
    alike = set.intersection(*({*names} for _, names in fits.values() if name in names)) - {name}
    return FittingCalendar(name, tuple(sorted(alike)), strays)


def _suggested(symbols: Iterable[str]) -> list[str]:
    suffixes = {symbol.rpartition(".")[2] for symbol in symbols if "." in symbol}
    return [name for name, (_, known) in EXCHANGES.items() if suffixes & {*known.split()}]


def _best(days: pd.DatetimeIndex, names: Iterable[str]) -> tuple[int, list[str]]:
    """Return how many days do not fit, and the calendars with that number; none where too many do not."""
    faults: dict[str, int] = {}
    for name in dict.fromkeys(names):
        sessions = _sessions(name, days[0], days[-1])
        missing = len(sessions.difference(days))
        closed = len(days.difference(sessions))
        if len(sessions) and closed <= _few(days) and missing <= _LOST * len(sessions):
            faults[name] = closed + missing
    least = min(faults.values(), default=len(days))
    return least, [name for name, number in faults.items() if number == least]


def _few(days: pd.DatetimeIndex) -> int:
    return int(_STRANGE * len(days))


def _closed_days(days: pd.DatetimeIndex, name: str) -> pd.DatetimeIndex:
    return days.difference(_sessions(name, days[0], days[-1]))


def _sessions(name: str, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
    """Return the sessions of a calendar in [first, last]; none where it cannot be built."""
    sessions = _sessions_of_years(name, first.year, last.year)
    return sessions[(sessions >= first) & (sessions <= last)]


@cache
def _sessions_of_years(name: str, first: int, last: int) -> pd.DatetimeIndex:
    try:
        return calendar(name, date(first, 1, 1), datetime(last, 12, 31, tzinfo=UTC)).sessions
    except InputError:
        return pd.DatetimeIndex([])


def _no_fit(days: Mapping[str, pd.DatetimeIndex]) -> InputError:
    symbol, each = next(iter(days.items()))
    weekend = each[each.day_of_week >= 5]
    example = f", such as {weekend[0]:%A %Y-%m-%d}" if len(weekend) > _few(each) else ""
    return InputError(
        f"The days of {symbol}{example} are the sessions of no exchange that nextday knows",
        where=f"{len(each)} days from {each[0]:%Y-%m-%d} to {each[-1]:%Y-%m-%d}",
        fix="give daily bars of an exchange that closes, or name its calendar with --calendar, for example XNYS",
    )
