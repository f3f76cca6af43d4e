"""Prices from the user's files: one long CSV or Parquet file, or a folder with one file per symbol."""

import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pandas.errors import ParserWarning

from pipeline.errors import InputError, quoted
from pipeline.market.corporate_actions import Adjustment, find_adjustment
from pipeline.schema import SYMBOL_FIX, find_bad_symbol
from pipeline.sources import BAR_COLUMNS, Fetched
from pipeline.sources.columns import COLUMN_NAMES, DEFAULTS, REQUIRED, find_meaning

__all__ = ["FilesSource"]

_READERS = {".csv": "csv", ".gz": "csv", ".parquet": "parquet", ".pq": "parquet"}
_NO_VALUE = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", "-nan", "-NaN"]


class FilesSource:
    """Bars from CSV or Parquet.

    Column names ignore case, blanks and underscores; Yahoo's names (Date, Adj Close, Dividends, Stock Splits) are
    known. Required: date, open, high, low, close, and in a long file symbol. In a folder, the file name is the symbol
    of a file without a symbol column.

    Args:
        path: The file or the folder.
        adjustment: How the prices are adjusted; `auto` infers it from splits or adjusted closes.
        historical: Whether the data ended in the past on purpose.
    """

    name = "files"
    is_local = True
    threads = 1

    def __init__(self, path: Path, *, adjustment: Literal["auto"] | Adjustment, historical: bool) -> None:
        self.path, self.adjustment, self.historical = path, adjustment, historical

    def symbols(self) -> list[str]:
        """Return the symbols in the files, sorted.

        Raises:
            InputError: a file is missing or unreadable, a column is missing, or a value is no number or date.
        """
        return sorted(self._tables)

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the symbol's bars from `start` on, those after `end` included: they show later splits."""
        if symbol not in self._tables:
            return Fetched(symbol, "not_found", now, reason=f"{self.path.name} has no rows of it")
        bars = self._tables[symbol]
        bars = bars[bars["session"] >= start].reset_index(drop=True)
        if not (bars["session"] <= end).any():
            return Fetched(
                symbol, "empty", now, reason=f"{self.path.name} has no row of it in the requested sessions"
            )
        return Fetched(symbol, "ok", now, bars=bars, adjustment=self._kind)

    @cached_property
    def _kind(self) -> Adjustment:
        if self.adjustment != "auto":
            return self.adjustment
        kinds = {find_adjustment(bars) for bars in self._tables.values()}
        return "raw" if "raw" in kinds else "split"

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        long = pd.concat(list(self._read()), ignore_index=True)
        if long.empty:
            raise InputError(
                "There is no row below the header",
                where=str(self.path),
                fix="fix the file, or [universe] path",
            )
        return {
            str(symbol): rows.sort_values("session", kind="stable")[BAR_COLUMNS].reset_index(drop=True)
            for symbol, rows in long.groupby("symbol", sort=True)
        }

    def _read(self) -> Iterator[pd.DataFrame]:
        if not self.path.exists():
            raise InputError(
                "There is no such file or folder", where=str(self.path), fix="correct [universe] path"
            )
        files = (
            sorted(f for f in self.path.iterdir() if f.suffix in _READERS)
            if self.path.is_dir()
            else [self.path]
        )
        if not files:
            raise InputError(
                "The folder holds no .csv and no .parquet file",
                where=str(self.path),
                fix="correct [universe] path",
            )
        for file in files:
            yield _bars(_table(file), file, file_symbol=_file_symbol(file) if self.path.is_dir() else "")


def _file_symbol(file: Path) -> str:
    return re.sub(r"\.(csv|gz|parquet|pq)$", "", re.sub(r"\.gz$", "", file.name))


def _table(file: Path) -> pd.DataFrame:
    kind = _READERS.get(file.suffix)
    if kind is None:
        raise InputError(
            "Only .csv, .csv.gz and .parquet can be read", where=str(file), fix="correct [universe] path"
        )
    if not file.is_file():  # reading a pipe would block for ever
        raise InputError(
            "This is no regular file, but a folder, a pipe, a device or a broken link",
            where=str(file),
            fix="move it away, or correct [universe] path",
        )
    try:
        table = pd.read_parquet(file) if kind == "parquet" else _csv(file)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"The file cannot be read: {reason:.200}",
            where=str(file),
            fix="write the file again (text in UTF-8), or fix [universe] path",
        ) from None
    if isinstance(table.index, pd.DatetimeIndex):
        table = table.reset_index(names="date")
    return table


