"""The stationary bootstrap of whole sessions, its percentile interval and its p-value.

Every interval of the project that resamples sessions gets its draws from `resample_sessions`, so that the rule of
MIN_SESSIONS stands in one place: with too few sessions there is no draw, and the interval is NaN.

Every evening resamples its record, and importing `arch` takes seconds: block length and draws are computed here, and a
test compares both with those of `arch`, digit by digit.
"""

import math

import numpy as np

from pipeline.schema import MIN_SESSIONS
from pipeline.statistics.significance import Floats

__all__ = [
    "bootstrap_p_value",
    "choose_block_length",
    "percentile_interval",
    "resample_sessions",
]


def choose_block_length(series: Floats) -> float:
    """Return the optimal mean block length for `series` [session], in sessions and at least 1.

    Politis and White (2004), "Automatic block-length selection for the dependent bootstrap", with the
    correction of Patton, Politis and White (2009). A constant or very short series gives 1.
    """
    n = len(series)
    if n < MIN_SESSIONS or np.ptp(series) == 0:
        return 1.0
    covariance, lag = _autocovariances(series - series.mean())
    k = np.arange(1, lag + 1)
    # The flat-top window of Politis and Romano (1995): 1 up to half of the last lag, then falling to 0.
    weighted = np.minimum(1, 2 * (1 - k / lag)) * covariance[1 : lag + 1]
    with np.errstate(all="ignore"):
        ratio = 2 * (k * weighted).sum() / (covariance[0] + 2 * weighted.sum())
    length = float(np.cbrt(n * ratio**2))
    return 1.0 if math.isnan(length) else max(min(length, math.ceil(min(3 * math.sqrt(n), n / 3))), 1.0)


def _autocovariances(centred: Floats) -> tuple[Floats, int]:
    """Return the autocovariances of `centred` [session] by lag, and the last lag that counts.

    That is twice the first lag at which max(5, log10(n)) insignificant correlations in a row begin: each below
    2 sqrt(log10(n) / n).
    """
    n = len(centred)
    few = max(5, int(math.log10(n)))
    last = math.ceil(math.sqrt(n)) + few
    products = np.array([centred[k:] @ centred[: n - k] for k in range(last + 1)])
    squares = np.concatenate([[0.0], np.cumsum(centred**2)])
    k = np.arange(last)
    with np.errstate(all="ignore"):
        correlation = np.abs(products[:last]) / np.sqrt((squares[n] - squares[k + 1]) * squares[n - k - 1])
    is_small = correlation < 2 * math.sqrt(math.log10(n) / n)
    starts = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(is_small, few).all(axis=1))
    return products / n, min(2 * max(int(starts[0]), 1), last) if len(starts) else last


def _draw_sessions(sessions: int, *, block_length: float, draws: int, seed: int) -> Floats:
    """Draw sessions with replacement in blocks of random length; all rows of a drawn session come along.

    The stationary bootstrap of Politis and Romano (1994): blocks start anywhere, wrap around at the end, and
    their lengths are geometric with mean `block_length`.

    Returns:
        [draw, session], how often each draw has each session; every row sums to `sessions`.
    """
    random, place = np.random.default_rng(seed), np.arange(sessions)
    drawn = np.empty((draws, sessions))
    for copy in drawn:
        first = random.integers(sessions, size=sessions)
        is_start = random.random(sessions) <= 1 / block_length
        is_start[0] = True
        begun = np.maximum.accumulate(np.where(is_start, place, 0))
        copy[:] = np.bincount((first[begun] + place - begun) % sessions, minlength=sessions)
    return drawn


def resample_sessions(series: Floats, *, horizon: int = 1, draws: int, seed: int) -> Floats:
    """Resample whole sessions in blocks whose length suits the dependence in `series` and the overlap of outcomes.

    Args:
        series: [session], the statistic of each session, in order of time; `choose_block_length` reads it.
        horizon: Sessions ahead; the mean block length is at least as long, as outcomes of neighbours overlap.
        draws: Samples of the stationary bootstrap.
        seed: Of the bootstrap.

    Returns:
        [draw, session], how often each draw has each session; every row sums to the number of sessions. No draw with
        fewer than MIN_SESSIONS * horizon sessions: `percentile_interval` and `bootstrap_p_value` are then NaN.
    """
    if len(series) < MIN_SESSIONS * horizon:
        return np.empty((0, len(series)))
    block_length = max(choose_block_length(series), float(horizon))
    return _draw_sessions(len(series), block_length=block_length, draws=draws, seed=seed)


def percentile_interval(values: Floats) -> tuple[float, float]:
    """Return the 2.5th and the 97.5th percentile of `values` [draw], NaN without a finite draw.

    Efron and Tibshirani (1993), "An introduction to the bootstrap", chapter 13.
    """
    defined = values[np.isfinite(values)]
    if len(defined) == 0:
        return np.nan, np.nan
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_p_value(differences: Floats) -> float:
    """Return the two-sided p-value of "no difference" from drawn paired differences [draw].

    2 (1 + the smaller of #(d <= 0) and #(d >= 0)) / (draws + 1), at most 1: the level at which the percentile
    interval begins to include zero. Davison and Hinkley (1997), "Bootstrap methods and their application".
    """
    defined = differences[np.isfinite(differences)]
    if len(defined) == 0:
        return np.nan
    rarer = min(int(np.sum(defined <= 0)), int(np.sum(defined >= 0)))
    return min(1.0, 2 * (1 + rarer) / (len(defined) + 1))
