"""Platt's scaling: a logistic regression of the outcome on the logit, with its own intercept.

p_up = sigmoid(a z + c), fitted to targets a little inside (0, 1): (N+ + 1) / (N+ + 2) for an up and 1 / (N- + 2) for a
down, with N+ ups and N- downs. Platt (1999), "Probabilistic outputs for support vector machines and comparisons to
regularized likelihood methods", section 2.2. Unlike there, a is in [0, MAX_SLOPE], like the temperature's slope.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from models.calibration.temperature import MAX_SLOPE, inside_unit

__all__ = ["Platt", "fit_platt", "smooth_targets"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Platt:
    """A straight line in logits.

    Attributes:
        slope: a, in [0, MAX_SLOPE].
        intercept: c.
    """

    slope: float
    intercept: float

    def p_up(self, logits: Floats) -> Floats:
        """Return the probabilities of `logits` [row], non-decreasing in the logit."""
        return inside_unit(self.intercept + self.slope * logits)


def fit_platt(logits: Floats, y: Floats) -> Platt:
    """Fit the line with the least log loss of `logits` [row] against the smoothed targets of y [row]."""
    targets = smooth_targets(y)
    centre, scale = float(logits.mean()), float(logits.std()) or 1.0
    standard = (logits - centre) / scale

    def loss(line: Floats) -> tuple[float, Floats]:
        z = line[0] * standard + line[1]
        miss = expit(z) - targets
        return float(np.mean(np.logaddexp(0, z) - targets * z)), np.array(
            [np.mean(miss * standard), np.mean(miss)]
        )

    share = targets.mean()
    found = minimize(
        loss,
        x0=[0.0, np.log(share / (1 - share))],
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, MAX_SLOPE * scale), (None, None)],
        options={"ftol": 1e-16, "gtol": 1e-11},
    )
    slope = min(float(found.x[0]) / scale, MAX_SLOPE)
    return Platt(slope, float(found.x[1]) - slope * centre)


def smooth_targets(y: Floats) -> Floats:
    """Return Platt's targets for the outcomes y [row], inside (0, 1): an up is no proof of probability 1."""
    ups = float(y.sum())
    return np.where(y > 0.5, (ups + 1) / (ups + 2), 1 / (len(y) - ups + 2))
