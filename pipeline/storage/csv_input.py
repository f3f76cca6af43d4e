"""Small hand-written CSV tables: read as text; errors name the file and row."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.errors import InputError, quoted

__all__ = ["parse_dates", "read_table"]


def read_table(
    path: Path, *, needed: Sequence[str], optional: Sequence[str] = (), what: str, key: str
) -> pd.DataFrame:
    """Read the cells of a CSV as text, NaN where blank, with column names in lower case.

    Lines may end in a comment that begins with #. The index counts data rows from 0.

    Args:
        path: The file, in UTF-8.
        needed: Required columns.
        optional: Further columns that are allowed once.
        what: The table's name in messages.
        key: The setting that names the file.

    Raises:
        InputError: the file cannot be read, or a column is missing or duplicate.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise OSError("it is not a file")
        cells = pd.read_csv(
            path,
            header=None,  # pandas would rename a duplicate column
            dtype=str,
            comment="#",
            skipinitialspace=True,
            encoding="utf-8-sig",
            keep_default_na=False,  # NA is a ticker symbol
            na_values=[""],
        )
    except (OSError, ValueError, EOFError, zlib.error) as error:
        reason = str(getattr(error, "strerror", None) or error).partition("\n")[0]
        raise InputError(
            f"{what} cannot be read: {reason}",
            where=str(path),
            fix=f"save the file again as UTF-8 text, or fix {key}",
        ) from None
    names = cells.iloc[0].fillna("").str.strip().str.lower().tolist()
    if any(names.count(name) != 1 for name in needed) or any(names.count(name) > 1 for name in optional):
        wanted = [f"one column {name!r}" for name in needed] + [f"at most one {name!r}" for name in optional]
        raise InputError(
            f"{what} needs {', '.join(wanted)}",
            where=str(path),
            fix=f"columns, separated by commas: {', '.join(needed)}"
            + (f", and optionally {', '.join(optional)}" if optional else ""),
        )
    table = cells.iloc[1:].reset_index(drop=True).set_axis(names, axis=1)
    table = table.loc[:, ~table.columns.duplicated()]
    stripped: pd.DataFrame = table.apply(lambda column: column.str.strip())
    return stripped.mask(stripped == "")


def parse_dates(table: pd.DataFrame, column: str, path: Path) -> "pd.Series[pd.Timestamp]":
    """Return a column's dates, NaT where a cell is blank or the column is missing.

    Raises:
        InputError: a cell is not a date.
    """
    if column not in table:
        return pd.Series(pd.NaT, index=table.index, dtype="datetime64[us]")
    days = pd.to_datetime(table[column], format="%Y-%m-%d", errors="coerce").astype("datetime64[us]")
    if (wrong := (days.isna() & table[column].notna()).to_numpy()).any():
        row = int(wrong.argmax())
        raise InputError(
            f"{quoted(table[column].iloc[row])} in the column {column!r} is not a date",
            where=f"{path}, data row {row + 1}",
            fix="write a date as 2018-12-31, or leave the cell empty",
        )
    return days
