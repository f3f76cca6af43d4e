"""The known names of bar columns in users' tables and files."""

import re
from collections.abc import Iterable, Mapping

__all__ = [
    "COLUMN_NAMES",
    "DEFAULTS",
    "PRICES",
    "REQUIRED",
    "assign_meanings",
    "find_meaning",
    "is_action_name",
    "is_adjusted_price",
    "is_capital_gain",
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
    "split": ("split", "splits", "stocksplit", "stocksplits", "splitratio", "splitfactor", "splitcoefficient"),
}  # fmt: skip
"""Names by bar column: pandas, yfinance, quantmod, Tiingo, Alpha Vantage, EODHD, Quandl's WIKI, Sharadar, Nasdaq.com,
Stooq, FinRL, NSE and BSE, Bloomberg, Refinitiv, and the German, French, Spanish and Polish pages of vendors."""

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
    return (is_action or is_capital_gain(column)) and not words & _NO_ACTION_WORDS


def is_adjusted_price(column: object) -> bool:
    """Whether a column holds a price or volume of another adjustment, as Adj. Open and closeunadj do."""
    bare = re.sub(r"^(un)?adj(usted)?|(un)?adj(usted)?$", "", _plain(column))
    return _FIRST.get(bare) in PRICES | {"volume"}


def is_capital_gain(column: object) -> bool:
    """Whether the column holds the capital gains that a fund paid out, as yfinance names it."""
    return _plain(column) in ("capitalgain", "capitalgains")


def _plain(column: object) -> str:
    return re.sub(r"^\d+\. |[\s_\-./<>*()$€£]", "", str(column)).lower()
