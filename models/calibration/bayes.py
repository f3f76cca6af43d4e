"""Temperature scaling with a prior on the slope: how far to trust a network, when a year of sessions cannot tell.

The curve is that of `temperature`: p_up = sigmoid(b + a (z - b)), with b the logit of the base rate. The slope a that
minimises the log loss of one year of sessions is known to about -+ 0.4 to 1.0 where the skill is small, so it is mostly
its own error. Here it is estimated as the mode of its posterior distribution, which weighs the rows against what is
known of such networks in advance: a ~ N(prior mean, prior deviation^2).

Derivation. Let l(a) be the sum over the rows of the log likelihood of a, and s_t(a) the sum of its derivatives over the
rows of session t. Rows of one session are dependent, so l is too steep: it counts each row as new evidence. With the
information I = -l''(a^) at the maximum a^, and J the variance of the sum of the s_t(a^), whole sessions taken as the
independent units (Newey and West 1987 for labels that overlap over `gap` sessions), the variance of a^ is J / I^2
instead of 1 / I. The adjusted log likelihood

    k l(a),   k = I / J

has the same maximum, and there the curvature that goes with the right variance: Chandler and Bate (2007), "Inference
for clustered data using the independence loglikelihood", Biometrika 94. The estimate is the a in [0, MAX_SLOPE] that
minimises

    -k l(a) + (a - prior mean)^2 / (2 prior deviation^2).

A strong signal has a large k l, and the prior then moves the slope by little; logits that all equal that of the base
rate leave the prior mean, which changes nothing about their probabilities.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from models.calibration.temperature import MAX_SLOPE, Temperature, base_logit

__all__ = ["PRIOR_DEVIATION", "PRIOR_MEAN", "Slope", "fit_bayes"]

Floats = NDArray[np.float64]

PRIOR_MEAN: Final = 0.5
PRIOR_DEVIATION: Final = 0.35
"""Of the slopes that networks of this kind turned out to need on real prices, docs/training.md."""

_WIDEST: Final = 10.0
"""The maximum of the likelihood is sought in [-_WIDEST, _WIDEST]."""


@dataclass(frozen=True)
class Slope(Temperature):
    """A straight line through the base rate whose slope was fitted with a prior."""


@dataclass(frozen=True)
class _Rows:
    """The rows of a fit: their distance from the base logit, outcomes, and the number of their session from 0."""

    base: float
    distance: Floats
    y: Floats
    session: NDArray[np.intp]

    def derivative(self, slope: float) -> float:
        """Return l'(slope)."""
        return float(np.sum(self._steps(slope)))

    def information(self, slope: float) -> float:
        """Return -l''(slope)."""
        p = expit(self.base + slope * self.distance)
        return float(np.sum(p * (1 - p) * self.distance**2))

    def variance(self, slope: float, gap: int) -> float:
        """Return the variance of l'(slope), by whole sessions that overlap over `gap`."""
        by_session = np.bincount(self.session, weights=self._steps(slope))
        by_session -= by_session.mean()
        count = len(by_session)
        total = float(by_session @ by_session)
        for lag in range(1, min(gap, count)):
            total += 2 * (1 - lag / gap) * float(by_session[lag:] @ by_session[:-lag])
        return total * count / max(count - 1, 1)

    def _steps(self, slope: float) -> Floats:
        return np.asarray((self.y - expit(self.base + slope * self.distance)) * self.distance)


def fit_bayes(
    logits: Floats,
    y: Floats,
    base_rate: float,
    session: NDArray[np.integer],
    *,
    gap: int = 1,
    prior: tuple[float, float] = (PRIOR_MEAN, PRIOR_DEVIATION),
) -> Slope:
    """Fit the slope of `logits` [row] against y [row] with a prior.

    Args:
        logits: [row].
        y: [row] in {0, 1}.
        base_rate: Share of ups among the training rows.
        session: [row], number of the session.
        gap: Longest horizon of the labels, in sessions.
        prior: Mean and standard deviation of the slope before any row is seen.
    """
    base, (mean, deviation) = base_logit(base_rate), prior
    _, place = np.unique(session, return_inverse=True)
    rows = _Rows(base, logits.astype(np.float64) - base, y.astype(np.float64), place)
    weight = _weigh(rows, gap)

    def derivative(slope: float) -> float:
        return (slope - mean) / deviation**2 - weight * rows.derivative(slope)

    if derivative(0.0) >= 0:
        return Slope(base_rate, 0.0)
    if derivative(MAX_SLOPE) <= 0:
        return Slope(base_rate, MAX_SLOPE)
    return Slope(base_rate, float(brentq(derivative, 0.0, MAX_SLOPE, xtol=1e-12)))


def _weigh(rows: _Rows, gap: int) -> float:
    """Return k = I / J at the maximum of the likelihood; 0 where the rows tell nothing."""
    top = _WIDEST
    if rows.derivative(-top) <= 0:
        best = -top
    elif rows.derivative(top) >= 0:
        best = top
    else:
        best = float(brentq(rows.derivative, -top, top, xtol=1e-9))
    variance = rows.variance(best, gap)
    return rows.information(best) / variance if variance > 0 else 0.0
