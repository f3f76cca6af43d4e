"""CSV output without formula injection: spreadsheets run a text that looks like a formula."""

import re
from collections.abc import Iterable
from typing import Any, BinaryIO, Final

import pandas as pd
import pyarrow as pa
from pyarrow import csv

__all__ = ["disarm", "format_csv", "write_plain_csv"]

_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""The first characters of a formula according to OWASP ("CSV Injection"), full-width forms included."""


def disarm(cell: Any) -> Any:
    """Return a cell that no spreadsheet runs: such a text gets a leading apostrophe, other types are unchanged.

    Line breaks become spaces, because the csv module leaves some of them unquoted, which would begin a new row.
    """
    if not isinstance(cell, str):
        return cell
    line = re.sub(r"[\r\n]", " ", cell)
    return f"'{line}" if cell.startswith(_FORMULA_SIGNS) else line


def format_csv(frame: pd.DataFrame) -> str:
    """Format a frame as CSV: numbers with six decimals, texts disarmed."""
    text = frame.select_dtypes(["str", "object", "category"])
    # Disarms each distinct text once: a long column has few of them.
    safe = {
        str(name): column.map({cell: disarm(cell) for cell in column.unique()})
        for name, column in text.items()
    }
    return str(frame.assign(**safe).to_csv(index=False, float_format="%.6f", lineterminator="\n"))


_PLAIN: Final = csv.WriteOptions(include_header=False, quoting_style="none")


def write_plain_csv(file: BinaryIO, columns: list[str], parts: Iterable[pd.DataFrame]) -> None:
    """Write consecutive frames as `format_csv` would, many times faster; only a negative zero loses its sign.

    Args:
        file: The open file.
        columns: The columns of each part.
        parts: Frames of finite or missing numbers and of texts that need neither quotes nor disarming, such as
            symbols, days and digests.

    Raises:
        pyarrow.ArrowInvalid: a text needs quotes, or a number is not finite.
    """
    file.write(f"{','.join(columns)}\n".encode())
    for part in parts:
        table = pa.Table.from_pandas(part[columns], preserve_index=False)
        plain = pa.schema([(field.name, _as_plain(field.type)) for field in table.schema])
        csv.write_csv(table.cast(plain), file, _PLAIN)


def _as_plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_floating(kind):
        return pa.decimal128(38, 6)
    return kind if pa.types.is_integer(kind) else pa.string()
