"""Users' files as plain tables: one header, one row per bar, whatever the program that wrote them."""

import csv
import gzip
import io
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

import pandas as pd
from pandas.errors import ParserError, ParserWarning

from pipeline.errors import InputError, quoted
from pipeline.sources.cells import NO_VALUE
from pipeline.sources.columns import COLUMN_NAMES, PRICES, REQUIRED, assign_meanings, find_meaning
from pipeline.sources.layouts import (
    HEAD_LINES,
    Layout,
    find_encoding,
    find_layout,
    find_other_prices,
    is_kind_of_price,
    split_names,
)

__all__ = [
    "FileTable",
    "NoPricesError",
    "file_kind",
    "file_stem",
    "lacking_error",
    "read_table",
    "refuse_duplicates",
    "unreadable_error",
]

_KINDS: dict[str, Literal["text", "parquet", ""]] = {
    ".csv": "text",
    ".txt": "text",
    ".tsv": "text",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class NoPricesError(InputError):
    """A file is no table of prices: it has none of their columns."""


@dataclass(frozen=True)
class FileTable:
    """The rows of one file.

    Attributes:
        rows: In the file's order; empty rows are left out.
        numbers: The number of each row in the file, from 1.
        separator: Between the cells of a text file, "" for Parquet.
    """

    rows: pd.DataFrame
    numbers: "pd.Index[int]"
    separator: str


def file_kind(file: Path) -> Literal["text", "parquet", ""]:
    """Return how a file is read, by the end of its name; "" if it is not read."""
    suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
    if suffixes[-1:] == [".gz"]:
        inner = _KINDS.get(suffixes[0], "text" if len(suffixes) == 1 else "")
        return "text" if inner == "text" else ""
    return _KINDS.get(suffixes[-1], "") if suffixes else ""


def file_stem(file: Path) -> str:
    """Return the file's name without the ends that say how it is read."""
    return re.sub(r"(\.(csv|txt|tsv))?(\.gz)?$|\.(parquet|pq)$", "", file.name, count=1, flags=re.IGNORECASE)


def read_table(file: Path) -> FileTable:
    """Return the file's rows; empty rows, and lines above the header, are left out.

    Columns by symbols, as yfinance's `download` returns them, become rows with a column `symbol`.

    Raises:
        InputError: it is no regular CSV or Parquet file, or two of its columns mean the same.
    """
    kind = file_kind(file)
    if not kind:
        raise InputError(
            "Only .csv, .csv.gz, .tsv, .txt and .parquet can be read",
            where=str(file),
            fix="unpack it, or save it as CSV, and correct [universe] path",
        )
    if not file.is_file():  # reading a pipe would block for ever
        raise InputError(
            "This is no regular file, but a folder, a pipe, a device or a broken link",
            where=str(file),
            fix="move it away, or correct [universe] path",
        )
    try:
        table, separator = (_read_parquet(file), "") if kind == "parquet" else _read_text(file)
    except (OSError, ValueError, EOFError, zlib.error, csv.Error) as error:
        raise unreadable_error(file, error) from None
    if table.columns.nlevels == 1:
        _require_prices(table.columns, file)
    table = _with_levels(table)
    is_wide = table.columns.nlevels == 2
    table = _with_dates(_stack_symbols(table, file)) if is_wide else _with_dates(table).reset_index(drop=True)
    is_empty = table.isna()
    for column in table.columns[[pd.api.types.is_string_dtype(kind) for kind in table.dtypes]]:
        is_empty[column] |= table[column] == ""
    rows = table[~is_empty.all(axis=1)]
    return FileTable(rows.reset_index(drop=True), rows.index + 1, separator)


def unreadable_error(file: Path, error: Exception) -> InputError:
    """Return the error of a file that the libraries cannot read."""
    reason = str(error).partition("\n")[0]
    return InputError(
        f"The file cannot be read: {reason:.200}",
        where=str(file),
        fix="write the file again (text in UTF-8), or fix [universe] path",
    )


def refuse_duplicates(columns: "pd.Index[Any] | list[str]", file: Path) -> None:
    """Refuse a table in which two columns mean the same.

    Raises:
        InputError: they do.
    """
    meanings = assign_meanings(columns)
    for name in COLUMN_NAMES:
        if len(same := [str(column) for column in columns if meanings[column] == name]) > 1:
            raise InputError(
                f"The columns {' and '.join(same)} both mean {name.replace('session', 'date')}",
                where=str(file),
                fix="rename or delete one of them",
            )


def lacking_error(
    missing: Sequence[str], columns: Iterable[object], file: Path, kind: type[InputError] = InputError
) -> InputError:
    """Return the error of a file without the columns of these meanings."""
    fix = (
        "columns, with commas between them: date, symbol, close; "
        "also open, high, low, volume, adj_close, dividends, stock splits"
    )
    if missing == ["symbol"]:
        fix = (
            "add a column symbol; or, for a file of one symbol, name it after the symbol, put it into a folder, "
            "and give that folder as [universe] path"
        )
    columns = list(columns)
    if "close" in missing and (kinds := find_other_prices(columns)):
        fix = _fix_kinds(kinds)
    present = ", ".join(map(str, columns))
    return kind(
        f"The file lacks the column{'s' * (len(missing) > 1)} {', '.join(missing).replace('session', 'date')}; "
        f"it has {quoted(present)}",
        where=str(file),
        fix=fix,
    )


def _fix_kinds(kinds: Sequence[str]) -> str:
    """Return how to write a file whose prices are of these kinds: adj, bid, ask."""
    if kinds[0] in ("adj", "adjusted"):
        return 'rename the adjusted close to close, and set [prices] adjustment: "split+dividend" or "split"'
    if {"bid", "ask", "offer"} & {*kinds}:
        return "give the prices of trades, or (bid + ask) / 2, in columns open, high, low, close"
    return "rename the columns to open, high, low, close"


def _require_prices(columns: Iterable[object], file: Path) -> None:
    """Refuse a table without any column of prices.

    Raises:
        NoPricesError: it is a table of something else, or a note.
        InputError: it is no table: a page, an error message, or rows without a header.
    """
    names = [str(column) for column in columns]
    meanings = set(assign_meanings(names).values())
    if meanings & PRICES or split_names(names):
        return
    is_other = len(names) > 1 and all(re.match(r"[A-Za-z_]", name) for name in names)
    raise lacking_error(
        [name for name in [*REQUIRED, "symbol"] if name not in meanings],
        names,
        file,
        NoPricesError
        if (is_other and not find_other_prices(names)) or file.suffix.lower() == ".txt"
        else InputError,
    )


def _read_parquet(file: Path) -> pd.DataFrame:
    """Return the table; lists and the like in its cells are text, and so no numbers and no dates."""
    table: pd.DataFrame = pd.read_parquet(file)
    nested = [
        cells.dtype == object and cells.map(pd.api.types.is_list_like).any() for _, cells in table.items()
    ]
    kinds = {column: str for column, is_nested in zip(table.columns, nested, strict=True) if is_nested}
    return table.astype(kinds) if kinds else table


def _read_text(file: Path) -> tuple[pd.DataFrame, str]:
    with _opened(file) as text:
        layout = find_layout(list(islice(text, HEAD_LINES)))
    if not layout.names:
        raise ValueError("No columns to parse from file")
    if not layout.symbols:
        _require_prices(layout.names, file)
        refuse_duplicates(list(layout.names), file)
    meanings = assign_meanings(layout.names)
    symbols = [at for at, name in enumerate(layout.names) if meanings[name] == "symbol"]
    numbers = [
        at for at, name in enumerate(layout.names) if meanings[name] not in (None, "symbol", "session")
    ]
    as_text = layout.separator != ","
    table = _parse(file, layout, symbols, as_text=as_text)
    if not as_text and not all(_is_number_column(table[at]) for at in numbers):
        # How numbers are written must be seen in all of them: 1.101 is another number beside 1.100,50.
        table = _parse(file, layout, symbols, as_text=True)
    if layout.symbols:
        table.columns = pd.MultiIndex.from_arrays([layout.names, layout.symbols])
        return table, layout.separator
    return table.set_axis(_unique(layout.names), axis=1), layout.separator


def _unique(names: Sequence[str]) -> list[str]:
    """Return the names with a number after one that came before: their columns are not read."""
    return [
        f"{name}.{before}" if (before := names[:at].count(name)) else name for at, name in enumerate(names)
    ]


def _is_number_column(column: "pd.Series[Any]") -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _parse(file: Path, layout: Layout, symbols: list[int], *, as_text: bool) -> pd.DataFrame:
    """Return the rows with numbered columns; a symbol is always text: 000001 is no number, and NA is a ticker."""
    columns = range(len(layout.names))
    options: dict[str, Any] = {
        "sep": layout.separator,
        "header": None,
        "names": list(columns),
        "skiprows": layout.skipped,
        "index_col": False,
        "keep_default_na": False,
        "dtype": str if as_text else dict.fromkeys(symbols, str),
        "na_values": {} if as_text else {at: list(NO_VALUE) for at in columns if at not in symbols},
    }
    with warnings.catch_warnings(), _opened(file) as text:
        warnings.simplefilter("error", ParserWarning)
        try:
            parsed: pd.DataFrame = pd.read_csv(text, low_memory=False, **options)
            return parsed
        except (ParserWarning, ParserError) as error:
            if isinstance(error, ParserError) and "Expected" not in str(error):
                raise
    return _parse_uneven(file, layout)


def _parse_uneven(file: Path, layout: Layout) -> pd.DataFrame:
    """Return the rows as text; one with too many cells is kept, without a number as its close.

    Raises:
        ValueError: most rows have too many cells.
    """
    columns, meanings, uneven = len(layout.names), assign_meanings(layout.names), 0
    closes = [at for at, name in enumerate(layout.names) if meanings[name] == "close"]
    with _opened(file) as text:
        read = csv.reader(islice(text, layout.skipped, None), delimiter=layout.separator)
        rows = [cells + [""] * (columns - len(cells)) for cells in read if cells]
    for number, cells in enumerate(rows):
        if any(cells[columns:]):
            uneven += 1
            # What stands behind the numbers is counted from the end, for a comma is too much in one of them.
            rows[number] = [cells[at if at <= max(closes) else at - columns] for at in range(columns)]
            for at in closes:
                rows[number][at] = f"{len(cells)} cells in a row of {columns} columns"
    if uneven > len(rows) / 2:
        raise ValueError("rows have more cells than there are columns; is there a comma in a number?")
    return pd.DataFrame([cells[:columns] for cells in rows], columns=range(columns), dtype="str")


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    with file.open("rb") as raw, gzip.open(raw) if file.suffix.lower() == ".gz" else raw as plain:
        encoding = find_encoding(plain.read(4))
        plain.seek(0)
        with io.TextIOWrapper(plain, encoding=encoding, newline="") as text:
            yield text


def _with_levels(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with columns (name, symbol) where flat names hold both."""
    if table.columns.nlevels > 1 or "close" in assign_meanings(table.columns).values():
        return table
    split = split_names(list(table.columns))
    if not split:
        return table
    pairs = [split.get(column, (str(column), "")) for column in table.columns]
    return table.set_axis(pd.MultiIndex.from_tuples(pairs), axis=1)


def _stack_symbols(wide: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Return one row per session and symbol of columns (name, symbol) or (symbol, name), indexed by the wide row.

    Raises:
        InputError: what stands beside the names are no symbols, but kinds of prices.
    """
    if "close" not in map(find_meaning, wide.columns.get_level_values(0)):
        wide = wide.swaplevel(axis=1)
    if not isinstance(wide.index, pd.RangeIndex):
        wide = wide.reset_index()
    levels = zip(*(wide.columns.get_level_values(level) for level in (0, 1)), strict=True)
    pairs = [
        (name, symbol) if name else (symbol, "") for name, symbol in levels
    ]  # the dates have one of them
    names, symbols = (pd.Index([pair[level] for pair in pairs]) for level in (0, 1))
    kinds = dict.fromkeys(symbol for name, symbol in pairs if is_kind_of_price(str(name), str(symbol)))
    if kinds:
        raise InputError(
            f"The columns hold {' and '.join(kinds)} prices: these are no symbols",
            where=str(file),
            fix=_fix_kinds([kind.lower().rstrip(".") for kind in kinds]),
        )
    is_shared = symbols == ""
    parts = []
    for symbol in symbols[~is_shared].unique():
        is_own = symbols == symbol
        own = wide.loc[:, is_own]
        has_value = ~(own.isna() | own.isin(NO_VALUE)).all(axis=1)
        part = wide.loc[has_value, is_own | is_shared].set_axis(names[is_own | is_shared], axis=1)
        parts.append(part.assign(symbol=str(symbol)))
    stacked: pd.DataFrame = pd.concat(parts)
    return stacked


def _with_dates(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its index as columns where that holds the dates."""
    if "session" in assign_meanings(table.columns).values():
        return table
    if isinstance(table.index, pd.DatetimeIndex):
        return table.reset_index(names="date")
    if any(find_meaning(name) == "session" for name in table.index.names):
        return table.reset_index()
    first = table.iloc[:, 0]
    is_unnamed = first.name == "" or str(first.name).startswith("Unnamed: ")
    if is_unnamed and first.astype(str).str.match(r"\d{4}-\d\d-\d\d|\d\d?[/.-]\d\d?[/.-]\d{4}|\d{8}").any():
        # pandas' to_csv leaves the name of an unnamed index empty
        named: pd.DataFrame = table.rename(columns={first.name: "date"})
        return named
    return table
