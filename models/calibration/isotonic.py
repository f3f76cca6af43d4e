"""Isotonic calibration: the non-decreasing curve with the least squared error, by pooling adjacent violators.

Zadrozny and Elkan (2002), "Transforming classifier scores into accurate multiclass probability estimates"; Ayer et al.
(1955), "An empirical distribution function for sampling with incomplete information". Rows with equal logits count as
one point with their share of ups; between points the curve is linear, beyond them constant.

Rows of one session are correlated, so S sessions with nothing but ups count as no more than S independent ups: the
curve is clipped to [1 / (S + 2), (S + 1) / (S + 2)], Laplace's rule of succession, and is never 0 or 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

__all__ = ["Isotonic", "fit_isotonic"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Isotonic:
    """Points of a non-decreasing curve.

    Attributes:
        logits: Logit of each point, increasing.
        shares: Probability at each point, non-decreasing, inside (0, 1).
    """

    logits: tuple[float, ...]
    shares: tuple[float, ...]

    def p_up(self, logits: Floats) -> Floats:
        """Return the probabilities of `logits` [row], non-decreasing in the logit."""
        x, share = np.array(self.logits), np.array(self.shares)
        # Rounding must not lift an interpolated value above the next point.
        ahead = share[np.minimum(np.searchsorted(x, logits, side="right"), len(x) - 1)]
        return np.asarray(np.minimum(np.interp(logits, x, share), ahead))


def fit_isotonic(logits: Floats, y: Floats, sessions: int) -> Isotonic:
    """Fit the curve of `logits` [row] against y [row], which come from so many sessions."""
    x, place, count = np.unique(logits, return_inverse=True, return_counts=True)
    share = isotonic_regression(np.bincount(place, weights=y) / count, weights=count.astype(float)).x
    share = np.clip(share, 1 / (sessions + 2), (sessions + 1) / (sessions + 2))
    # All points of a pool have the same share: its two ends are enough.
    turns = np.diff(share) != 0
    kept = np.append(turns, True) | np.insert(turns, 0, True)
    return Isotonic(tuple(x[kept].tolist()), tuple(share[kept].tolist()))
