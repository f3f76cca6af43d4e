"""How the text of a user's file is laid out: its encoding, its separator, and which lines name the columns."""

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.sources.columns import PRICES, assign_meanings, find_meaning

__all__ = [
    "HEAD_LINES",
    "Layout",
    "find_encoding",
    "find_layout",
    "find_other_prices",
    "is_kind_of_price",
    "split_names",
]

HEAD_LINES = 40
"""Lines in which the header is looked for: exports begin with titles."""

_SEPARATORS = (",", ";", "\t", "|")
_LEVEL_NAMES = ("", "price", "ticker", "tickers", "symbol", "symbols", "attributes")
_KINDS_OF_PRICE = frozenset(
    ("adj", "adjusted", "unadj", "unadjusted", "raw", "bid", "ask", "offer", "mid", "prev", "previous")
)
"""Words beside open, high, low and close that are no symbols."""
_ENCODINGS = {  # a longer mark before the shorter one that it begins with
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Layout:
    """Where the rows of a text file begin, and what its columns are named.

    Attributes:
        separator: Between two cells.
        skipped: Number of lines above the first row.
        names: The name of each column.
        symbols: The symbol of each column where columns belong to symbols, "" for the dates; else empty.
    """

    separator: str
    skipped: int
    names: tuple[str, ...]
    symbols: tuple[str, ...] = ()


def find_encoding(first: bytes) -> str:
    """Return the encoding by the mark at the beginning of a file; UTF-8 without one."""
    return next((name for mark, name in _ENCODINGS.items() if first.startswith(mark)), "utf-8-sig")


def find_layout(lines: Sequence[str]) -> Layout:
    """Return the layout of a file that begins with these lines; without a known header, that of commas."""
    for separator in _SEPARATORS:
        rows = [row or [""] for row in csv.reader(lines, delimiter=separator)]
        if (found := _find_header(rows, separator)) is not None:
            return found
    first = next(csv.reader(lines[:1]), [])
    return Layout(",", 1, tuple(first))


def _find_header(rows: Sequence[Sequence[str]], separator: str) -> Layout | None:
    for number, row in enumerate(rows):
        if (wide := _two_headers(rows[number : number + 3])) is not None:
            names, symbols, lines = wide
            return Layout(separator, number + lines, names, symbols)
        if _is_header(row):
            return Layout(separator, number + 1, tuple(row))
    return None


def _is_header(cells: Sequence[str]) -> bool:
    meanings = set(assign_meanings(cells).values())
    has_dates = "session" in meanings or cells[0] == "" or cells[0].startswith("Unnamed: ")
    return has_dates and ("close" in meanings or bool(split_names(cells) or find_other_prices(cells)))


def _two_headers(rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[str, ...], int] | None:
    """Return names, symbols and the number of header lines of a table with two header lines, as yfinance writes it.

    One line names the prices, the other the symbols. A third one, that names the dates alone, may follow.
    """
    if len(rows) < 2 or len(rows[0]) != len(rows[1]):
        return None
    has_third = len(rows) > 2 and find_meaning(rows[2][0]) == "session" and not any(rows[2][1:])
    for names, symbols in ((rows[0], rows[1]), (rows[1], rows[0])):
        pairs = list(zip(names, symbols, strict=True))
        columns = [at for at, pair in enumerate(pairs) if not all(map(_is_label, pair))]
        meanings = {find_meaning(names[at]) for at in columns}
        known = {find_meaning(symbols[at]) for at in columns} - {None}
        is_named = all(names[at] and symbols[at] and not _is_number(symbols[at]) for at in columns)
        if (
            is_named
            and "close" in meanings
            and not meanings & {"session", "symbol"}
            and (has_third or not known)
        ):
            dates = [find_meaning(name) or find_meaning(symbol) for name, symbol in pairs]
            at = dates.index("session") if "session" in dates else 0
            return (
                tuple("date" if number == at else name for number, name in enumerate(names)),
                tuple(symbol if number in columns else "" for number, symbol in enumerate(symbols)),
                3 if has_third else 2,
            )
    return None


def _is_label(cell: str) -> bool:
    return cell.lower() in _LEVEL_NAMES or find_meaning(cell) == "session"


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[$€£]?-?[\d.,]+[KMB%]?", cell) is not None


def split_names(columns: Sequence[object]) -> dict[object, tuple[str, str]]:
    """Return the bar column and the symbol of each column named by both; empty where other columns may be meant.

    Each symbol has all four prices; or, with closes alone, there are two symbols at least, and nothing else but dates:
    a lone `Prev Close` is no close of a symbol `Prev`. Such names are `('Close', 'AAPL')`, `Close_AAPL` and
    `AAPL.Close`: flattened tables of pandas, R's quantmod.
    """
    pairs = {column: _split_name(str(column)) for column in columns}
    split = {
        column: named[0] for column, parts in pairs.items() if (named := [*filter(_is_bar_column, parts)])
    }
    meanings: dict[str, set[str | None]] = {}
    for name, symbol in split.values():
        meanings.setdefault(symbol, set()).add(find_meaning(name))
    if not meanings or not all("close" in found for found in meanings.values()):
        return {}
    if not all(found >= PRICES for found in meanings.values()):
        rest = [str(column) for column in columns if column not in split]
        if len(meanings) < 2 or not all(map(_may_be_dates, rest)):
            return {}
    others = {column: [part for part in parts if part[1] in meanings] for column, parts in pairs.items()}
    return {column: parts[0] for column, parts in others.items() if parts} | split


def find_other_prices(columns: Sequence[object]) -> list[str]:
    """Return the words that say what the prices are where columns are named as bid_open or adj_close, in lower case."""
    found = [
        symbol.lower().rstrip(".")
        for column in columns
        for name, symbol in _split_name(str(column))
        if is_kind_of_price(name, symbol) and find_meaning(name) in PRICES
    ]
    return [*dict.fromkeys(found)]


def is_kind_of_price(name: str, symbol: str) -> bool:
    """Whether what stands beside a column's name is no symbol, but says what the prices are; Close_ASK is of ASK."""
    return symbol.lower().rstrip(".") in _KINDS_OF_PRICE and not (symbol.isupper() and not name.isupper())


def _may_be_dates(column: str) -> bool:
    parts = [column, *(first for first, _ in _split_name(column))]
    return column == "" or column.startswith("Unnamed: ") or "session" in map(find_meaning, parts)


def _split_name(column: str) -> list[tuple[str, str]]:
    """Return each way to read a name as that of a column and a symbol."""
    if pair := re.fullmatch(r"\('(.*)', '(.*)'\)", column):
        return [(pair[1], pair[2]), (pair[2], pair[1])]
    parts = [cut for sign in "_. " for cut in (column.partition(sign), column.rpartition(sign))]
    return [pair for first, _, last in parts if first and last for pair in ((first, last), (last, first))]


def _is_bar_column(part: tuple[str, str]) -> bool:
    return find_meaning(part[0]) not in (None, "session", "symbol") and not is_kind_of_price(*part)
