"""Sequences made of arrays, for tests that need no prices."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.sequences import Sequences
from pipeline.outputs import DIRECTION, Output

__all__ = ["NO_MEDIAN", "directions", "sequences_of"]

NO_MEDIAN = {
    "target": DIRECTION,
    "median_return": np.nan,
    "median_members": np.nan,
    "median_basis": np.nan,
    "void_reason": np.nan,
}
"""The columns of an outcome that only a relative or a void one fills."""


def directions(*horizons: int) -> tuple[Output, ...]:
    """Return the outputs that forecast directions so many sessions ahead."""
    return tuple(Output(DIRECTION, horizon) for horizon in horizons)


def sequences_of(
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    y: NDArray[np.float32],
    symbols: tuple[str, ...],
    sessions: pd.DatetimeIndex,
    horizons: tuple[int, ...],
    features: tuple[str, ...],
    returns: NDArray[np.float64] | None = None,
) -> Sequences:
    """Return sequences whose outputs are directions; without returns, these are 0."""
    given = np.zeros(y.shape) if returns is None else returns
    asked = np.ones(y.shape, bool)
    return Sequences(x, mask, y, given, asked, symbols, sessions, directions(*horizons), features)
