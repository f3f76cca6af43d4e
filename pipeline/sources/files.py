"""Prices from the user's files: one long CSV or Parquet file, or a folder with one file per symbol."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd

from pipeline.errors import InputError
from pipeline.formatting import count
from pipeline.market.corporate_actions import Adjustment, find_dividend_evidence, jumps_at_splits
from pipeline.market.dividend_adjustment import DividendEvidence, weigh_falls
from pipeline.schema import find_bad_symbol
from pipeline.sources import BAR_COLUMNS, Fetched, no_bars
from pipeline.sources.cells import Exchange
from pipeline.sources.columns import describe_doubt
from pipeline.sources.file_bars import FileBars, join_errors, read_bars
from pipeline.sources.tables import NoPricesError, file_kind, file_stem

__all__ = ["FilesSource"]

_MOST = 5
"""Files that a line lists."""


class FilesSource:
    """Bars from CSV or Parquet.

    The columns of many vendors are known (docs/files.md). Required: date, close, and in a long file symbol. In a
    folder, the file name is the symbol of a file without a symbol column.

    A cell or a file that cannot be read is the failure of its symbol, and of no other.

    Args:
        path: The file or the folder.
        adjustment: How the prices are adjusted; `auto` infers it from splits or adjusted closes.
        historical: Whether the data ended in the past on purpose.
        timezone: The exchange's time zone: an instant counts as its day there. Default: instants are refused.
        weekdays: The days of the week on which the exchange trades, Monday is 0: they show a time of another zone.
    """

    name = "files"
    is_local = True
    threads = 1

    def __init__(
        self,
        path: Path,
        *,
        adjustment: Literal["auto"] | Adjustment,
        historical: bool,
        timezone: str = "",
        weekdays: frozenset[int] = Exchange.weekdays,
    ) -> None:
        self.path, self.adjustment, self.historical = path, adjustment, historical
        self._exchange = Exchange(timezone, weekdays)
        self._told = dict[str, str]()

    def symbols(self) -> list[str]:
        """Return the symbols in the files, sorted, with those whose rows cannot be read.

        Raises:
            InputError: no symbol can be read.
        """
        return sorted({*self._content.tables, *self._content.faults})

    def digest(self) -> str:
        """Return a digest of the files as they are now, and of the time zone that their rows are read in.

        Raises:
            OSError: a file cannot be read.
        """
        files = [self.path] if not self.path.is_dir() else sorted(self.path.iterdir())
        digest = hashlib.sha256(f"{self._exchange!r} {len(files)}".encode())
        for file in files:
            digest.update(f" {file.name!r} ".encode())
            if not self.path.is_dir() or not _why_unread(file):
                if not file.is_file():  # reading a pipe would wait for whoever writes into it
                    raise OSError(f"{file} is no regular file")
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()

    def digest_when_read(self) -> str:
        """Return what `digest` was right before the files were read."""
        _ = self._content
        return self._read_as

    def forget(self) -> None:
        """Free the memory of the files' content; who asks for it afterwards reads them again."""
        for name in ("_content", "_evidence"):
            self.__dict__.pop(name, None)

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the symbol's bars from `start` on, those after `end` included: they show later splits."""
        content = self._content
        if (fault := content.faults.get(symbol)) is not None:
            reason = f"{fault.what} ({fault.where}); {fault.fix}"
            return Fetched(symbol, "bad_payload", now, reason=reason, notes=content.notes)
        if symbol not in content.tables:
            reason = f"{self.path.name} has no rows of it{content.explain_absence(symbol)}"
            return Fetched(symbol, "not_found", now, reason=reason, notes=content.notes)
        bars = content.tables[symbol]
        bars = bars[bars["session"] >= start].reset_index(drop=True)
        if not (bars["session"] <= end).any():
            reason = f"{self.path.name} has no row of it in the requested sessions"
            return Fetched(symbol, "empty", now, reason=reason, notes=content.notes)
        # The first symbol asked for of those with the doubt has the finding: one is enough.
        kind, (assumed, is_doubtful) = self._kind, self._doubt
        doubts = [("column not read", doubt) for doubt in content.doubts.get(symbol, ())]
        doubts += [("adjustment in doubt", assumed)] if is_doubtful and symbol in self._evidence else []
        told = [doubt for doubt in doubts if self._told.setdefault(doubt[1], symbol) == symbol]
        return Fetched(
            symbol,
            "ok",
            now,
            bars=bars,
            adjustment=kind,
            may_lack_range=True,
            notes=(*content.notes, *([assumed] if assumed else [])),
            findings=tuple((bars["session"].iloc[-1], *doubt) for doubt in told),
        )

    @cached_property
    def _kind(self) -> Adjustment:
        if self.adjustment != "auto":
            return self.adjustment
        evidence, tables = self._evidence, self._content.tables
        adjusted = {symbol for symbol, found in evidence.items() if found.cents == "adjusted"}
        has_both = {
            symbol
            for symbol, bars in tables.items()
            if bars["adj_close"].notna().any() and (bars["dividend"] > 0).any()
        }
        shown = {symbol for symbol, found in evidence.items() if found.cents} | has_both
        if adjusted and (others := shown - adjusted):
            raise InputError(
                f"The closes of {min(adjusted)} are adjusted for the dividends beside them, those of {min(others)} are "
                "not",
                where=str(self.path),
                fix='set [prices] adjustment: "split+dividend", which is the default of yfinance, or "split" or "raw"',
            )
        if adjusted:
            return "split+dividend"
        if any(jumps_at_splits(bars) for bars in tables.values()):
            return "raw"
        is_told = any(found.cents == "unadjusted" for found in evidence.values())
        return "split+dividend" if not is_told and weigh_falls(evidence.values()) == "adjusted" else "split"

    @cached_property
    def _evidence(self) -> dict[str, DividendEvidence]:
        """What the closes show of their adjustment, by symbol with a dividend and without an adjusted close."""
        found = {symbol: find_dividend_evidence(bars) for symbol, bars in self._content.tables.items()}
        return {symbol: evidence for symbol, evidence in found.items() if evidence.expected}

    @cached_property
    def _doubt(self) -> tuple[str, bool]:
        """What is assumed of the adjustment for dividends, "" if nothing; and whether the closes speak against it."""
        evidence = self._evidence.values()
        if self.adjustment != "auto" or not evidence or self._kind == "raw":
            return "", False
        if {"adjusted", "unadjusted"} & {found.cents for found in evidence}:
            return "", False
        falls = weigh_falls(evidence)
        if falls == "unadjusted":
            return "", False
        if falls == "adjusted":
            return (
                "closes read as adjusted for dividends, for they do not fall on ex-dates; if they are not, set "
                '[prices] adjustment: "split"',
                False,
            )
        return (
            "closes read as not adjusted for the dividends beside them, which they do not show; if they are, as "
            'yfinance\'s are by default, set [prices] adjustment: "split+dividend", else "split"',
            falls == "unlike",
        )

    @cached_property
    def _content(self) -> "_Content":
        if not self.path.exists():
            raise InputError(
                "There is no such file or folder", where=str(self.path), fix="correct [universe] path"
            )
        try:
            self._read_as = self.digest()
        except OSError:
            self._read_as = ""  # reading it says what is wrong with it
        if self.path.is_dir():
            return _read_folder(self.path, self._exchange)
        found = read_bars(self.path, "", self._exchange)
        if found.bars.empty and not found.faults:
            raise _no_rows_error(self.path)
        return _merge(self.path, {self.path: found})


