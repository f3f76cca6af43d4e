"""Bars as one dense array on the calendar, filled directly from the columns of the store's files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

__all__ = ["COLUMNS", "Block", "build_block"]

COLUMNS = ("open", "high", "low", "close", "volume", "dividend", "split")
"""The last axis of a block, in order."""


@dataclass(frozen=True, eq=False)
class Block:
    """Bars of a universe as traded, unadjusted.

    Attributes:
        values: [session, symbol, column], NaN where there is no bar.
        sessions, symbols: The labels of the first two axes; those of the third are COLUMNS.
    """

    values: NDArray[np.floating]
    sessions: pd.DatetimeIndex
    symbols: list[str]

    def __getitem__(self, column: str) -> NDArray[np.floating]:
        """Return one column, [session, symbol]."""
        return self.values[:, :, COLUMNS.index(column)]

    @property
    def has_bar(self) -> NDArray[np.bool_]:
        """Whether there is a bar, [session, symbol]."""
        return np.asarray(~np.isnan(self["close"]))

    def from_first_bar(self) -> "Block":
        """Return the block without the sessions before its first bar; an empty one if there is no bar."""
        is_reached = np.logical_or.accumulate(self.has_bar.any(axis=1))
        first = len(is_reached) - int(is_reached.sum())
        return replace(self, values=self.values[first:], sessions=self.sessions[first:])


def build_block(
    batches: Iterable[pa.RecordBatch],
    symbols: Sequence[str],
    sessions: pd.DatetimeIndex,
    *,
    instruments: Mapping[str, str],
    dtype: DTypeLike = np.float64,
) -> Block:
    """Place rows on the calendar; of several rows of one bar the one with the highest seq counts.

    Args:
        batches: COLUMNS, session, seq, and instrument_id as codes (pa.DictionaryArray), in any order; rows of other
            instruments and sessions are ignored.
        symbols: The second axis; a symbol without bars is all NaN.
        sessions: The first axis: calendar sessions, ascending.
        instruments: The instrument_id of each symbol that differs from it.
        dtype: Of the block. Single precision is enough for training, not for deciding whether a close was unchanged.
    """
    positions = {instruments.get(symbol, symbol): number for number, symbol in enumerate(symbols)}
    outside = len(symbols) * len(sessions)  # one extra cell, for rows of other symbols and sessions
    values = np.full((len(COLUMNS), outside + 1), np.nan, dtype)
    newest = np.full(outside + 1, -1, np.int64)
    for batch in batches:
        symbol, session = _find_positions(batch, positions, sessions)
        cell = np.where((symbol >= 0) & (session >= 0), symbol * len(sessions) + session, outside)
        seq = batch.column("seq").to_numpy()
        np.maximum.at(newest, cell, seq)
        is_newest = seq == newest[cell]
        kept = slice(None) if is_newest.all() else is_newest
        for column, name in zip(values, COLUMNS, strict=True):
            column[cell[kept]] = batch.column(name).to_numpy(zero_copy_only=False)[kept]
    # In memory a symbol's history of one column is contiguous, because features roll along it; the axes are a view.
    dense = values[:, :outside].reshape(len(COLUMNS), len(symbols), len(sessions))
    return Block(dense.transpose(2, 1, 0), sessions, list(symbols))


def _find_positions(
    batch: pa.RecordBatch, positions: Mapping[str, int], sessions: pd.DatetimeIndex
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the symbol and session numbers of each row, -1 where it is outside the block."""
    code = batch.column("instrument_id")
    known = np.array([positions.get(instrument, -1) for instrument in code.dictionary.to_pylist()], np.int64)
    session = pd.DatetimeIndex(batch.column("session").to_numpy(zero_copy_only=False))
    return known[code.indices.to_numpy()], sessions.get_indexer(session)
