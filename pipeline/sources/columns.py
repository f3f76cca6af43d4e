"""The known names of bar columns in users' tables and files, and unknown ones that look like splits or dividends."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from pipeline.errors import quoted
from pipeline.sources.cells import read_numbers

__all__ = [
    "COLUMN_NAMES",
    "DEFAULTS",
    "PRICES",
    "REQUIRED",
    "add_gains",
    "assign_meanings",
    "describe_doubt",
    "find_doubtful",
    "find_meaning",
    "is_action_name",
    "is_adjusted_price",
]

COLUMN_NAMES = {
    "session": (
        "session", "date", "dates", "datetime", "timestamp", "tradedate", "tradingdate", "exchangedate", "datum",
        "fecha",
    ),
    "symbol": ("symbol", "ticker", "tic"),
    "open": (
        "open", "openprice", "priceopen", "pxopen", "openprc", "eröffnung", "eroeffnung", "eröffn", "erster", "ouv",
        "ouverture", "apertura", "otwarcie",
    ),
    "high": (
        "high", "highprice", "pricehigh", "pxhigh", "high1", "hoch", "tageshoch", "plushaut", "máximo", "maximo",
        "najwyzszy",
    ),
    "low": (
        "low", "lowprice", "pricelow", "pxlow", "low1", "tief", "tagestief", "plusbas", "mínimo", "minimo", "najnizszy",
    ),
    "close": (
        "close", "closelast", "closeprice", "closingprice", "priceclose", "pxlast", "schluss", "schlusskurs", "dernier",
        "clôture", "cloture", "cierre", "zamkniecie",
    ),
    "volume": (
        "volume", "vol", "pxvolume", "acvol1", "totaltradedquantity", "tottrdqty", "noofshares", "stuecke", "stücke",
        "wolumen",
    ),
    "adj_close": (
        "adjclose", "adjustedclose", "adjcloseprice", "adjustedcloseprice", "adjusted", "closeadj", "closeadjusted",
        "adjprice", "adjcp",
    ),
    "dividend": (
        "dividend", "dividends", "dividendamount", "divcash", "cashdividend", "exdividend", "dividendpershare",
    ),
    "gain": ("capitalgain", "capitalgains"),
    "split": ("split", "splits", "stocksplit", "stocksplits", "splitratio", "splitfactor", "splitcoefficient"),
}  # fmt: skip
"""Names by bar column: pandas, yfinance, quantmod, Tiingo, Alpha Vantage, EODHD, Quandl's WIKI, Sharadar, Nasdaq.com,
Stooq, FinRL, NSE and BSE, Bloomberg, Refinitiv, and the German, French, Spanish and Polish pages of vendors. The
capital gains that a fund paid out, `gain`, count as dividends: `add_gains`."""

_SECOND_CHOICE = {
    "session": ("day", "time", "index", "windowstart", "data", "t"),
    "symbol": ("code", "ric", "instrument", "security", "stock", "name"),
    "open": ("o",),
    "high": ("h",),
    "low": ("l",),
    "close": (
        "price", "last", "latest", "lastprice", "zuletzt", "último", "ultimo", "settle", "nav", "netassetvalue", "c",
    ),
    "volume": ("volumen", "v"),
}  # fmt: skip
"""Names that mean a bar column only where no other column does, the first of them: investing.com's Price, Barchart's
Last, Kaggle's Name, Polygon's letters, the net asset value of funds."""

REQUIRED = ["session", "close"]
PRICES = frozenset(("open", "high", "low", "close"))
_NONE = float("nan")
DEFAULTS = {
    **dict.fromkeys(("open", "high", "low", "volume", "adj_close"), _NONE),
    "dividend": 0.0,
    "split": 1.0,
}
"""What a bar has where its table lacks a column: prices and volumes are missing, never made up."""


def _by_alias(names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {alias: name for name, aliases in names.items() for alias in aliases}


_FIRST = _by_alias(COLUMN_NAMES)


def find_meaning(column: object) -> str | None:
    """Return the bar column of a name or alias; None if unknown.

    Case, blanks, a number in front as in `1. open`, and signs such as . _ - / < > * $ are ignored. A name of second
    choice is unknown here: `assign_meanings` knows the other columns.
    """
    return _FIRST.get(_plain(column))


def assign_meanings(columns: Iterable[object]) -> dict[object, str | None]:
    """Return the bar column that each column of a table means, None for an unknown one."""
    found = {column: find_meaning(column) for column in columns}
    plain = {_plain(column) for column in found}
    chosen = {
        next(alias for alias in aliases if alias in plain): meaning
        for meaning, aliases in _SECOND_CHOICE.items()
        if meaning not in found.values() and plain.intersection(aliases)
    }
    return {column: meaning or chosen.get(_plain(column)) for column, meaning in found.items()}


_ACTION_WORDS = frozenset(
    (
        "adj", "adjusted", "adjustment", "unadj", "unadjusted", "split", "splits", "div", "divs", "dividend",
        "dividends", "dvd", "distribution", "distributions", "bonus", "rights", "factor", "fctr", "cfacpr", "facpr",
        "ajexdi", "divamt",
    )
)  # fmt: skip
_NO_ACTION_WORDS = frozenset(("yield", "date", "currency", "frequency", "type", "id"))


def is_action_name(column: object) -> bool:
    """Whether a column looks by its name like a split, a dividend, or an adjusted price."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", str(column))}
    is_action = bool(words & _ACTION_WORDS) or _plain(column).startswith(
        ("adj", "split", "dividend", "divcash")
    )
    return (is_action or find_meaning(column) == "gain") and not words & _NO_ACTION_WORDS