@dataclass(frozen=True, eq=False)
class _Content:
    """What the file or the folder holds.

    Attributes:
        tables: BAR_COLUMNS by symbol.
        faults: Why a symbol cannot be read.
        notes: What was read as what, and what was not read.
        doubts: What to do with the doubtful columns of a symbol's files.
        unread: Why a file is not read, by its name.
    """

    tables: Mapping[str, pd.DataFrame]
    faults: Mapping[str, InputError]
    notes: tuple[str, ...]
    doubts: Mapping[str, Sequence[str]]
    unread: Mapping[str, str]

    def explain_absence(self, symbol: str) -> str:
        """Return which file of the symbol is not read, and why."""
        files = [
            f"; {file} is not read: {why}"
            for file, why in self.unread.items()
            if file.startswith(f"{symbol}.")
        ]
        return "".join(files[:1])


def _read_folder(folder: Path, exchange: Exchange) -> _Content:
    read, unread, faults = dict[Path, FileBars](), dict[str, str](), dict[str, InputError]()
    for file in sorted(folder.iterdir()):
        if why := _why_unread(file):
            unread[f"{file.name}{'/' * file.is_dir()}"] = why
            continue
        try:
            found = read_bars(file, file_stem(file), exchange)
            if found.bars.empty and not found.faults:
                raise _no_rows_error(file)
            read[file] = found
        except NoPricesError:
            unread[file.name] = "it has no column of prices"
        except InputError as error:
            faults[file_stem(file)] = error
    if not read and not faults:
        raise InputError(
            "The folder holds no .csv, no .txt and no .parquet file with prices",
            where="\n           ".join([str(folder), *([_list_unread(unread)] if unread else [])]),
            fix="correct [universe] path: a folder is read without those inside it",
        )
    return _merge(folder, read, faults, unread)


