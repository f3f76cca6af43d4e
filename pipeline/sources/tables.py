"""Users' files as plain tables: one header, one row per bar, whatever the program that wrote them."""

import csv
import gzip
import io
import warnings
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.errors import ParserWarning

from pipeline.errors import InputError
from pipeline.sources.columns import COLUMN_NAMES, PRICES, assign_meanings, find_meaning

__all__ = ["READERS", "read_table", "refuse_duplicates"]

READERS = {".csv": "csv", ".txt": "csv", ".gz": "csv", ".parquet": "parquet", ".pq": "parquet"}
"""How a file is read, by the end of its name."""

_NO_VALUE = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", "-nan", "-NaN"]
_HEAD_LINES = 10
"""Lines in which the header is looked for."""


def read_table(file: Path) -> pd.DataFrame:
    """Return the file's rows, numbered from 0; empty rows, and lines above the header, are left out.

    The two header rows of yfinance's `download`, columns by symbols, become rows with a column `symbol`.

    Raises:
        InputError: it is no regular CSV or Parquet file, or two of its columns mean the same.
    """
    kind = READERS.get(file.suffix)
    if kind is None:
        raise InputError(
            "Only .csv, .csv.gz, .txt and .parquet can be read",
            where=str(file),
            fix="correct [universe] path",
        )
    if not file.is_file():  # reading a pipe would block for ever
        raise InputError(
            "This is no regular file, but a folder, a pipe, a device or a broken link",
            where=str(file),
            fix="move it away, or correct [universe] path",
        )
    try:
        table = pd.read_parquet(file) if kind == "parquet" else _read_csv(file)
    except (OSError, ValueError, EOFError, zlib.error, csv.Error) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"The file cannot be read: {reason:.200}",
            where=str(file),
            fix="write the file again (text in UTF-8), or fix [universe] path",
        ) from None
    table = _with_dates(_stack_symbols(table) if table.columns.nlevels == 2 else table)
    table = table.reset_index(drop=True)
    is_empty = table.isna()
    for column in table.columns[[pd.api.types.is_string_dtype(kind) for kind in table.dtypes]]:
        is_empty[column] |= table[column] == ""
    return pd.DataFrame(table[~is_empty.all(axis=1)])


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


def _read_csv(file: Path) -> pd.DataFrame:
    head = _read_head(file)
    if _has_two_headers(head):
        wide = pd.read_csv(file, encoding="utf-8-sig", header=[0, 1], index_col=0, na_values=_NO_VALUE)
        return wide.rename_axis(index="date")
    titles = next((number for number, row in enumerate(head) if _is_header(row)), 0)
    header = head[titles] if head else []
    refuse_duplicates(header, file)  # pandas would rename the second one
    # A symbol is always text: 000001 is no number, and NA is a ticker.
    symbols = {column for column, meaning in assign_meanings(header).items() if meaning == "symbol"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)
        try:
            return pd.read_csv(
                file,
                encoding="utf-8-sig",
                skiprows=titles,
                index_col=False,
                dtype=dict.fromkeys(map(str, symbols), str),
                keep_default_na=False,
                na_values={column: _NO_VALUE for column in header if column not in symbols},
                low_memory=False,
            )
        except ParserWarning:
            raise ValueError(
                "rows have more cells than there are columns; is there a comma in a number?"
            ) from None


def _read_head(file: Path) -> list[list[str]]:
    with (
        file.open("rb") as raw,
        gzip.open(raw) if file.suffix == ".gz" else raw as plain,
        io.TextIOWrapper(plain, encoding="utf-8-sig") as text,
    ):
        return [row or [""] for row in islice(csv.reader(text), _HEAD_LINES)]


def _is_header(cells: list[str]) -> bool:
    return {"session", *PRICES} <= {*assign_meanings(cells).values()}


def _has_two_headers(head: list[list[str]]) -> bool:
    """Whether columns have a name and a symbol, and the third line names the index alone, as yfinance writes them."""
    if len(head) < 3 or find_meaning(head[2][0]) != "session" or any(head[2][1:]):
        return False
    return any(len(row) > 1 and {*map(find_meaning, row[1:])} >= PRICES for row in head[:2])


def _stack_symbols(wide: pd.DataFrame) -> pd.DataFrame:
    """Return one row per session and symbol of columns (name, symbol) or (symbol, name)."""
    names = 0 if {*map(find_meaning, wide.columns.get_level_values(0))} >= PRICES else 1
    symbols = wide.columns.get_level_values(1 - names)
    parts = []
    for symbol in symbols.unique():
        part = wide.loc[:, symbols == symbol]
        part = part.set_axis(part.columns.get_level_values(names), axis=1).dropna(how="all")
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
    if str(first.name).startswith("Unnamed: ") and first.astype(str).str.match(r"\d{4}-\d\d-\d\d").any():
        # pandas' to_csv leaves the name of an unnamed index empty
        named: pd.DataFrame = table.rename(columns={str(first.name): "date"})
        return named
    return table
