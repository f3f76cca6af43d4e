"""Probabilistic and deflated Sharpe ratios: corrected for few sessions, fat tails and many trials.

Ratios are per session, not annualized: mean return over its standard deviation, with a risk-free rate of zero (Sharpe
1994, "The Sharpe ratio").
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pipeline.schema import MIN_SESSIONS

__all__ = [
    "LEAST_RATIOS",
    "DeflatedSharpe",
    "deflate",
    "deflate_by_trials",
    "expected_maximum_sharpe",
    "probabilistic_sharpe",
    "sharpe_of",
    "sharpe_ratio",
]

Floats = NDArray[np.float64]

LEAST_RATIOS: Final = 5
"""The smallest number of ratios whose variance is estimated. With five normal ones its standard error is
sqrt(2 / 4) = 71% of it, so about 35% of the luck, which is proportional to its root; with two it would be 141%."""


@dataclass(frozen=True)
class DeflatedSharpe:
    """The deflated Sharpe ratio and what it is computed from.

    Attributes:
        probability: That the true ratio lies above `luck`: the deflated Sharpe ratio, in [0, 1].
        above_zero: That it lies above zero, as for a single trial: the probabilistic Sharpe ratio.
        sharpe: The observed ratio per session.
        luck: The expected maximum over `trials` trials without skill, per session.
        trials: How many settings were tried.
        variance: Of the trials' ratios per session.
        ratios: The number of trials that the variance was estimated from; 0: the variance of trials without skill is
            assumed.
        skewness, kurtosis: Of the returns; a normal distribution has 0 and 3.
        sessions: How many returns there are.
    """

    probability: float
    above_zero: float
    sharpe: float
    luck: float
    trials: int
    variance: float
    ratios: int
    skewness: float
    kurtosis: float
    sessions: int


def sharpe_ratio(returns: Floats) -> float:
    """Return the mean of returns [session] over their standard deviation (n - 1); NaN where they are all equal."""
    if len(returns) < 2 or np.ptp(returns) == 0:
        return np.nan
    return float(sharpe_of(returns.sum(), (returns**2).sum(), len(returns)))


def sharpe_of(total: Floats | float, squares: Floats | float, n: int) -> Floats:
    """Return the Sharpe ratio [...] of n returns with the sum `total` and the sum of squares `squares`."""
    mean = np.asarray(total, float) / n
    variance = np.asarray(squares / n - mean**2) * n / (n - 1)
    is_constant = variance <= 1e-12 * np.asarray(squares) / n  # a variance of zero, up to rounding
    deviation = np.sqrt(np.where(is_constant, 1.0, variance))
    return np.where(is_constant, np.nan, mean / deviation)


def probabilistic_sharpe(
    sharpe: float, *, sessions: int, skewness: float, kurtosis: float, benchmark: float = 0.0
) -> float:
    """Return the probability that the true Sharpe ratio lies above `benchmark`.

    Phi((SR - SR*) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2)), with g3 the skewness and g4 the kurtosis
    (3 for a normal distribution). Bailey and López de Prado (2012), "The Sharpe ratio efficient frontier".
    """
    spread = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    return float(ndtr((sharpe - benchmark) * np.sqrt((sessions - 1) / max(spread, 1e-12))))


def expected_maximum_sharpe(trials: int, variance: float) -> float:
    """Return the Sharpe ratio that the best of `trials` independent ones without skill is expected to show.

    sqrt(V) ((1 - g) Z(1 - 1 / N) + g Z(1 - 1 / (N e))), with g the constant of Euler and Mascheroni and Z the
    quantile of the standard normal; 0 for a single one. Bailey and López de Prado (2014), "The deflated Sharpe ratio:
    correcting for selection bias, backtest overfitting and non-normality". Correlated trials count as fewer
    independent ones, so for them this is an upper bound.
    """
    if trials <= 1:
        return 0.0
    below, beyond = ndtri(1 - 1 / trials), ndtri(1 - 1 / (trials * np.e))
    return float(np.sqrt(variance) * ((1 - np.euler_gamma) * below + np.euler_gamma * beyond))


def deflate(returns: Floats, *, trials: int, ratios: Sequence[float] = ()) -> DeflatedSharpe | None:
    """Return the deflated Sharpe ratio of the best of `trials`; None where it is not defined or n is too small.

    Args:
        returns: [session], of the selected setting.
        trials: How many different settings were tried, the rejected ones included.
        ratios: See `deflate_by_trials`.
    """
    from scipy.stats import kurtosis, skew  # here: it takes a second, and most commands need none of it

    sharpe, n = sharpe_ratio(returns), len(returns)
    if np.isnan(sharpe) or n < MIN_SESSIONS:
        return None
    g3, g4 = float(skew(returns)), float(kurtosis(returns, fisher=False))
    above_zero = probabilistic_sharpe(sharpe, sessions=n, skewness=g3, kurtosis=g4)
    alone = DeflatedSharpe(above_zero, above_zero, sharpe, 0.0, 1, 1 / (n - 1), 0, g3, g4, sessions=n)
    return deflate_by_trials(alone, trials=trials, ratios=ratios)


def deflate_by_trials(found: DeflatedSharpe, *, trials: int, ratios: Sequence[float] = ()) -> DeflatedSharpe:
    """Return the Sharpe ratio deflated by the expected maximum of `trials` trials without skill.

    The deflated Sharpe ratio of Bailey and López de Prado (2014): the probabilistic one with that maximum as benchmark.

    Args:
        found: The ratio of a single trial.
        trials: How many different settings were tried.
        ratios: The trials' Sharpe ratios per session, where defined. With fewer than LEAST_RATIOS their variance is
            assumed to be 1 / (n - 1), that of ratios estimated from n returns whose true ratio is zero; it is also the
            lower bound of the estimate: settings that hardly differ do not make luck smaller.
    """
    assumed = 1 / (found.sessions - 1)
    variance = max(float(np.var(ratios, ddof=1)), assumed) if len(ratios) >= LEAST_RATIOS else assumed
    is_measured = variance > assumed
    luck = expected_maximum_sharpe(trials, variance)
    return replace(
        found,
        probability=probabilistic_sharpe(
            found.sharpe,
            sessions=found.sessions,
            skewness=found.skewness,
            kurtosis=found.kurtosis,
            benchmark=luck,
        ),
        luck=luck,
        trials=trials,
        variance=variance,
        ratios=len(ratios) if is_measured else 0,
    )
