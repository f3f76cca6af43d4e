"""Bars as one dense block on the calendar, laid out straight from the columns of the store's files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

__all__ = ["COLUMNS", "Block", "lay_out"]

COLUMNS = ("open", "high", "low", "close", "volume", "dividend", "split")
"""The last axis of a block."""


@dataclass(frozen=True, eq=False)
class Block:
    """Bars as traded of a universe.

    Attributes:
        values: [symbol, session, column], NaN where there is no bar.
        symbols, sessions: The names of the first two axes; those of the third are COLUMNS.
    """

    values: NDArray[np.floating]
    symbols: list[str]
    sessions: pd.DatetimeIndex

    def __getitem__(self, column: str) -> NDArray[np.floating]:
        """Return one column, [session, symbol]."""
        return self.values[:, :, COLUMNS.index(column)].T

    @property
    def has_bar(self) -> NDArray[np.bool_]:
        """Whether there is a bar, [session, symbol]."""
        return np.asarray(~np.isnan(self["close"]))

    def from_first_bar(self) -> "Block":
        """Return the sessions from the first one on that any symbol has a bar of; none where there is no bar."""
        is_reached = np.logical_or.accumulate(self.has_bar.any(axis=1))
        first = len(is_reached) - int(is_reached.sum())
        return replace(self, values=self.values[:, first:], sessions=self.sessions[first:])


def lay_out(
    batches: Iterable[pa.RecordBatch],
    symbols: Sequence[str],
    sessions: pd.DatetimeIndex,
    *,
    instruments: Mapping[str, str],
    dtype: DTypeLike = np.float64,
) -> Block:
    """Lay rows onto the calendar; of the rows of one bar the one with the highest seq stays.

    Args:
        batches: COLUMNS, session, seq, and instrument_id as codes (pa.DictionaryArray), in no order; rows of other
            instruments and sessions are left out.
        symbols: The first axis; a symbol without bars is all NaN.
        sessions: The second axis, calendar sessions, ascending.
        instruments: The instrument_id of a symbol, where it is not the symbol itself.
        dtype: Of the block. Single precision is enough to learn from, not to say whether a close was unchanged.
    """
    place = {instruments.get(symbol, symbol): number for number, symbol in enumerate(symbols)}
    outside = len(symbols) * len(sessions)  # one cell more, for rows that nobody asked for
    values = np.full((len(COLUMNS), outside + 1), np.nan, dtype)
    newest = np.full(outside + 1, -1, np.int64)
    for batch in batches:
        symbol, session = _places(batch, place, sessions)
        cell = np.where((symbol >= 0) & (session >= 0), symbol * len(sessions) + session, outside)
        seq = batch.column("seq").to_numpy()
        np.maximum.at(newest, cell, seq)
        stands = seq == newest[cell]
        kept = slice(None) if stands.all() else stands
        for column, name in zip(values, COLUMNS, strict=True):
            column[cell[kept]] = batch.column(name).to_numpy(zero_copy_only=False)[kept]
    # Each column lies in memory as [symbol, session]: a symbol's history is what is read in one go.
    dense = values[:, :outside].reshape(len(COLUMNS), len(symbols), len(sessions))
    return Block(np.moveaxis(dense, 0, 2), list(symbols), sessions)


def _places(
    batch: pa.RecordBatch, place: Mapping[str, int], sessions: pd.DatetimeIndex
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each row belongs on the two axes, -1 where it does not."""
    code = batch.column("instrument_id")
    known = np.array([place.get(instrument, -1) for instrument in code.dictionary.to_pylist()], np.int64)
    session = pd.DatetimeIndex(batch.column("session").to_numpy(zero_copy_only=False))
    return known[code.indices.to_numpy()], sessions.get_indexer(session)
