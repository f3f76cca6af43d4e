"""How a forecast ranks the stocks of a session against what they return: rank IC, and top less bottom group.

Each statistic has one number per session. A session counts with MIN_MEMBERS rows or more, all with a known return: of
four stocks a rank correlation is made of few values, and there is no fifth of them. Where all forecasts of a session
are equal nothing is ranked, and both are 0, what ties broken at random have in the mean.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.metrics import mean_of

__all__ = [
    "MIN_MEMBERS",
    "Ranked",
    "SessionRanking",
    "effective_n_of_means",
    "information_ratio",
    "information_ratio_of",
    "rank_returns",
    "rank_sessions",
    "ranks_within_sessions",
]

MIN_MEMBERS: Final = 5
"""Rows that a session needs to count."""

_GROUPS: Final = 5
"""Groups that a session is divided into: fifths, so that a small universe has a top and a bottom too."""

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Ranked:
    """The ranks of values inside their sessions.

    Attributes:
        rank: From 1 by rising value, [row]; equal values share the mean of their ranks.
        tied: Rows of the session with the same value, the row included, [row].
    """

    rank: Floats
    tied: Floats


@dataclass(frozen=True, eq=False)
class SessionRanking:
    """What the ranking of each session was worth, [session]; NaN for sessions that do not count.

    Attributes:
        ic: The information coefficient: Spearman's correlation of forecasts and returns.
        ic_variance: Its variance if the session's returns were dealt to its stocks at random.
        spread: Mean return of the top group less that of the bottom group.
        spread_variance: The same of the spread.
    """

    ic: Floats
    ic_variance: Floats
    spread: Floats
    spread_variance: Floats


def ranks_within_sessions(level: Places, session: Places) -> Ranked:
    """Rank values inside their sessions.

    Args:
        level: Numbers that rise with the values (of `auc.rank_levels`), [row].
        session: [row], numbers from 0 without gaps.
    """
    rows = np.bincount(session)
    before = np.cumsum(rows) - rows
    key = session * (level.max(initial=0) + 1) + level
    _, place, tied = np.unique(key, return_inverse=True, return_counts=True)
    return Ranked((np.cumsum(tied) - (tied - 1) / 2)[place] - before[session], tied[place].astype(float))


def rank_returns(returns: Floats, session: Places) -> Floats:
    """Return the rank of each return inside its session [row]; NaN where it is unknown."""
    level = np.unique(returns, return_inverse=True)[1]
    return np.where(np.isnan(returns), np.nan, ranks_within_sessions(level, session).rank)


def rank_sessions(
    forecasts: Ranked, returns: Floats, return_ranks: Floats, session: Places
) -> SessionRanking:
    """Compare the ranks of forecasts with returns, session by session.

    The information coefficient is Spearman's (1904) correlation: Pearson's of the midranks,
    sum (a - m)(b - m) / sqrt(sum (a - m)^2 sum (b - m)^2) with m = (n + 1) / 2. Grinold and Kahn (2000), "Active
    portfolio management", chapter 6. Its variance without skill is 1 / (n - 1), with ties too (Pitman 1937).

    The groups are the n / 5 rows (rounded down) with the highest and the lowest forecast, equally weighted; rows tied
    across a border share the places left, as ties broken at random do in the mean. The spread w'r has the variance
    sum(w^2) v without skill, v the variance (n - 1) of the session's returns: sum(w) is 0.

    Args:
        forecasts: Of `ranks_within_sessions`.
        returns: Simple returns over the horizon, before costs, [row]; NaN where unknown.
        return_ranks: Of `rank_returns`, [row].
        session: [row], numbers from 0 without gaps.
    """

    def add(values: Floats) -> Floats:
        sums: Floats = np.bincount(session, values, len(n)).astype(float)
        return sums

    n = np.bincount(session).astype(float)
    middle = ((n + 1) / 2)[session]
    own, other = forecasts.rank - middle, return_ranks - middle
    shown, moved = add(own**2), add(other**2)
    counts = (n >= MIN_MEMBERS) & (moved > 0)
    ic = np.where(shown > 0, mean_of(add(own * other), np.sqrt(shown) * np.sqrt(moved)), 0.0)
    weights = _weigh_groups(forecasts, n, session)
    spread, centred = add(weights * returns), returns - mean_of(add(returns), n)[session]
    return SessionRanking(
        ic=np.where(counts, ic, np.nan),
        ic_variance=np.where(counts, mean_of(np.ones_like(n), n - 1), np.nan),
        spread=np.where(counts, spread, np.nan),
        spread_variance=np.where(counts, add(weights**2) * mean_of(add(centred**2), n - 1), np.nan),
    )


def _weigh_groups(forecasts: Ranked, n: Floats, session: Places) -> Floats:
    """Return the weights [row]: 1 / k for each of the k rows of the top group, -1 / k of the bottom group."""
    size = np.maximum(np.floor(n / _GROUPS), 1.0)[session]
    below = forecasts.rank - (forecasts.tied + 1) / 2
    above = n[session] - forecasts.tied - below
    in_top, in_bottom = (np.clip((size - others) / forecasts.tied, 0, 1) for others in (above, below))
    return np.asarray((in_top - in_bottom) / size)


def information_ratio(series: Floats) -> float:
    """Return the mean of `series` [session] over its standard deviation (n - 1), per session, not annualized.

    Of information coefficients it is the ICIR: Grinold and Kahn (2000), "Active portfolio management", chapter 5. NaN
    for fewer than two sessions or where all are equal.
    """
    return float(information_ratio_of(series.sum(), (series**2).sum(), len(series)))


def information_ratio_of(total: Floats | float, squares: Floats | float, n: Floats | float) -> Floats:
    """Return the information ratio [...] of n numbers with the sum `total` and the sum of squares `squares`."""
    mean, square = mean_of(total, n), mean_of(squares, n)
    variance = mean_of(np.asarray(n) * (square - mean**2), np.asarray(n, float) - 1)
    is_defined = variance > 1e-12 * np.maximum(square, 1e-300)  # below that it is rounding
    return np.where(is_defined, mean / np.sqrt(np.where(is_defined, variance, 1.0)), np.nan)


def effective_n_of_means(series: Floats, chance: Floats, rows: Floats) -> float:
    """Return the number of independent rows that would estimate the mean of `series` as precisely as these rows.

    sum(rows) sum(chance) / sum((series - mean)^2), clipped to [sessions, rows]: the variance of the sum of independent
    sessions whose rows are dealt at random, over the observed one (Kish 1965, "Survey sampling").

    Args:
        series: A number per session.
        chance: Its variance without skill.
        rows: Rows of each session.
    """
    if not len(series):
        return np.nan
    shown = float(np.sum((series - series.mean()) ** 2))
    n = float(rows.sum())
    return min(max(n * float(chance.sum()) / shown, 1.0), n) if shown > 1e-18 else float(len(series))
