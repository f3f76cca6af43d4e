"""How much each training row counts: all the same, the recent ones more, or those of quiet times more.

A weight depends on what was known at its row, apart from a constant that makes the mean of all training rows 1.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HALF_LIFE", "VOLATILITY", "Weigh", "weigh_by_volatility", "weigh_recent"]

HALF_LIFE: Final = 756
"""Sessions (three years) after which a row counts half."""

VOLATILITY: Final = 20
"""Returns that a row's volatility is measured on, its own included."""

_MOST: Final = 4.0
"""Weights by volatility lie between 1/4 and 4 times that of a row with median volatility."""

Weigh = Callable[[NDArray[np.float32], NDArray[np.bool_], range], NDArray[np.float32]]
"""x [symbol, session, feature], mask [symbol, session] and the training sessions to weights [symbol, session]."""


def weigh_recent(x: NDArray[np.float32], mask: NDArray[np.bool_], sessions: range) -> NDArray[np.float32]:
    """Return w = 2 ** (-age / HALF_LIFE) over its mean, age in sessions before the last of `sessions`."""
    age = np.maximum(sessions.stop - 1 - np.arange(mask.shape[1]), 0)
    return _over_mean(np.broadcast_to(0.5 ** (age / HALF_LIFE), mask.shape), mask, sessions)


def weigh_by_volatility(
    return_feature: int, x: NDArray[np.float32], mask: NDArray[np.bool_], sessions: range
) -> NDArray[np.float32]:
    """Return w = median(s) / s over its mean, cut off at 1/4 and 4.

    s is the root of the mean squared return over the last VOLATILITY sessions with a bar, the row's own included; the
    median is over the valid rows of `sessions`. A row whose s is zero counts as one of median volatility.

    Args:
        return_feature: Column of x with the return of the row's own session.
        x: Unscaled features, float32 [symbol, session, feature].
        mask: [symbol, session], true where the row is valid.
        sessions: Session numbers to train on.
    """
    squares = np.where(mask, x[:, :, return_feature].astype(np.float64) ** 2, 0.0)
    volatility = np.sqrt(_last_sum(squares, mask) / np.maximum(_last_sum(mask.astype(float), mask), 1.0))
    inside = slice(sessions.start, sessions.stop)
    known = volatility[:, inside][mask[:, inside] & (volatility[:, inside] > 0)]
    median = float(np.median(known)) if len(known) else 1.0
    ratio = median / np.where(volatility > 0, volatility, median)
    return _over_mean(np.clip(ratio, 1 / _MOST, _MOST), mask, sessions)


def _last_sum(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the sum over the last VOLATILITY valid rows of each symbol, [symbol, session]."""
    total = np.zeros(values.shape)
    for symbol, valid in enumerate(mask):
        sums = np.cumsum(values[symbol, valid])
        sums[VOLATILITY:] -= sums[:-VOLATILITY].copy()
        total[symbol, valid] = sums
    return total


def _over_mean(weights: NDArray[np.float64], mask: NDArray[np.bool_], sessions: range) -> NDArray[np.float32]:
    inside = slice(sessions.start, sessions.stop)
    mean = weights[:, inside][mask[:, inside]].mean() if mask[:, inside].any() else 1.0
    return np.asarray(weights / mean, np.float32)
