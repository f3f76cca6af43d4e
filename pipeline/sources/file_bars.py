"""The bars of one file of the user: its columns by meaning, its cells as numbers and dates, and its faults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.errors import InputError, quoted
from pipeline.formatting import count
from pipeline.schema import SYMBOL_FIX, SYMBOL_PATTERN
from pipeline.sources.cells import (
    Cells,
    Decimal,
    Exchange,
    find_decimal,
    read_numbers,
    read_sessions,
    read_splits,
)
from pipeline.sources.columns import (
    COLUMN_NAMES,
    DEFAULTS,
    PRICES,
    REQUIRED,
    add_gains,
    assign_meanings,
    find_doubtful,
    find_meaning,
)
from pipeline.sources.tables import (
    FileTable,
    lacking_error,
    read_table,
    refuse_duplicates,
    unreadable_error,
)

__all__ = ["FileBars", "join_errors", "read_bars"]

_MOST = 4
"""Faults that a message lists."""


@dataclass(frozen=True, eq=False)
class FileBars:
    """What one file holds.

    Attributes:
        bars: symbol, session and the other bar columns, without the symbols of `faults`.
        faults: Why a symbol's rows cannot be read, by symbol; also for texts that are no symbol.
        columns: What was read as what, and what was not read.
        doubt: Which columns are not read although they look like splits, dividends or adjusted prices; "" for none.
    """

    bars: pd.DataFrame
    faults: Mapping[str, InputError] = field(default_factory=dict)
    columns: str = ""
    doubt: str = ""


def read_bars(file: Path, file_symbol: str, exchange: Exchange) -> FileBars:
    """Read one file.

    Args:
        file: CSV or Parquet.
        file_symbol: The symbol of a file without a symbol column; "" where the file must have one.
        exchange: What the dates are read by.

    Raises:
        NoPricesError: the file has no column of prices.
        InputError: the file as a whole cannot be read as prices; everything that has to change is named.
    """
    try:
        return _read_bars(file, file_symbol, exchange)
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise unreadable_error(file, error) from error


def _read_bars(file: Path, file_symbol: str, exchange: Exchange) -> FileBars:
    table = read_table(file)
    refuse_duplicates(table.rows.columns, file)
    names = _name_columns(table.rows, file, file_symbol)
    rows = table.rows[[c for c, name in names.items() if name]].rename(columns=names)
    if "symbol" not in rows and file_symbol:
        rows = rows.assign(symbol=file_symbol)
    cells, problems = _read_cells(rows, table, names, file, exchange)
    if problems:
        raise join_errors(problems, file)
    symbols = rows["symbol"].astype("str").fillna("").str.strip()
    is_note = cells["session"].is_bad & pd.DataFrame(
        {n: cells[n].is_empty for n in PRICES if n in cells}
    ).all(axis=1)
    faults = _find_faults(symbols.mask(is_note), rows, cells, table, file)
    bars = pd.DataFrame({name: column.values for name, column in cells.items()}).assign(symbol=symbols)
    bars = bars.assign(**{name: value for name, value in DEFAULTS.items() if name not in bars})
    if "gain" in cells:
        bars["dividend"] = add_gains(bars["dividend"], bars.pop("gain"))
    if faults or is_note.any():
        bars = bars[~symbols.isin(faults) & ~is_note]
    described = _describe_columns(names, int(is_note.sum()), has_times=cells["session"].has_times)
    return FileBars(bars, faults, described, find_doubtful(names, table.rows))


def join_errors(errors: Sequence[InputError], place: Path) -> InputError:
    """Return one error that names all faults of a file or folder."""
    if len(errors) == 1:
        return errors[0]
    listed = "".join(f"\n           {error.where}: {error.what}" for error in errors[:_MOST])
    if len(errors) > _MOST:
        listed += f"\n           and {len(errors) - _MOST} more"
    fixes = dict.fromkeys(error.fix for error in errors[:_MOST])
    return InputError(
        f"{place.name} cannot be read as prices, for {len(errors)} reasons",
        where=f"{place}{listed}",
        fix="\n         ".join(fixes),
    )


def _name_columns(rows: pd.DataFrame, file: Path, file_symbol: str) -> dict[object, str | None]:
    """Return what each column means; in a file of one symbol a column Name holds the company's name.

    Raises:
        InputError: the file should hold one symbol, and that column holds several names.
    """
    names = assign_meanings(rows.columns)
    second = [column for column, name in names.items() if name == "symbol" and find_meaning(column) is None]
    if file_symbol and second:
        several = rows[second[0]].dropna().astype("str").unique()
        if len(several) > 1:
            raise InputError(
                f"The column {second[0]} holds {len(several)} names, e.g. {quoted(several[0])} and "
                f"{quoted(several[1])}, in a folder with a file per symbol",
                where=str(file),
                fix="rename the column to symbol, or make a file of each; if they are names of one company, delete "
                f"the column {second[0]}",
            )
        names[second[0]] = None
    return names


def _read_cells(
    rows: pd.DataFrame, table: FileTable, names: Mapping[object, str | None], file: Path, exchange: Exchange
) -> tuple[dict[str, Cells], list[InputError]]:
    """Return the cells of each column, and why the file as a whole cannot be read."""
    problems, cells = list[InputError](), dict[str, Cells]()
    if missing := [name for name in [*REQUIRED, "symbol"] if name not in rows]:
        problems.append(lacking_error(missing, names, file))
    decimal: Decimal = "."
    numbers = [name for name in COLUMN_NAMES if name not in ("session", "symbol")]
    numeric = [name for name in numbers if name in rows]
    try:
        decimal = find_decimal([rows[name] for name in numeric if name != "split"], table.separator, file)
    except InputError as error:
        problems.append(error)
    if "session" in rows:
        try:
            written = str(next(column for column, name in names.items() if name == "session"))
            cells["session"] = read_sessions(rows["session"].rename(written), file, exchange)
        except InputError as error:
            problems.append(error)
    for name in numeric:
        read = read_splits if name == "split" else read_numbers
        cells[name] = read(rows[name], decimal)
    return cells, problems


def _find_faults(
    symbols: "pd.Series[str]", rows: pd.DataFrame, cells: Mapping[str, Cells], table: FileTable, file: Path
) -> dict[str, InputError]:
    """Return why a symbol's rows cannot be read, by symbol: its first bad cell, or its name."""
    faults = dict[str, InputError]()
    unique = pd.Series(symbols.dropna().unique(), dtype="str")
    for name in unique[~unique.str.fullmatch(SYMBOL_PATTERN)]:
        at = int((symbols == name).to_numpy().argmax())
        where = f"{file}, data row {table.numbers[at]}"
        faults[name] = InputError(f"No symbol can be named {quoted(name)}", where=where, fix=SYMBOL_FIX)
    is_bad = pd.DataFrame({name: column.is_bad for name, column in cells.items()})
    concerned = symbols[is_bad.any(axis=1) & ~symbols.isin(faults)].dropna().drop_duplicates()
    for at, symbol in zip(concerned.index.tolist(), concerned, strict=True):
        name = str(is_bad.iloc[at].idxmax())
        where = f"{file}, data row {table.numbers[at]}"
        faults[symbol] = _cell_error(rows[name].iloc[at], name, cells[name].kind, where)
    return faults


