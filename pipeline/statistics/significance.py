"""Tests of forecasts against each other and what they need: Diebold-Mariano, Holm, sample sizes, long-run variance.

Rows of one session move together, so the tests compare whole sessions: a series has one number per session, in order of
time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from pipeline.schema import MIN_SESSIONS

__all__ = [
    "DieboldMariano",
    "adjust_p_values",
    "diebold_mariano",
    "drop_rounding",
    "expected_maximum",
    "forecasts_needed",
    "long_run_variance",
    "newey_west_lag",
]


Floats = NDArray[np.float64]


def drop_rounding(differences: Floats) -> Floats:
    """Return the differences with rounding errors set to zero.

    A network calibrated to the base rate differs from it in the sixteenth digit only; without this a test would take
    such a constant difference for certain.
    """
    return np.where(np.abs(differences) < 1e-9, 0.0, differences)


@dataclass(frozen=True)
class DieboldMariano:
    """The result of the test.

    Attributes:
        difference: Mean of the loss differences.
        statistic: Their mean in standard errors, with the small-sample correction.
        p_value: Two-sided, of equal expected losses.
        lag: Number of autocovariances in the standard error, in sessions.
    """

    difference: float
    statistic: float
    p_value: float
    lag: int


def diebold_mariano(differences: Floats, *, horizon: int = 1, lag: int | None = None) -> DieboldMariano:
    """Test whether two forecasts have equal expected losses.

    Diebold and Mariano (1995), "Comparing predictive accuracy", with Bartlett weights (Newey and West, 1987) and
    the small-sample correction sqrt((n + 1 - 2h + h (h - 1) / n) / n) on n - 1 degrees of freedom of Harvey,
    Leybourne and Newbold (1997), "Testing the equality of prediction mean squared errors".

    Args:
        differences: [session], one forecast's mean loss per session less the other's.
        horizon: h, in sessions; losses of neighbouring sessions overlap in h - 1 of them.
        lag: Number of autocovariances; by default 4 (n / 100)^(2/9), rounded down (Newey and West, 1994), and no
            fewer than h - 1.

    Returns:
        The result; statistic and p_value are NaN with fewer than MIN_SESSIONS * horizon sessions.
    """
    n = len(differences)
    if lag is None:
        lag = newey_west_lag(n, horizon)
    mean = float(differences.mean()) if n else np.nan
    if n < MIN_SESSIONS * horizon:
        return DieboldMariano(mean, np.nan, np.nan, lag)
    if np.ptp(differences) == 0:
        certain = mean != 0
        return DieboldMariano(
            mean, np.copysign(np.inf, mean) if certain else 0.0, 0.0 if certain else 1.0, lag
        )
    correction = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    statistic = float(correction * mean / np.sqrt(long_run_variance(differences, lag) / n))
    return DieboldMariano(mean, statistic, float(2 * stdtr(n - 1, -abs(statistic))), lag)


def forecasts_needed(
    hit_rate: float, against: float = 0.5, *, power: float = 0.8, level: float = 0.05
) -> int:
    """Return how many independent forecasts are needed to distinguish `hit_rate` from `against`, in a one-sided test.

    ((z_level sqrt(q (1 - q)) + z_power sqrt(p (1 - p))) / (p - q))^2 with p the hit rate and q the other, by the
    normal approximation: 52% against 50% needs (62.15)^2, 3,863.
    """
    chance = ndtri(1 - level) * np.sqrt(against * (1 - against))
    skill = ndtri(power) * np.sqrt(hit_rate * (1 - hit_rate))
    return int(np.ceil(((chance + skill) / (hit_rate - against)) ** 2))


def adjust_p_values(p_values: Floats) -> Floats:
    """Return Holm's adjusted p-values [test]; NaN means not tested and stays NaN.

    The j-th smallest of m becomes the largest of (m - i + 1) p_i over i <= j, at most 1: the probability of any false
    rejection stays below the level under any dependence. Holm (1979), "A simple sequentially rejective multiple
    test procedure".
    """
    adjusted, order = np.full(len(p_values), np.nan), np.argsort(p_values)
    tested = order[: np.count_nonzero(~np.isnan(p_values))]
    weight = np.arange(len(tested), 0, -1)
    adjusted[tested] = np.minimum(np.maximum.accumulate(weight * p_values[tested]), 1.0)
    return adjusted


def expected_maximum(n: int) -> float:
    """Return the expected maximum of n independent standard normals: what the best of n equal ones seems to gain.

    The integral of x n phi(x) Phi(x)^(n - 1) (David and Nagaraja 2003, "Order statistics"); 0 for n = 1.
    """
    from scipy.integrate import quad  # here: they take a second, and most commands need none of it
    from scipy.stats import norm

    mean, _ = quad(lambda x: x * n * norm.pdf(x) * norm.cdf(x) ** (n - 1), -10, 10, limit=200)
    return float(mean)


def newey_west_lag(sessions: int, horizon: int = 1) -> int:
    """Return the number of autocovariances of a long-run variance: 4 (n / 100)^(2/9), rounded down, at least h - 1."""
    return max(int(4 * (sessions / 100) ** (2 / 9)), horizon - 1)


def long_run_variance(series: Floats, lag: int) -> float:
    """Return n times the variance of the mean of `series` [session], by Bartlett weights (Newey and West, 1987).

    g_0 + 2 sum over k = 1 .. lag of (1 - k / (lag + 1)) g_k, with g_k the sum of products k sessions apart, over n.
    """
    centred, n = series - series.mean(), len(series)
    covariance = [float(centred[k:] @ centred[: n - k]) / n for k in range(min(lag, n - 1) + 1)]
    return covariance[0] + 2 * sum((1 - k / (lag + 1)) * g for k, g in enumerate(covariance) if k)