_UNREAD = {
    "unpack it": (".zip", ".gz", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst"),
    "save it as CSV": (".xlsx", ".xls", ".xlsm", ".ods", ".json", ".feather", ".arrow", ".h5", ".pkl", ".dta"),
}  # fmt: skip


def _why_unread(file: Path) -> str:
    """Return why a file of the folder is not read; "" if it is."""
    if file.name.startswith("."):
        return "it is hidden"
    if file_kind(file):
        return ""
    if file.is_dir():
        return "it is a folder"
    suffix = file.suffix.lower()
    return next(
        (why for why, suffixes in _UNREAD.items() if suffix in suffixes), "it is no .csv, .txt or .parquet"
    )


def _list_unread(unread: Mapping[str, str]) -> str:
    names = sorted(unread, key=lambda name: name.startswith("."))
    listed = ", ".join(f"{name} ({unread[name]})" for name in names[:_MOST])
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"not read: {listed}{more}"


def _no_rows_error(file: Path) -> InputError:
    return InputError(
        "There is no row below the header", where=str(file), fix="fix the file, or [universe] path"
    )


def _merge(
    place: Path,
    read: Mapping[Path, FileBars],
    unreadable: Mapping[str, InputError] | None = None,
    unread: Mapping[str, str] | None = None,
) -> _Content:
    """Return the bars of all files by symbol; a symbol whose rows contradict each other is a fault.

    Raises:
        InputError: no symbol can be read.
    """
    faults = dict(unreadable or {})
    for found in read.values():
        faults |= found.faults
    parts = [found.bars.assign(file=file.name) for file, found in read.items()]
    long = pd.concat(parts, ignore_index=True) if parts else no_bars().assign(symbol="", file="")
    faults |= {symbol: error for symbol, error in _find_repeated(long, place).items() if symbol not in faults}
    tables = {
        str(symbol): rows.sort_values("session", kind="stable")[BAR_COLUMNS].reset_index(drop=True)
        for symbol, rows in long[~long["symbol"].isin(faults)].groupby("symbol", sort=True)
    }
    if not tables:
        raise join_errors([*faults.values()], place)
    nameless = {
        symbol: error for symbol, error in faults.items() if find_bad_symbol(pd.Series([symbol])) == 0
    }
    notes = [*_describe_layouts(read), *([f"of {place.name} {_list_unread(unread)}"] if unread else [])]
    return _Content(
        tables,
        {symbol: error for symbol, error in faults.items() if symbol not in nameless},
        (*notes, *_describe_nameless(nameless)),
        _find_doubts(read),
        unread or {},
    )


def _find_repeated(long: pd.DataFrame, place: Path) -> dict[str, InputError]:
    """Return why the rows of a symbol cannot be its daily bars: several on most days, or one of a day in two files."""
    again = long[long.duplicated(["symbol", "session"], keep=False)]
    found = dict[str, InputError]()
    if again.empty:
        return found
    days = long.groupby("symbol")["session"].nunique()
    for symbol, rows in again.groupby("symbol"):
        example, files = f"{symbol} {rows['session'].iloc[0]:%Y-%m-%d}", rows["file"].unique()
        if len(files) > 1:
            found[str(symbol)] = InputError(
                f"{files[0]} and {files[1]} both have a row of {example}",
                where=str(place),
                fix="move one of the files away",
            )
        elif rows["session"].nunique() > days[symbol] / 2:
            found[str(symbol)] = InputError(
                f"Most days have several rows, e.g. {example}: these are no daily bars",
                where=str(place / files[0] if place.is_dir() else place),
                fix="give one row per symbol and session",
            )
    return found


def _group(read: Mapping[Path, FileBars], of: Callable[[FileBars], str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for file, found in read.items():
        groups.setdefault(of(found), []).append(file)
    return groups


def _name_files(files: Sequence[Path]) -> str:
    return files[0].name + (f" and {count(len(files) - 1, 'more file')}" if len(files) > 1 else "")


def _describe_layouts(read: Mapping[Path, FileBars]) -> list[str]:
    layouts = _group(read, lambda found: found.columns)
    lines = [f"read from {_name_files(files)}: {columns}" for columns, files in layouts.items()]
    return lines[:_MOST] + (
        [f"read from files of {len(lines) - _MOST} more forms"] if len(lines) > _MOST else []
    )


def _describe_nameless(faults: Mapping[str, InputError]) -> list[str]:
    lines = [f"not read: {error.what} ({error.where}); {error.fix}" for error in faults.values()]
    return lines[:_MOST] + (
        [f"not read: {len(lines) - _MOST} more such rows or files"] if len(lines) > _MOST else []
    )


def _find_doubts(read: Mapping[Path, FileBars]) -> dict[str, list[str]]:
    doubts = dict[str, list[str]]()
    for columns, files in _group(read, lambda found: found.doubt).items():
        detail = describe_doubt(columns, _name_files(files))
        for symbol in (
            {str(s) for file in files for s in read[file].bars["symbol"].unique()} if columns else ()
        ):
            doubts.setdefault(symbol, []).append(detail)
    return doubts
