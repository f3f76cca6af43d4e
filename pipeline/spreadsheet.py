"""What a cell of a CSV file may hold: spreadsheets run a text that looks like a formula."""

import re
from typing import Any, Final

__all__ = ["disarm"]

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