def _cell_error(cell: object, column: str, kind: str, where: str) -> InputError:
    if kind == "date":
        given = "An empty cell" if pd.isna(cell) or cell == "" else quoted(cell)  # type: ignore[call-overload]
        return InputError(f"{given} is no date", where=where, fix="write dates as 2018-12-31")
    dropped = "fix the cell, or leave it empty: the bar is then dropped with a finding"
    fix = dropped if column in REQUIRED else "fix the cell; leave it empty where there is none"
    return InputError(f"{quoted(cell)} in {column} is no {kind}", where=where, fix=fix)


def _describe_columns(names: Mapping[object, str | None], notes: int, *, has_times: bool) -> str:
    read = [
        str(column)
        if str(column).lower() == (shown := name.replace("session", "date"))
        else f"{column} as {shown}"
        for column, name in names.items()
        if name
    ]
    unread = [quoted(c) for c, name in names.items() if not name and str(c).strip()]
    listed = ", ".join(unread[:10]) + (f" and {len(unread) - 10} more" if len(unread) > 10 else "")
    left_out = [f"not read: {listed}"] if unread else []
    left_out += ["times of day without an offset left out"] if has_times else []
    without = [name for name in ("open", "high", "low") if name not in names.values()]
    left_out += [f"without {', '.join(without)}"] if without else []
    left_out += [f"{count(notes, 'line')} of text, without a date and prices, left out"] if notes else []
    return "; ".join([", ".join(read), *left_out])
