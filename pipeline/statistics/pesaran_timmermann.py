"""Pesaran and Timmermann's test of directional accuracy: are forecast directions and outcomes dependent?

A hit rate of 54% is no skill where always forecasting "up" has it too: the test removes what the shares of ups among
forecasts and outcomes explain.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from pipeline.schema import MIN_SESSIONS
from pipeline.statistics.metrics import mean_of
from pipeline.statistics.significance import diebold_mariano

__all__ = ["PesaranTimmermann", "pesaran_timmermann"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PesaranTimmermann:
    """The result of the test; p-values are one-sided, of "no more hits than under independence".

    Attributes:
        hit_rate: Share of hits among rows with a direction.
        by_chance: The hit rate of independent directions and outcomes with the same shares of ups.
        statistic: In standard errors that are robust to dependence within and between sessions.
        p_value: Of `statistic`.
        independent_statistic: As if all rows were independent.
        independent_p_value: Of `independent_statistic`; far too small where rows of a session move together.
        n: Rows with a direction.
        sessions: Sessions that they come from.
    """

    hit_rate: float
    by_chance: float
    statistic: float
    p_value: float
    independent_statistic: float
    independent_p_value: float
    n: int
    sessions: int


def pesaran_timmermann(
    p: Floats, y: Floats, session: NDArray[np.intp], *, horizon: int = 1
) -> PesaranTimmermann:
    """Test whether the forecasts predict directions at all.

    With z = 1 where p > 0.5, P the hit rate and P* = y' z' + (1 - y')(1 - z') (means primed):
    (P - P*) / sqrt(4 y' (1 - y') z' (1 - z') (1 / n - 1 / n^2)), which is the difference of variances of Pesaran and
    Timmermann (1992), "A simple nonparametric test of predictive performance", written out.

    P - P* is twice the covariance of y and z, so the robust statistic is that of the sums over each session of
    (y - y') (z - z') with the variance of Newey and West (1987): the regression of y on z of Pesaran and Timmermann
    (2009), "Testing dependence among serially correlated multicategory variables", with the errors of Driscoll and
    Kraay (1998) for panels whose rows of one time depend.

    Args:
        p, y: Forecasts and outcomes, [row]; p = 0.5 has no direction and is left out.
        session: [row], numbers that rise with time.
        horizon: Sessions ahead; outcomes of neighbours overlap.

    Returns:
        The result; statistics are NaN where only one direction was forecast or occurred, the robust one also with fewer
        than MIN_SESSIONS * horizon sessions.
    """
    issued = p != 0.5
    z, up, names = (p[issued] > 0.5).astype(float), y[issued], session[issued]
    n, place = len(z), np.unique(names, return_inverse=True)[1]
    if not n:
        return PesaranTimmermann(np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, 0, 0)
    forecast, rose = float(z.mean()), float(up.mean())
    by_session = np.bincount(place, (up - rose) * (z - forecast)).astype(float)
    spread = 4 * rose * (1 - rose) * forecast * (1 - forecast) * (1 / n - 1 / n**2)
    excess = 2 * float(by_session.sum()) / n
    alone = float(mean_of(excess, np.sqrt(spread)))
    robust = diebold_mariano(by_session, horizon=horizon).statistic if spread else np.nan
    by_chance = rose * forecast + (1 - rose) * (1 - forecast)
    return PesaranTimmermann(
        float(np.mean(z == up)),
        by_chance,
        robust,
        float(stdtr(len(by_session) - 1, -robust)) if len(by_session) >= MIN_SESSIONS * horizon else np.nan,
        alone,
        float(ndtr(-alone)),
        n,
        len(by_session),
    )
