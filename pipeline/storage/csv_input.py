"""Small CSV tables that a person writes: read as text, each fault with its file and row."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.errors import InputError, quoted

__all__ = ["parse_dates", "read_table"]


def read_table(
    path: Path, *, needed: Sequence[str], optional: Sequence[str] = (), what: str, key: str
) -> pd.DataFrame:
    """Return the cells of a CSV as text, NaN where blank, columns in lower case; rows count from 0.

    Lines may end in a comment that begins with #.

    Args:
        path: The file, in UTF-8.
        needed: Columns that it must have.
        optional: Columns that it may have, once.
        what: What it is called in a message.
        key: The setting that names it.

    Raises:
        InputError: it cannot be read, or lacks a column, or has one twice.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, without end
            raise OSError("it is no file")
        cells = pd.read_csv(
            path,
            header=None,  # pandas would give a second column of one name another
            dtype=str,
            comment="#",
            skipinitialspace=True,
            encoding="utf-8-sig",
            keep_default_na=False,  # NA is a ticker
            na_values=[""],
        )
    except (OSError, ValueError, EOFError, zlib.error) as error:
        reason = str(getattr(error, "strerror", None) or error).partition("\n")[0]
        raise InputError(
            f"{what} cannot be read: {reason}",
            where=str(path),
            fix=f"write the file again (text in UTF-8), or fix {key}",
        ) from None
    names = cells.iloc[0].fillna("").str.strip().str.lower().tolist()
    if any(names.count(name) != 1 for name in needed) or any(names.count(name) > 1 for name in optional):
        wanted = [f"one column {name!r}" for name in needed] + [f"no second {name!r}" for name in optional]
        raise InputError(
            f"{what} needs {', '.join(wanted)}",
            where=str(path),
            fix=f"columns, with commas between them: {', '.join(needed)}"
            + (f", and if you have them {', '.join(optional)}" if optional else ""),
        )
    table = cells.iloc[1:].reset_index(drop=True).set_axis(names, axis=1)
    table = table.loc[:, ~table.columns.duplicated()]
    stripped: pd.DataFrame = table.apply(lambda column: column.str.strip())
    return stripped.mask(stripped == "")


def parse_dates(table: pd.DataFrame, column: str, path: Path) -> "pd.Series[pd.Timestamp]":
    """Return a column's days, NaT where it is blank or not there.

    Raises:
        InputError: a cell holds no date.
    """
    if column not in table:
        return pd.Series(pd.NaT, index=table.index, dtype="datetime64[us]")
    days = pd.to_datetime(table[column], format="%Y-%m-%d", errors="coerce").astype("datetime64[us]")
    if (wrong := (days.isna() & table[column].notna()).to_numpy()).any():
        row = int(wrong.argmax())
        raise InputError(
            f"{quoted(table[column].iloc[row])} in the column {column!r} is no date",
            where=f"{path}, data row {row + 1}",
            fix="write 2018-12-31, or nothing",
        )
    return days
