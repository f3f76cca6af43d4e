"""Prices from the user's files: one long CSV or Parquet file, or a folder with one file per symbol."""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pipeline.errors import InputError, quoted
from pipeline.market.corporate_actions import Adjustment, find_adjustment
from pipeline.schema import SYMBOL_FIX, find_bad_symbol
from pipeline.sources import BAR_COLUMNS, Fetched
from pipeline.sources.cells import read_numbers, read_sessions, require_none
from pipeline.sources.columns import DEFAULTS, REQUIRED, assign_meanings, find_meaning
from pipeline.sources.tables import READERS, read_table, refuse_duplicates

__all__ = ["FilesSource"]


class FilesSource:
    """Bars from CSV or Parquet.

    Column names ignore case, blanks and underscores; Yahoo's names (Date, Adj Close, Dividends, Stock Splits) are
    known. Required: date, open, high, low, close, and in a long file symbol. In a folder, the file name is the symbol
    of a file without a symbol column.

    Args:
        path: The file or the folder.
        adjustment: How the prices are adjusted; `auto` infers it from splits or adjusted closes.
        historical: Whether the data ended in the past on purpose.
        timezone: The exchange's time zone: an instant counts as its day there. Default: instants are refused.
    """

    name = "files"
    is_local = True
    threads = 1

    def __init__(
        self, path: Path, *, adjustment: Literal["auto"] | Adjustment, historical: bool, timezone: str = ""
    ) -> None:
        self.path, self.adjustment, self.historical, self.timezone = path, adjustment, historical, timezone

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
        kinds = {symbol: find_adjustment(bars) for symbol, bars in self._tables.items()}
        payers = {s for s, bars in self._tables.items() if (bars["dividend"] > 0).any()}
        adjusted = {symbol for symbol, kind in kinds.items() if kind == "split+dividend"}
        if adjusted and (others := payers - adjusted):
            raise InputError(
                f"The closes of {min(adjusted)} are adjusted for the dividends beside them, those of {min(others)} are "
                "not, or it cannot be told",
                where=str(self.path),
                fix='set [prices] adjustment: "split+dividend", which is the default of yfinance, or "split" or "raw"',
            )
        return "split+dividend" if adjusted else "raw" if "raw" in kinds.values() else "split"

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        long = pd.concat(list(self._read()), ignore_index=True)
        self._refuse_intraday(long)
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

    def _refuse_intraday(self, long: pd.DataFrame) -> None:
        again = long.duplicated(["symbol", "session"])
        if again.sum() > len(long) / 2:
            row = long[again].iloc[0]
            raise InputError(
                f"Most days have several rows, e.g. {row['symbol']} {row['session']:%Y-%m-%d}: these are no daily bars",
                where=str(self.path),
                fix="give one row per symbol and session",
            )

    def _list_files(self) -> list[Path]:
        """Return the folder's files; a .txt beside others is a note."""
        files = sorted(file for file in self.path.iterdir() if file.suffix in READERS)
        return [file for file in files if file.suffix != ".txt"] or files

    def _read(self) -> Iterator[pd.DataFrame]:
        if not self.path.exists():
            raise InputError(
                "There is no such file or folder", where=str(self.path), fix="correct [universe] path"
            )
        files = self._list_files() if self.path.is_dir() else [self.path]
        if not files:
            raise InputError(
                "The folder holds no .csv, no .txt and no .parquet file",
                where=str(self.path),
                fix="correct [universe] path",
            )
        for file in files:
            yield _bars(
                read_table(file),
                file,
                file_symbol=_file_symbol(file) if self.path.is_dir() else "",
                timezone=self.timezone,
            )


def _file_symbol(file: Path) -> str:
    return re.sub(r"\.(csv|txt|gz|parquet|pq)$", "", re.sub(r"\.gz$", "", file.name))


def _bars(table: pd.DataFrame, file: Path, file_symbol: str, timezone: str) -> pd.DataFrame:
    refuse_duplicates(table.columns, file)
    names = assign_meanings(table.columns)
    if file_symbol:  # a name of second choice may be that of the company
        names |= {c: None for c in names if names[c] == "symbol" and find_meaning(c) is None}
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
    table = table.assign(session=read_sessions(table["session"], file, timezone))
    table["symbol"] = _symbols(table["symbol"], file)
    for name, default in DEFAULTS.items():
        table[name] = read_numbers(table[name], file) if name in table else default
    for name in ("open", "high", "low", "close"):
        table[name] = read_numbers(table[name], file)
    table["split"] = _split_ratios(table["split"], file)
    return table


def _symbols(symbols: "pd.Series[Any]", file: Path) -> "pd.Series[str]":
    text = symbols.astype(str).str.strip()
    unique = pd.Series(text.unique(), dtype=str)
    if (bad := find_bad_symbol(unique)) is not None:
        raise InputError(f"No symbol can be named {quoted(unique[bad])}", where=str(file), fix=SYMBOL_FIX)
    return text


def _split_ratios(splits: "pd.Series[float]", file: Path) -> "pd.Series[float]":
    """Return the split ratios, 1.0 where there is none; one wrong ratio would change all earlier prices."""
    splits = splits.replace(0.0, 1.0).fillna(1.0)
    require_none(~splits.between(0, float("inf"), inclusive="neither"), splits, "split ratio", file)
    return splits
