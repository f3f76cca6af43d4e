"""Which fetched bars are new: not stored yet, or stored with other values."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.prices.bar_block import COLUMNS

__all__ = ["VALUES", "bar_ids", "changed", "chunks"]

VALUES = [*COLUMNS, "currency", "status", "source"]
"""The values of a bar: a row that differs in one of them from the stored bar is a new version."""

_TOLERANCES = dict.fromkeys(COLUMNS, 1e-06) | {"volume": 1e-4}
"""Relative tolerances below which numbers are equal: vendors compute in single precision, and round split-adjusted
volumes to whole shares."""
_DAY_RANGE = 1 << 32  # days: more than any two sessions lie apart
_ROWS = 500_000  # compared at a time, about: long histories of many symbols would be in memory three times


def bar_ids(instrument: NDArray[np.int64], session: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    """Return one integer per (instrument, session), ascending in the instrument, then in the session."""
    return instrument * _DAY_RANGE + session.to_numpy("datetime64[D]").astype(np.int64)


def chunks(prices: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the rows in parts of whole instruments."""
    code, instruments = pd.factorize(prices["instrument_id"])
    size = max(_ROWS * len(instruments) // max(len(prices), 1), 1)
    for first in range(0, len(instruments), size):
        inside = (code >= first) & (code < first + size)
        yield prices if inside.all() else prices[inside]


def changed(prices: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose bar is not among the stored ones, or has other values there."""
    if stored.empty:
        return prices
    code, _ = pd.factorize(pd.concat([stored["instrument_id"], prices["instrument_id"]]))
    old_code, new_code = code[: len(stored)], code[len(stored) :]
    place = pd.Index(bar_ids(old_code, stored["session"])).get_indexer(
        pd.Index(bar_ids(new_code, prices["session"]))
    )
    same = place >= 0
    for name in VALUES:
        old, new = stored[name].array.take(place), prices[name].array
        equal = np.abs(new - old) <= _TOLERANCES[name] * np.abs(old) if name in _TOLERANCES else old == new
        is_missing = new.isna() if name == "currency" else old.isna() & new.isna()
        same &= np.asarray(equal | is_missing, dtype=bool)
    return prices[~same]
