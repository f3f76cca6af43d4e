"""Long frames joined as they come: a second copy of all rows would be the most memory that a walk takes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["RowCollector"]


class RowCollector:
    """Collects the rows of many frames, each column in one array that grows.

    Lists of parts that are joined at the end would take the memory twice: what is freed of so many parts in turn is no
    place for a whole column.

    Args:
        columns: The columns that are kept; none: those of the first frame.
    """

    def __init__(self, columns: Iterable[str] = ()) -> None:
        self._names = [*columns]
        self._types: dict[str, Any] = {}
        self._columns: dict[str, NDArray[Any]] = {}

    def add(self, rows: pd.DataFrame) -> None:
        """Add the rows of a frame that has every column: categories, instants or numbers, alike in all frames.

        Raises:
            TypeError: a column has another type, or other categories, than in the frames before.
        """
        self._names = self._names or [*map(str, rows.columns)]
        for name in self._names:
            column = rows[name]
            if not _is_alike(self._types.setdefault(name, column.dtype), column.dtype):
                raise TypeError(f"{name} is {column.dtype}, and {self._types[name]} in the frames before")
            is_category = isinstance(column.dtype, pd.CategoricalDtype)
            self._append(name, np.asarray(column.cat.codes if is_category else column))

    def join(self) -> pd.DataFrame:
        """Return all rows in the order in which they were added; nothing is kept of them."""
        if not self._columns:
            return pd.DataFrame(columns=self._names)
        joined = {name: self._restore(self._columns.pop(name), self._types[name]) for name in self._names}
        return pd.DataFrame(joined, copy=False)

    def _append(self, name: str, values: NDArray[Any]) -> None:
        if name not in self._columns:
            self._columns[name] = values.copy()
            return
        column = self._columns[name]
        rows = len(column)
        column.resize(rows + len(values), refcheck=False)  # nobody else has seen it
        column[rows:] = values

    @staticmethod
    def _restore(values: NDArray[Any], dtype: Any) -> Any:
        return (
            pd.Categorical.from_codes(values, dtype=dtype)
            if isinstance(dtype, pd.CategoricalDtype)
            else values
        )


def _is_alike(one: Any, other: Any) -> bool:
    """Return whether two types are equal; pandas does not look at the order of categories, their codes depend on it."""
    if isinstance(one, pd.CategoricalDtype) and isinstance(other, pd.CategoricalDtype):
        return bool(one.categories.equals(other.categories))
    return bool(one == other)
