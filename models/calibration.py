"""Probabilities that mean what they say: temperature scaling towards the base rate.

p_up = sigmoid(b + (z - b) / T) with z the network's logit and b the logit of the training base rate. T is the
temperature of Guo et al. (2017), "On calibration of modern neural networks", measured from the base rate
instead of from one half: T = 1 leaves the network's word as it is, and T = infinity says the base rate and
nothing else, which is the honest answer on noise. 1 / T is the calibration slope of Cox (1958).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

__all__ = ["MAX_SLOPE", "Calibrator", "fit_calibrator", "fit_slope"]

MAX_SLOPE: Final = 2.0
"""Largest 1 / T: logits are sharpened no further: the calibrate range is short and its rows depend."""

_RATES: Final = (1e-3, 1 - 1e-3)


@dataclass(frozen=True)
class Calibrator:
    """One base rate and one slope a horizon.

    Attributes:
        base_rate: Share of ups among the training rows.
        slope: 1 / T, in [0, MAX_SLOPE].
    """

    base_rate: tuple[float, ...]
    slope: tuple[float, ...]

    @property
    def temperature(self) -> tuple[float, ...]:
        """T of each horizon; infinite where the calibrate range gave the logits no credit."""
        return tuple(1 / slope if slope > 0 else float("inf") for slope in self.slope)

    def p_up(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the calibrated probability of each of `logits` [..., horizon], never falling in it."""
        base = _base_logit(np.array(self.base_rate))
        return np.asarray(expit(base + np.array(self.slope) * (logits.astype(np.float64) - base)))


def fit_calibrator(
    logits: NDArray[np.floating], y: NDArray[np.floating], base_rate: NDArray[np.float64]
) -> Calibrator:
    """Return the calibrator with the least log loss on rows that trained nothing.

    Args:
        logits: [row, horizon].
        y: [row, horizon] in {0, 1}; NaN where unknown, which is left out.
        base_rate: [horizon], share of ups among the training rows.
    """
    slopes = [
        fit_slope(z[~np.isnan(label)], label[~np.isnan(label)], rate)
        for z, label, rate in zip(logits.T, y.T, base_rate, strict=True)
    ]
    return Calibrator(tuple(base_rate.tolist()), tuple(slopes))


def fit_slope(logits: NDArray[np.floating], y: NDArray[np.floating], base_rate: float) -> float:
    """Return the slope 1 / T in [0, MAX_SLOPE] that minimises the log loss of `logits` [row] against y [row].

    The log loss is convex in the slope, so its minimum is where its derivative crosses zero, or an end.
    """
    base = _base_logit(np.array(base_rate))
    distance = logits.astype(np.float64) - base

    def derivative(slope: float) -> float:
        return float(np.sum((expit(base + slope * distance) - y) * distance))

    if derivative(0.0) >= 0:
        return 0.0
    if derivative(MAX_SLOPE) <= 0:
        return MAX_SLOPE
    return float(brentq(derivative, 0.0, MAX_SLOPE, xtol=1e-12))


def _base_logit(base_rate: NDArray[np.float64]) -> NDArray[np.float64]:
    # A training range with ups only has no finite logit.
    return np.asarray(logit(np.clip(base_rate, *_RATES)))
