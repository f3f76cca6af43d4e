"""The known names of bar columns in users' tables and files."""

import re
from collections.abc import Iterable, Mapping

__all__ = ["COLUMN_NAMES", "DEFAULTS", "PRICES", "REQUIRED", "assign_meanings", "find_meaning"]

COLUMN_NAMES = {
    "session": ("session", "date", "datetime", "timestamp"),
    "symbol": ("symbol", "ticker", "tic"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close", "closelast"),
    "volume": ("volume", "vol"),
    "adj_close": ("adjclose", "adjustedclose", "adjcloseprice", "adjustedcloseprice"),
    "dividend": ("dividend", "dividends", "dividendamount", "divcash", "cashdividend", "exdividend"),
    "split": ("split", "splits", "stocksplits", "splitratio", "splitfactor", "splitcoefficient"),
}
"""Names by bar column: pandas and yfinance, Tiingo, Alpha Vantage, Quandl's WIKI, Nasdaq.com, Stooq, FinRL."""

_SECOND_CHOICE = {"session": ("day",), "symbol": ("name",), "close": ("price",)}
"""Names that mean a bar column only where no other column does: investing.com's Price, Kaggle's Name."""

REQUIRED = ["session", "open", "high", "low", "close"]
PRICES = frozenset(("open", "high", "low", "close"))
DEFAULTS = {"volume": float("nan"), "adj_close": float("nan"), "dividend": 0.0, "split": 1.0}


def _by_alias(names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {alias: name for name, aliases in names.items() for alias in aliases}


_FIRST, _SECOND = _by_alias(COLUMN_NAMES), _by_alias(_SECOND_CHOICE)


def find_meaning(column: object) -> str | None:
    """Return the bar column of a name or alias (ignoring case, blanks, and signs such as . _ - / <>); None if unknown.

    A name of second choice is unknown here: `assign_meanings` knows the other columns.
    """
    return _FIRST.get(_plain(column))


def assign_meanings(columns: Iterable[object]) -> dict[object, str | None]:
    """Return the bar column that each column of a table means, None for an unknown one."""
    found = {column: find_meaning(column) for column in columns}
    open_ones = {alias: meaning for alias, meaning in _SECOND.items() if meaning not in found.values()}
    return {column: meaning or open_ones.get(_plain(column)) for column, meaning in found.items()}


def _plain(column: object) -> str:
    return re.sub(r"[\s_\-./<>]", "", str(column)).lower()