def _csv(file: Path) -> pd.DataFrame:
    first = pd.read_csv(file, encoding="utf-8-sig", header=None, nrows=1, dtype=str, keep_default_na=False)
    header = [str(column) for column in first.iloc[0]]
    _refuse_duplicates(header, file)  # pandas would rename the second one
    # A symbol is always text: 000001 is no number, and NA is a ticker.
    symbols = {column for column in header if find_meaning(column) == "symbol"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)
        try:
            return pd.read_csv(
                file,
                encoding="utf-8-sig",
                index_col=False,
                dtype=dict.fromkeys(symbols, str),
                keep_default_na=False,
                na_values={column: _NO_VALUE for column in header if column not in symbols},
                low_memory=False,
            )
        except ParserWarning:
            raise ValueError(
                "rows have more cells than there are columns; is there a comma in a number?"
            ) from None


def _bars(table: pd.DataFrame, file: Path, file_symbol: str) -> pd.DataFrame:
    names = {c: find_meaning(c) for c in table.columns}
    _refuse_duplicates([str(column) for column in table.columns], file)
    table = table[[c for c, name in names.items() if name]].rename(columns=names)
    if "symbol" not in table and file_symbol:
        table = table.assign(symbol=file_symbol)
    if missing := [name for name in [*REQUIRED, "symbol"] if name not in table]:
        present = ", ".join(map(str, names))
        raise InputError(
            f"The file lacks the column{'s' * (len(missing) > 1)} {', '.join(missing).replace('session', 'date')}; "
            f"it has {quoted(present)}",
            where=str(file),
            fix="columns, with commas between them: date, symbol, open, high, low, close; "
            "also volume, adj_close, dividends, stock splits",
        )
    table = table.assign(session=_sessions(table["session"], file))
    table["symbol"] = _symbols(table["symbol"], file)
    for name, default in DEFAULTS.items():
        table[name] = _numbers(table[name], file) if name in table else default
    for name in ("open", "high", "low", "close"):
        table[name] = _numbers(table[name], file)
    table["split"] = _split_ratios(table["split"], file)
    return table


def _refuse_duplicates(header: Sequence[str], file: Path) -> None:
    meanings = [(column, find_meaning(column)) for column in header]
    for name in COLUMN_NAMES:
        if len(columns := [column for column, meaning in meanings if meaning == name]) > 1:
            raise InputError(
                f"The columns {' and '.join(columns)} both mean {name.replace('session', 'date')}",
                where=str(file),
                fix="rename or delete one of them",
            )


def _sessions(dates: "pd.Series[Any]", file: Path) -> "pd.Series[pd.Timestamp]":
    if isinstance(dates.dtype, pd.DatetimeTZDtype):
        dates = dates.dt.tz_localize(None)
    if pd.api.types.is_datetime64_any_dtype(dates):
        parsed = dates.dt.normalize()
    else:
        # In a timestamp with an offset the first ten characters are the exchange's local date; the UTC date may differ.
        texts = dates.astype(str).str.slice(0, 10)
        parsed = pd.to_datetime(texts, format="%Y-%m-%d", errors="coerce")
    if parsed.isna().any():
        row = int(parsed.isna().to_numpy().argmax())
        given = "An empty cell" if pd.isna(dates.iloc[row]) else quoted(dates.iloc[row])
        raise InputError(
            f"{given} is no date",
            where=f"{file}, data row {row + 1}",
            fix="write dates as 2018-12-31",
        )
    days: pd.Series[pd.Timestamp] = parsed.astype("datetime64[us]")
    return days


def _symbols(symbols: "pd.Series[Any]", file: Path) -> "pd.Series[str]":
    text = symbols.astype(str).str.strip()
    unique = pd.Series(text.unique(), dtype=str)
    if (bad := find_bad_symbol(unique)) is not None:
        raise InputError(f"No symbol can be named {quoted(unique[bad])}", where=str(file), fix=SYMBOL_FIX)
    return text


def _numbers(values: "pd.Series[Any]", file: Path) -> "pd.Series[float]":
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        values = values.astype(str).where(values.notna())  # pandas fails on integers with hundreds of digits
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    _require_none(numbers.isna() & values.notna(), values, "number", file)
    return numbers


def _split_ratios(splits: "pd.Series[float]", file: Path) -> "pd.Series[float]":
    """Return the split ratios, 1.0 where there is none; one wrong ratio would change all earlier prices."""
    splits = splits.replace(0.0, 1.0).fillna(1.0)
    _require_none(~splits.between(0, float("inf"), inclusive="neither"), splits, "split ratio", file)
    return splits


def _require_none(broken: "pd.Series[bool]", values: "pd.Series[Any]", what: str, file: Path) -> None:
    if broken.any():
        row = int(broken.to_numpy().argmax())
        raise InputError(
            f"{quoted(values.iloc[row])} in {values.name} is no {what}",
            where=f"{file}, data row {row + 1}",
            fix="fix the cell, or leave it empty: the bar is then dropped with a finding",
        )