def is_adjusted_price(column: object) -> bool:
    """Whether a column holds a price or volume of another adjustment, as Adj. Open and closeunadj do."""
    bare = re.sub(r"^(un)?adj(usted)?|(un)?adj(usted)?$", "", _plain(column))
    return _FIRST.get(bare) in PRICES | {"volume"}


def add_gains(dividend: "pd.Series[float]", gain: "pd.Series[float]") -> "pd.Series[float]":
    """Return the dividends with the capital gains of funds; a dividend at least as large as the gain includes it."""
    return dividend.fillna(0.0) + gain.where(dividend.fillna(0.0) < gain, 0.0)


_MOST = 4
"""Columns that a message lists."""


def find_doubtful(names: Mapping[object, str | None], rows: pd.DataFrame) -> str:
    """Return which unread columns look like actions or adjusted prices and hold something that would count; "" if none.

    Args:
        names: What each column means, None for one that is not read.
        rows: The table with these columns.
    """
    is_known = "adj_close" in names.values()  # then the other adjusted prices tell nothing new
    doubtful = [
        quoted(column)
        for column, name in names.items()
        if not name
        and is_action_name(column)
        and not (is_known and is_adjusted_price(column))
        and not _is_neutral(rows[column])
    ]
    more = f" and {len(doubtful) - _MOST} more" if len(doubtful) > _MOST else ""
    return ", ".join(doubtful[:_MOST]) + more


def describe_doubt(columns: str, place: str) -> str:
    """Return the detail of the finding `column not read`."""
    return (
        f"{columns} of {place}: a split, a dividend or an adjusted price? Rename it to split, dividends or adj_close, "
        "or delete it"
    )


def _is_neutral(values: "pd.Series[Any]") -> bool:
    """Whether a column is empty, or 0 everywhere, or 1: no split and no dividend is lost with it."""
    for decimal in (".", ","):
        cells = read_numbers(values, decimal)
        if not cells.is_bad.any():
            return set(cells.values.dropna()) in (set(), {0.0}, {1.0})
    return False


def _plain(column: object) -> str:
    return re.sub(r"^\d+\. |[\s_\-./<>*()$€£]", "", str(column)).lower()
