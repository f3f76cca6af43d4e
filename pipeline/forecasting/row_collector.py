"""Long frames joined column by column: a second copy of all rows would be the most memory that a walk takes."""

from collections.abc import Iterable

import pandas as pd

__all__ = ["RowCollector"]


class RowCollector:
    """Collects the rows of many frames without holding any of them.

    Args:
        columns: The columns that are kept; none: those of the first frame.
    """

    def __init__(self, columns: Iterable[str] = ()) -> None:
        self._parts: dict[str, list[pd.Series]] = {column: [] for column in columns}

    def add(self, rows: pd.DataFrame) -> None:
        """Add the rows of a frame that has every column."""
        for column in self._parts or [*map(str, rows.columns)]:
            # A copy, for a column keeps alive all those of its frame that have the same type.
            self._parts.setdefault(column, []).append(rows[column].copy())

    def join(self) -> pd.DataFrame:
        """Return all rows in the order in which they were added; nothing is kept of them."""
        names = [*self._parts]
        joined = {name: pd.concat(self._parts.pop(name), ignore_index=True) for name in names}
        return pd.DataFrame(joined, copy=False)
