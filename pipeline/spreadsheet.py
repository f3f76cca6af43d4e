"""What a cell of a CSV file may hold: spreadsheets run a text that looks like a formula."""

import re
from typing import Any, Final

import pandas as pd

__all__ = ["disarm", "format_csv"]

_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What OWASP ("CSV Injection") names as the beginning of a formula, the full-width forms among them."""


def disarm(cell: Any) -> Any:
    """Return a cell that no spreadsheet runs: such a text is led by an apostrophe; what is no text stays.

    Line breaks become blanks: the csv module leaves some of them unquoted, and a new row would begin there.
    """
    if not isinstance(cell, str):
        return cell
    line = re.sub(r"[\r\n]", " ", cell)
    return f"'{line}" if cell.startswith(_FORMULA_SIGNS) else line


def format_csv(frame: pd.DataFrame) -> str:
    """Return a frame as CSV: numbers with six decimals, texts that no spreadsheet runs."""
    text = frame.select_dtypes(["str", "object"])
    # A column of many rows has few different texts.
    safe = {
        str(name): column.map({cell: disarm(cell) for cell in column.unique()})
        for name, column in text.items()
    }
    return str(frame.assign(**safe).to_csv(index=False, float_format="%.6f", lineterminator="\n"))
