"""Universes: the constituents of a named list of symbols over time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.config import UniverseConfig
from pipeline.errors import ConfigError, InputError, quoted
from pipeline.schema import SYMBOL_FIX, find_bad_symbol
from pipeline.storage.csv_input import parse_dates, read_table
from pipeline.storage.paths import expand

__all__ = ["CONTEXT", "MIN_COVERAGE", "Universe", "series_universe", "universe"]

MIN_COVERAGE = 0.8
"""With bars for less than this share of members the source is down: nothing is forecast or published."""

CONTEXT = "context:"
"""The instrument_id of a context series is this and its symbol: it is fetched, checked and stored as a constituent's
bars are, in the same store, and no constituent can have that name."""


@dataclass(frozen=True)
class Universe:
    """A named list of constituents with entry and exit dates.

    Attributes:
        name: [universe] name.
        entries: symbol (the listing's current one), first and last day; NaT where the list gives no date. With a
            sector where the settings name a column of it; None where its cell is blank.
        former: The former symbols of each renamed listing by its current one, oldest first.
    """

    name: str
    entries: pd.DataFrame
    former: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def symbols(self) -> list[str]:
        """The current symbols of all listings that were ever members, sorted."""
        return sorted(self.entries["symbol"].unique())

    @property
    def instruments(self) -> dict[str, str]:
        """The instrument_id of each symbol, current or former: the first symbol its listing was known under."""
        return {
            symbol: self.former.get(now, (now,))[0]
            for now in self.symbols
            for symbol in (now, *self.former.get(now, ()))
        }

    @property
    def current(self) -> dict[str, str]:
        """The current symbol of each symbol, current or former."""
        return {symbol: now for now in self.symbols for symbol in (now, *self.former.get(now, ()))}

    @property
    def current_by_instrument(self) -> dict[str, str]:
        """The current symbol of each renamed listing by instrument_id."""
        return {older[0]: now for now, older in self.former.items()}

    @property
    def bias(self) -> str:
        """A note on survivorship bias for reports; empty where every entry has a date.

        A list of today's members lacks those that have left.
        """
        undated, listed = int(self.entries[["first", "last"]].isna().all(axis=1).sum()), len(self.entries)
        if undated == listed:
            return "survivorship-biased: the constituent list has no entry and exit dates"
        return (
            f"survivorship-biased: {undated:,} of {listed:,} entries of the list have no dates"
            if undated
            else ""
        )

    def members(self, as_of: pd.Timestamp) -> list[str]:
        """Return the members on `as_of`, sorted."""
        inside = ~(self.entries["first"] > as_of) & ~(self.entries["last"] < as_of)
        return sorted(self.entries.loc[inside, "symbol"].unique())

    def membership(self, sessions: pd.DatetimeIndex, symbols: list[str]) -> pd.DataFrame:
        """Return bool [session, symbol]: whether the symbol was a member."""
        belongs = pd.DataFrame(False, index=sessions, columns=symbols)
        days = sessions.to_numpy()
        for symbol, first, last in self._spans():
            belongs[symbol] |= ~(days < first) & ~(days > last)
        return belongs

    @property
    def sectors(self) -> list[str]:
        """The names of all sectors, sorted; empty where the settings name no column of them."""
        return sorted(self.entries["sector"].dropna().unique()) if "sector" in self.entries else []

    def sector_codes(self, sessions: pd.DatetimeIndex, symbols: list[str]) -> pd.DataFrame:
        """Return the place of each symbol's sector in `sectors`, int [session, symbol]; -1 where it has none."""
        places = {name: place for place, name in enumerate(self.sectors)}
        codes = pd.DataFrame(-1, index=sessions, columns=symbols)
        if not places:
            return codes
        days = sessions.to_numpy()
        for (symbol, first, last), sector in zip(self._spans(), self.entries["sector"], strict=True):
            if symbol in codes and sector in places:
                codes.loc[~(days < first) & ~(days > last), symbol] = places[sector]
        return codes

    def _spans(self) -> Iterator[tuple[str, np.datetime64, np.datetime64]]:
        entries = self.entries
        return zip(entries["symbol"], entries["first"].to_numpy(), entries["last"].to_numpy(), strict=True)


def universe(config: UniverseConfig, base: Path, listed: list[str]) -> Universe:
    """Return the configured universe.

    Args:
        config: The members are `symbols` or those in `file`; with neither, all symbols that the source lists.
        base: The folder that a relative `file` refers to.
        listed: The symbols that the source lists.

    Raises:
        ConfigError: the universe is empty.
        InputError: the file is unreadable or contradictory.
    """
    if config.file:
        return _read(config.name, base / expand(config.file), config.sector)
    symbols = list(config.symbols) or listed
    if not symbols:
        raise ConfigError(
            f"The universe {config.name!r} has no symbol", where="[universe]", fix="give symbols or file"
        )
    never = pd.Series(pd.NaT, index=range(len(symbols)), dtype="datetime64[us]")
    return Universe(config.name, pd.DataFrame({"symbol": symbols, "first": never, "last": never}))


def series_universe(name: str, symbols: Sequence[str]) -> Universe:
    """Return context series in the form in which prices are fetched, checked and stored; none is a constituent.

    Args:
        name: [universe] name, whose store they are kept in.
        symbols: Their symbols.
    """
    never = pd.Series(pd.NaT, index=range(len(symbols)), dtype="datetime64[us]")
    entries = pd.DataFrame({"symbol": pd.Series([*symbols], dtype="str"), "first": never, "last": never})
    return Universe(name, entries, {symbol: (f"{CONTEXT}{symbol}",) for symbol in symbols})


def _read(name: str, path: Path, sector: str) -> Universe:
    table = read_table(
        path,
        needed=("symbol",),
        optional=("from", "to", "formerly"),
        what="The universe file",
        key="[universe] file",
    )
    if table.empty:
        raise InputError("The universe file has no row", where=str(path), fix="add symbols")
    symbols = table["symbol"].fillna("")
    _check_symbols(symbols, path)
    first, last = parse_dates(table, "from", path), parse_dates(table, "to", path)
    if (is_reversed := (first > last).to_numpy()).any():
        row = int(is_reversed.argmax())
        raise InputError(
            f"{symbols[row]} leaves on {last[row]:%Y-%m-%d}, before it joins on {first[row]:%Y-%m-%d}",
            where=f"{path}, data row {row + 1}",
            fix="write from and to in chronological order",
        )
    entries = pd.DataFrame({"symbol": symbols, "first": first, "last": last})
    former = _read_former(table, symbols, path)
    current = {older: symbol for symbol, names in former.items() for older in names}
    _check_former_members(entries, current, former, path)
    if sector:
        entries["sector"] = _read_sectors(table, sector, path)
    return Universe(name, entries.assign(symbol=symbols.replace(current)), former)


def _read_sectors(table: pd.DataFrame, column: str, path: Path) -> "pd.Series[str]":
    """Return the sector of each row, with single blanks between its words; None where the cell is blank."""
    if column.lower() not in table:
        raise InputError(
            f"The universe file has no column {quoted(column)}",
            where=f"{path}, named by [universe] sector",
            fix=f"add it, or name one of its columns: {', '.join(map(str, table.columns))}",
        )
    cells = table[column.lower()].astype(object)
    sectors = cells.where(cells.notna(), None).map(lambda cell: cell and " ".join(cell.split()))
    if sectors.notna().sum() == 0:
        raise InputError(
            f"The column {quoted(column)} of the universe file is blank on every row",
            where=f"{path}, named by [universe] sector",
            fix="fill it, or name another column",
        )
    return sectors


def _check_symbols(symbols: "pd.Series[str]", path: Path) -> None:
    """Raise for the first invalid symbol; the index counts data rows from 0."""
    if (bad := find_bad_symbol(symbols)) is not None:
        raise InputError(
            f"No symbol can be named {quoted(symbols.iloc[bad])}",
            where=f"{path}, data row {symbols.index[bad] + 1}",
            fix=SYMBOL_FIX,
        )


def _read_former(table: pd.DataFrame, symbols: "pd.Series[str]", path: Path) -> dict[str, tuple[str, ...]]:
    """Return the former symbols by the current one; raise where one belongs to two listings."""
    if "formerly" not in table:
        return {}
    listed = table["formerly"].fillna("").str.split()
    _check_symbols(listed.explode().dropna(), path)
    former: dict[str, tuple[str, ...]] = {}
    claimed: dict[str, str] = {}
    for row, (symbol, names) in enumerate(zip(symbols, map(tuple, listed), strict=True)):
        if names and former.setdefault(symbol, names) != names:
            raise _contradiction(f"{symbol} has other former symbols than in an earlier row", path, row)
        for name in names:
            if name == symbol or names.count(name) > 1:
                raise _contradiction(f"The former symbols of {symbol} lead back to {name}", path, row)
            if claimed.setdefault(name, symbol) != symbol:
                raise _contradiction(
                    f"{name} is a former symbol of {claimed[name]} and of {symbol}", path, row
                )
    return former


def _check_former_members(
    entries: pd.DataFrame, current: Mapping[str, str], former: Mapping[str, tuple[str, ...]], path: Path
) -> None:
    """Raise where a row under a former symbol is not the earlier membership of the same listing."""
    begins = entries.groupby("symbol")["first"].agg(lambda days: days.min(skipna=False))
    for row, (symbol, last) in enumerate(zip(entries["symbol"], entries["last"], strict=True)):
        if symbol not in current:
            continue
        if symbol in former:
            what = f"{symbol} is a former symbol of {current[symbol]} and has former symbols itself"
            raise _contradiction(what, path, row)
        if not last < begins[current[symbol]]:  # NaT: no entry or no exit date
            what = f"{symbol} is a former symbol of {current[symbol]} but is a constituent at the same time or later"
            raise _contradiction(what, path, row)


def _contradiction(what: str, path: Path, row: int) -> InputError:
    return InputError(
        what,
        where=f"{path}, data row {row + 1}",
        fix="one row per listing, under its current symbol; in 'formerly' all its older symbols, oldest first, "
        "with blanks between them",
    )
