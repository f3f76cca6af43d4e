"""The input scale: centre and spread of each feature on the training sessions, and a bound on the tails."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMIT", "Scaling", "fit_scaling"]

# Daily returns have fat tails: unbounded, one crash at 20 standard deviations outweighs a year of ordinary
# days in the gradient of the input weights, and one bad bar in a forecast drives a cell into saturation.
LIMIT: Final = 5.0
"""Scaled inputs are cut off at plus and minus this many standard deviations."""


@dataclass(frozen=True)
class Scaling:
    """Mean and variance of each feature, [feature] as float32."""

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return x [..., feature] in standard deviations from the mean, cut off at LIMIT, as float32."""
        return np.clip((x - self.mean) / np.sqrt(self.variance), -LIMIT, LIMIT)


def fit_scaling(x: NDArray[np.float32], mask: NDArray[np.bool_], sessions: range) -> Scaling:
    """Return the scale of x [symbol, session, feature] on the valid rows of `sessions` alone."""
    inside = slice(sessions.start, sessions.stop)
    rows = x[:, inside][mask[:, inside]]
    variance = rows.var(axis=0, dtype=np.float64)
    # A feature that is constant in training has no scale: it is centred, and cut off like the others.
    variance[variance < np.finfo(np.float32).tiny] = 1.0
    return Scaling(rows.mean(axis=0, dtype=np.float64).astype(np.float32), variance.astype(np.float32))
