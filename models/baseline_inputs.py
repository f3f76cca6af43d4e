"""What the baselines read of a row: recent returns, a long momentum, or one feature against the session's median."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.windows import gather_windows

__all__ = [
    "MOMENTUM",
    "RECENT",
    "Inputs",
    "Read",
    "read_centred",
    "read_column",
    "read_momentum",
    "read_recent",
    "read_window",
]

RECENT: Final = 5
"""Number of recent returns that the classical models see, next to all features of the last session."""

MOMENTUM: Final = (252, 21)
"""The long momentum is the return from 252 to 21 sessions ago: a year without its last month, in which returns tend to
reverse. Jegadeesh and Titman (1993), "Returns to buying winners and selling losers"; without the last month as in
Fama and French (1996), "Multifactor explanations of asset pricing anomalies"."""

_DIGITS: Final = 9
"""Digits of a sum of returns that are no rounding error."""

Inputs = NDArray[np.floating]
Read = Callable[[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int32]], Inputs]
"""x [symbol, session, feature], mask [symbol, session] and flat row numbers to inputs [row, column]."""


def read_recent(
    return_feature: int,
    recent: int,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    rows: NDArray[np.int32],
    dtype: type[np.floating] = np.float32,
) -> Inputs:
    """Return [row, column]: the features of the last session in their order, then the returns before it.

    In sequence mode there may be sessions without a bar in between, which count as returns of zero.
    """
    returns = gather_windows(x[:, :, [return_feature]], rows, recent)[:, :-1, 0]
    return np.concatenate([x.reshape(-1, x.shape[-1])[rows], returns], axis=1, dtype=dtype)


def read_window(
    lookback: int, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
) -> Inputs:
    """Return [row, lookback * feature]: all features of the last `lookback` sessions, the oldest first.

    In sequence mode there may be sessions without a bar in between, whose features are read as they stand in x.
    """
    return gather_windows(x, rows, lookback).reshape(len(rows), -1)


def read_momentum(
    return_feature: int, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
) -> Inputs:
    """Return [row, 1]: the sum of the returns from MOMENTUM[0] to MOMENTUM[1] sessions ago.

    Sessions without a valid row count as returns of zero; a symbol whose first valid row is younger has a sum of 0,
    which is no direction. Sums are rounded, so that a row has the same sign wherever the block begins.
    """
    first, last = MOMENTUM
    total = np.zeros(mask.shape, np.float32)
    if mask.shape[1] >= first:
        level = np.cumsum(np.where(mask, x[:, :, return_feature], 0), axis=1, dtype=np.float64)
        before = np.pad(level, ((0, 0), (1, 0)))[:, : mask.shape[1] - first + 1]
        has_begun = np.logical_or.accumulate(mask, axis=1)[:, : mask.shape[1] - first + 1]
        sums = level[:, first - last - 1 : mask.shape[1] - last] - before
        total[:, first - 1 :] = np.where(has_begun, sums, 0).round(_DIGITS)
    return total.reshape(-1, 1)[rows]


def read_column(
    column: int, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
) -> Inputs:
    """Return one feature of the rows, [row, 1]."""
    return x.reshape(-1, x.shape[-1])[rows][:, [column]]


def read_centred(
    column: int,
    read: Read,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    rows: NDArray[np.int32],
) -> Inputs:
    """Read one feature, less the median of the valid rows of its session, as the only feature there is."""
    values = np.where(mask, x[:, :, column], np.float32(np.nan))
    is_known = mask.any(axis=0)
    median = np.zeros(mask.shape[1], np.float32)
    median[is_known] = np.nanmedian(values[:, is_known], axis=0)
    return read(np.where(mask, x[:, :, column] - median, np.float32(0))[..., None], mask, rows)
