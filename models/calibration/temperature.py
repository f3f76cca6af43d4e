"""Temperature scaling towards the base rate.

p_up = sigmoid(b + (z - b) / T) with z the network's logit and b the logit of the training base rate. T is the
temperature of Guo et al. (2017), "On calibration of modern neural networks", measured from the base rate
instead of from one half: T = 1 leaves the network's probability unchanged, and T = infinity gives the base rate,
which is the right forecast for noise. 1 / T is the calibration slope of Cox (1958).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

__all__ = ["MAX_SLOPE", "Temperature", "base_logit", "fit_slope", "fit_temperature", "inside_unit"]

Floats = NDArray[np.float64]

MAX_SLOPE: Final = 2.0
"""Largest 1 / T, a limit to sharpening: the calibrate range is short and its rows are dependent."""

_RATES: Final = (1e-3, 1 - 1e-3)


@dataclass(frozen=True)
class Temperature:
    """A straight line through the base rate, in logits.

    Attributes:
        base_rate: Share of ups among the training rows.
        slope: 1 / T, in [0, MAX_SLOPE].
    """

    base_rate: float
    slope: float

    @property
    def temperature(self) -> float:
        """T; infinite if the logits did not help on the calibrate range."""
        return 1 / self.slope if self.slope > 0 else float("inf")

    def p_up(self, logits: Floats) -> Floats:
        """Return the probabilities of `logits` [row], non-decreasing in the logit."""
        base = base_logit(self.base_rate)
        return inside_unit(base + self.slope * (logits - base))


def inside_unit(logits: Floats) -> Floats:
    """Return the sigmoid, never exactly 0 or 1: a forecast that is wrong there would cost an infinite log loss."""
    return np.asarray(expit(np.clip(logits, -_MOST, _MOST)))


_MOST: Final = 30.0
"""From 37 on the sigmoid in double precision is 1."""


def fit_temperature(logits: Floats, y: Floats, base_rate: float) -> Temperature:
    """Fit the temperature with the least log loss of `logits` [row] against y [row]."""
    return Temperature(base_rate, fit_slope(logits, y, base_rate))


def fit_slope(logits: NDArray[np.floating], y: NDArray[np.floating], base_rate: float) -> float:
    """Return the slope 1 / T in [0, MAX_SLOPE] that minimises the log loss of `logits` [row] against y [row].

    The log loss is convex in the slope, so its minimum is where its derivative crosses zero, or an end.
    """
    base = base_logit(base_rate)
    distance = logits.astype(np.float64) - base

    def derivative(slope: float) -> float:
        return float(np.sum((expit(base + slope * distance) - y) * distance))

    if derivative(0.0) >= 0:
        return 0.0
    if derivative(MAX_SLOPE) <= 0:
        return MAX_SLOPE
    return float(brentq(derivative, 0.0, MAX_SLOPE, xtol=1e-12))


def base_logit(base_rate: float) -> float:
    """Return the logit of a base rate; finite, although a training range with ups only has none."""
    return float(logit(np.clip(base_rate, *_RATES)))
