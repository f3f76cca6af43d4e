"""The input scale: centre and spread of each feature on the training sessions, and a bound on the tails."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMIT", "FitScaling", "Scaling", "fit_scaling", "replace_outliers"]

# Daily returns have fat tails: unbounded, one crash at 20 standard deviations outweighs a year of ordinary
# days in the gradient of the input weights, and one bad bar in a forecast drives a cell into saturation.
LIMIT: Final = 5.0
"""Scaled inputs are cut off at plus and minus this many standard deviations."""

# One wrong bar (a price at a tenth: a return of 200 standard deviations) would otherwise shrink every symbol's inputs.
# Size alone does not tell a fault from a heavy tail, but a tail has no gap: its values follow one another.
_OUTER: Final = (0.05, 0.95)
_BEYOND: Final = 5.0
_GAP: Final = 3.0
_HEAVY: Final = 1e-3
_SAMPLED: Final = 200_000  # rows, about


@dataclass(frozen=True)
class Scaling:
    """Mean and variance of each feature, [feature] as float32."""

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return x [..., feature] in standard deviations from the mean, cut off at LIMIT, as float32."""
        return np.clip((x - self.mean) / np.sqrt(self.variance), -LIMIT, LIMIT)

    def apply_as_saved(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same, rounded as by the layers of the saved network: it cuts off between two rescalings."""
        limit, unit = np.float32(LIMIT), np.float32(1 / LIMIT)
        scaled = (x - self.mean) / np.sqrt(self.variance)
        return np.asarray(np.clip(scaled * unit, np.float32(-1), np.float32(1)) * limit)


FitScaling = Callable[[NDArray[np.float32], NDArray[np.bool_], range], Scaling]
"""Returns the scale of a fit, of x, mask and the training sessions, as `fit_scaling` does."""


def fit_scaling(x: NDArray[np.float32], mask: NDArray[np.bool_], sessions: range) -> Scaling:
    """Return the scale of x [symbol, session, feature] on the valid rows of `sessions` alone.

    Outliers that stand apart from all others, as wrong bars do (`replace_outliers`), have no part in it.
    """
    inside = slice(sessions.start, sessions.stop)
    rows = replace_outliers(x[:, inside][mask[:, inside]])
    variance = rows.var(axis=0, dtype=np.float64)
    # A feature that is constant in training has no scale: it is centred, and cut off like the others.
    variance[variance < np.finfo(np.float32).tiny] = 1.0
    return Scaling(rows.mean(axis=0, dtype=np.float64).astype(np.float32), variance.astype(np.float32))


def replace_outliers(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows with outliers that stand apart replaced by the middle of their column; the same if none.

    Outliers lie beyond the 5% and 95% quantiles by more than five times the distance of these, some 18 standard
    deviations of a normal distribution. Those are replaced that are three times as far from the middle as all values
    before them. A column with more outliers than one in a thousand before that gap has a heavy tail: all of them stay.
    So do those of a column whose quantiles are equal.

    Args:
        rows: [row, column]; of many rows evenly spaced ones decide on the quantiles.
    """
    if not len(rows):
        return rows
    low, high = np.quantile(rows[:: max(len(rows) // _SAMPLED, 1)], _OUTER, axis=0).astype(np.float32)
    reach = np.where(high > low, _BEYOND * (high - low), np.float32(np.inf))
    is_outlier = (rows < low - reach) | (rows > high + reach)
    middle = (low + high) / 2
    for column in np.flatnonzero(is_outlier.any(axis=0)).tolist():
        distance = np.abs(rows[:, column] - middle[column])
        is_outlier[:, column] &= distance >= _first_apart(distance, is_outlier[:, column])
    return np.where(is_outlier, middle, rows) if is_outlier.any() else rows


def _first_apart(distance: NDArray[np.float32], is_outlier: NDArray[np.bool_]) -> float:
    """Return the distance of the nearest outlier beyond the gap, infinity where none is replaced."""
    outliers = np.sort(distance[is_outlier])
    before = np.concatenate([[distance[~is_outlier].max()], outliers[:-1]])
    is_apart = outliers > _GAP * before
    place = int(is_apart.argmax())
    if not is_apart.any() or place > max(1, _HEAVY * len(distance)):
        return np.inf
    return float(outliers[place])
