"""Isotonic calibration: the never falling curve with the least squared error, by pooling adjacent violators.

Zadrozny and Elkan (2002), "Transforming classifier scores into accurate multiclass probability estimates"; Ayer et al.
(1955), "An empirical distribution function for sampling with incomplete information". Rows with equal logits count as
one point with their share of ups; between points the curve is a straight line, beyond them it stays level.

Rows of one session move together, so S sessions of ups alone are no more than S ups in a row: the curve is kept in
[1 / (S + 2), (S + 1) / (S + 2)], Laplace's rule of succession, and is never 0 or 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

__all__ = ["Isotonic", "fit_isotonic"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Isotonic:
    """Points of a never falling curve.

    Attributes:
        logits: Where they stand, rising.
        shares: The probability at each, never falling, inside (0, 1).
    """

    logits: tuple[float, ...]
    shares: tuple[float, ...]

    def p_up(self, logits: Floats) -> Floats:
        """Return the probability of each of `logits` [row], never falling in it."""
        x, share = np.array(self.logits), np.array(self.shares)
        # Rounding must not carry a line past the point that it leads to.
        ahead = share[np.minimum(np.searchsorted(x, logits, side="right"), len(x) - 1)]
        return np.asarray(np.minimum(np.interp(logits, x, share), ahead))


def fit_isotonic(logits: Floats, y: Floats, sessions: int) -> Isotonic:
    """Return the curve of `logits` [row] against y [row], which stand on so many sessions."""
    x, place, count = np.unique(logits, return_inverse=True, return_counts=True)
    share = isotonic_regression(np.bincount(place, weights=y) / count, weights=count.astype(float)).x
    share = np.clip(share, 1 / (sessions + 2), (sessions + 1) / (sessions + 2))
    # Inside a pool every point says the same: its two ends are enough.
    turns = np.diff(share) != 0
    kept = np.append(turns, True) | np.insert(turns, 0, True)
    return Isotonic(tuple(x[kept].tolist()), tuple(share[kept].tolist()))
