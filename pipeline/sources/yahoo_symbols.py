"""Symbols as Yahoo writes them: what is an ISIN, how other vendors' notations read, and which two are the same."""

import re
from typing import Final

from pipeline.market.exchanges import EXCHANGES

__all__ = ["is_isin", "is_same_symbol", "suggest_symbol"]

_ISIN: Final = re.compile(r"[A-Z]{2}[A-Z0-9]{9}[0-9]")
_SHARE_CLASS: Final = re.compile(r"([A-Z0-9]{1,6})[./_]([A-Z])(\.[A-Z]{1,3})?")
_SUFFIXES: Final = {suffix for _, suffixes in EXCHANGES.values() for suffix in suffixes.split()}


def is_isin(symbol: str) -> bool:
    """Whether it has the form of an ISIN, which yfinance would look up by name instead of asking for prices."""
    return _ISIN.fullmatch(symbol.upper()) is not None


def suggest_symbol(symbol: str) -> str | None:
    """Return Yahoo's notation of a symbol that is written as other vendors do; None where nothing is known.

    Yahoo writes a share class after a hyphen (BRK-B, RCI-B.TO) and symbols of the United States without a suffix.
    """
    name = symbol.upper()
    if name.endswith(".US"):
        return suggest_symbol(name[:-3]) or name[:-3]
    found = _SHARE_CLASS.fullmatch(name)
    if found is None or (found[3] is None and f"{found[2]}" in _SUFFIXES):
        return None
    return f"{found[1]}-{found[2]}{found[3] or ''}"


def is_same_symbol(asked: str, stated: str) -> bool:
    """Whether an answer that states a symbol belongs to the requested one; currencies are also known without USD."""
    names = [
        name.upper().removeprefix("USD") if name.endswith("=X") else name.upper() for name in (asked, stated)
    ]
    return names[0] == names[1]
