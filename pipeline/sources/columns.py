"""The known names of bar columns in users' tables and files."""

import re

__all__ = ["COLUMN_NAMES", "DEFAULTS", "REQUIRED", "find_meaning"]

COLUMN_NAMES = {
    "session": ("session", "date", "datetime", "timestamp", "day"),
    "symbol": ("symbol", "ticker"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "volume": ("volume", "vol"),
    "adj_close": ("adjclose", "adjustedclose"),
    "dividend": ("dividend", "dividends"),
    "split": ("split", "splits", "stocksplits"),
}
_ALIASES = {alias: name for name, aliases in COLUMN_NAMES.items() for alias in aliases}
REQUIRED = ["session", "open", "high", "low", "close"]
DEFAULTS = {"volume": float("nan"), "adj_close": float("nan"), "dividend": 0.0, "split": 1.0}


def find_meaning(column: object) -> str | None:
    """Return the bar column of a name or alias (ignoring case, blanks, hyphens, underscores); None if unknown."""
    return _ALIASES.get(re.sub(r"[\s_\-]", "", str(column)).lower())
